"""The page of one job, of whichever kind, and of one version with its record and what is thought of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from farm import reviews
from farm.api.common import Number, identity, services
from farm.api.jobs import preview_folder
from farm.api.page_route import page, page_router
from farm.cards import card_of_job, list_cards
from farm.dispatcher import Dispatcher
from farm.outcome import outcome
from farm.queries import replays_of
from farm.records import JobDetail, VersionView
from farm.reservations import version_value
from farm.states import FINISHED_JOBS, VersionState
from farm.tokens import Identity, Scope
from farm.turn import Turn
from farm.web import cards as models
from farm.web import record, trainings, views
from pipeline.errors import NotFoundError, PipelineError
from pipeline.jobs.recall import recalled
from pipeline.jobs.spec import JobSpec
from pipeline.jobs.training import TrainingSpec
from pipeline.publish.values import proxy_path, sidecar_path

router = page_router()
MOST_PREVIEWS = 400
_PROXY_KINDS = ("beauty", "matte", "overlay")
_MOST_SIDECAR = 8 << 20
"""A record that is longer isn't one of ours."""


@router.get("/jobs/{job}")
async def job(job: Number, request: Request, take: int = 0, part: bool = False) -> HTMLResponse:
    """One job; `part` gives only what changes."""
    who = identity(request, Scope.REVIEW)
    dispatcher = services(request).dispatcher

    def read() -> tuple[bool, dict[str, Any]]:
        detail = dispatcher.job(who.studio, job)
        if take not in {t.take for t in detail.takes}:
            raise NotFoundError(f"job {job} has no take {take}")
        spec = dispatcher.any_spec(who.studio, job)
        shown = _of_any_job(dispatcher, who, detail, take, spec.policy)
        if isinstance(spec, TrainingSpec):
            return True, {**shown, **_of_a_training(dispatcher, who, detail, spec)}
        return False, {**shown, **_of_a_plate(dispatcher, who, detail, take, spec)}

    training, shown = await asyncio.to_thread(read)
    name = "training" if training else "job"
    return page(request, f"_{name}_live.html" if part else f"{name}.html", **shown)


def _of_any_job(
    dispatcher: Dispatcher, who: Identity, detail: JobDetail, take: int, policy: dict[str, Any]
) -> dict[str, Any]:
    now = time.time()
    attempts = views.attempt_lines(detail, now=now)
    came = outcome(detail)
    said = came["estimate"] or {}
    return {
        "detail": detail,
        "line": views.job_line(detail.job, now=now),
        "badge": trainings.KIND_WORDS[detail.job.kind],
        "take": detail.takes[take],
        "steps": views.step_lines(detail, take),
        "why": dispatcher.why_waiting(who.studio, detail.job.id),
        "over": detail.job.state in FINISHED_JOBS,
        "attempts": attempts,
        "shown": views.shown_attempt(attempts),
        "abouts": {},
        "costs": record.cost_facts(detail.cost, detail.estimate, said.get("error")),
        "policy": record.policy_view(policy),
        "reserved": next((v for v in detail.job.versions if v.take == take), None),
        "sheet": any(v.state is VersionState.PUBLISHED for v in detail.job.versions),
        "now": now,
    }


def _of_a_plate(dispatcher: Dispatcher, who: Identity, detail: JobDetail, take: int, spec: JobSpec) -> dict[str, Any]:
    job = detail.job
    version = views.published(job, take)
    previews = () if version is not None else _previews(preview_folder(spec.publish_root, who.studio, job.id, take))
    published = [v for v in job.versions if v.state is VersionState.PUBLISHED]
    tastes = dispatcher.read(
        lambda turn: reviews.of_versions(turn.tx, who.studio, [v.id for v in published], user=who.name)
    )
    by_take = {v.take: v for v in published}
    return {
        "strip": views.strip(detail, take),
        "plate": views.plate_facts(spec),
        "parameters": views.parameter_facts(job.task, detail.takes[take]),
        "warnings": spec.warnings,
        "previews": previews,
        "version": version,
        "card": spec.takes[take].model.card if take < len(spec.takes) else "",
        "viewer": None if version is None else views.viewer(version, spec, _kinds(Path(version.folder))),
        "candidates": [
            {"take": t, "version": by_take[t.take], "taste": tastes[by_take[t.take].id]}
            for t in detail.takes
            if t.take in by_take
        ],
        "replays": spec.replays,
        "replay": trainings.replay_result(outcome(detail)["replay"]),
    }


def _of_a_training(dispatcher: Dispatcher, who: Identity, detail: JobDetail, spec: TrainingSpec) -> dict[str, Any]:
    card = dispatcher.read(lambda turn: card_of_job(turn.tx, who.studio, detail.job.id))
    pieces = trainings.pieces(detail, spec)
    return {
        "abouts": {piece.chunk: piece.about for piece in pieces},
        "strip": {"runs": [], "chunks": [], "confidence": {}},
        "spec": spec,
        "card": card,
        "judged": spec.candidate,
        "pieces": pieces,
        "table": trainings.scores_so_far(detail, spec),
        "result": outcome(detail, made="" if card is None else card.label)["model"],
        "facts": trainings.training_facts(spec),
        "parameters": trainings.training_parameters(spec),
    }


@router.get("/versions/{version}")
async def version(version: Number, request: Request, part: bool = False) -> HTMLResponse:
    """One published version; `part` gives only what is thought of it."""
    who = identity(request, Scope.REVIEW)
    dispatcher = services(request).dispatcher

    def read() -> dict[str, Any]:
        found = dispatcher.version(who.studio, version)
        spec = dispatcher.spec(who.studio, found.job_id)
        shown = dispatcher.read(lambda turn: _said_of(turn, who, found))
        return {**shown, **({} if part else _record_of(found, spec)), "version": found}

    shown = await asyncio.to_thread(read)
    return page(request, "_version_live.html" if part else "version.html", **shown)


def _said_of(turn: Turn, who: Identity, version: VersionView) -> dict[str, Any]:
    """What people said of it, what was learned from it, and whether it is still made the same."""
    may = who.allows(Scope.WRANGLE)
    if not may:
        try:
            may = who.name in reviews.by_rules(turn.settings.rules, who.studio)(version)
        except PipelineError:
            may = False  # a broken rule file names nobody; what it says of it stands where jobs are refused
    learned = [card for card in list_cards(turn.tx, who.studio) if _names(models.lessons(card, "versions"), version.id)]
    return {
        "taste": reviews.of_versions(turn.tx, who.studio, [version.id], user=who.name)[version.id],
        "said": [r for r in reviews.history(turn.tx, who.studio, version.id)][::-1],
        "may_approve": may,
        "learned": learned,
        "again": [(one, trainings.replay_result(one.result)) for one in replays_of(turn.tx, version)],
        "now": time.time(),
    }


def _names(lessons: tuple[dict[str, Any], ...], version: int) -> bool:
    return any(lesson["version"] == version for lesson in lessons)


def _record_of(version: VersionView, spec: JobSpec) -> dict[str, Any]:
    take = spec.takes[version.take]
    folder = Path(version.folder)
    view = views.viewer(version, spec, _kinds(folder))
    request = recalled(spec, version.take)
    return {
        "viewer": view,
        "facts": views.report_facts(version),
        "plate": views.plate_facts(spec),
        "warnings": [str(w) for w in version.report.get("warnings", ())],
        "spec": spec,
        "take": take,
        "parameters": views.given_parameters(spec.task, take.parameters, take.seed),
        "inputs": record.inputs(spec, take),
        "software": _software(version),
        "signed": record.Signed(len(view.frames), _manifests(folder)),
        "policy": record.policy_view(spec.policy),
        "fields": record.recall_fields(spec.task, request.parameters),
    }


def _software(version: VersionView) -> dict[str, str]:
    """What made it, by the record beside it; nothing where that is gone or was never ours."""
    path = sidecar_path(version_value(version))
    try:
        if path.stat().st_size > _MOST_SIDECAR:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))["software"]
        return {str(name): str(release) for name, release in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _manifests(folder: Path) -> int:
    """How many C2PA manifests lie in a version's folder. They are counted here and verified by `plates provenance`."""
    try:
        with os.scandir(folder) as entries:
            return sum(entry.name.endswith(".c2pa") for entry in entries)
    except OSError:
        return 0


def _kinds(folder: Path) -> tuple[str, ...]:
    """The kinds of proxies that a version has."""
    return tuple(kind for kind in _PROXY_KINDS if proxy_path(folder, kind, 0).parent.is_dir())


def _previews(folder: Path) -> tuple[dict[str, int], ...]:
    """Frames that have an early picture, rising; `stamp` changes with the picture, `newest` marks the last that came."""
    found: list[dict[str, int]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, dot, suffix = entry.name.rpartition(".")
                if dot and suffix == "jpg" and re.fullmatch(r"-?\d+", stem):
                    found.append({"frame": int(stem), "stamp": entry.stat().st_mtime_ns // 1_000_000})
    except OSError:
        return ()
    newest = sorted(found, key=lambda p: (p["stamp"], p["frame"]))[-MOST_PREVIEWS:]
    last = newest[-1]["frame"] if newest else None
    return tuple({**p, "newest": int(p["frame"] == last)} for p in sorted(newest, key=lambda p: p["frame"]))
