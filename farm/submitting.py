"""From a request to a job: look at the files, make the spec, plan it, reserve its version. What HTTP, `plates run` and the
watch folder all call."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from farm.bounds import read_bounds
from farm.dispatcher import Dispatcher
from farm.estimates import estimate_of
from farm.gate import admit, choose_models
from farm.inspector import Inspector
from farm.presets import with_preset
from farm.records import WorkFacts
from farm.settings import FarmSettings
from pipeline.errors import Fault, PipelineError, SubmissionRefused, fault_of
from pipeline.jobs.plan import Step, plan
from pipeline.jobs.resolve import Defaults, resolve
from pipeline.jobs.spec import JobRequest, JobSpec, SubmissionFacts
from pipeline.naming import FolderTemplate, version_of
from pipeline.parameters import Kind, describe
from pipeline.paths import allowed_path
from pipeline.publish.values import sidecar_path
from pipeline.tasks.definition import TaskDefinition
from pipeline.tasks.registry import task


@dataclass(frozen=True, slots=True)
class Prepared:
    """A submission that may become a job: nothing was written for it yet."""

    spec: JobSpec
    steps: tuple[Step, ...]
    work: WorkFacts
    estimate: Mapping[str, Any] | None
    """What it will cost, by history; None while there is none."""
    taken_on_disk: frozenset[int]
    """Version numbers of this shot and product whose folders already exist, by whoever made them."""


def prepare(
    request: JobRequest,
    *,
    studio: str,
    user: str,
    settings: FarmSettings,
    dispatcher: Dispatcher,
    inspector: Inspector,
    draw_seed: Callable[[], int] = lambda: secrets.randbelow(2**31),
) -> Prepared:
    """Check a request against its files, the studio's models and its rules, and plan it. `user` is who asks, by their token.

    Raises: SubmissionRefused with every fault of the files, or with every rule that it breaks.
    """
    try:
        definition = task(request.task)
    except PipelineError as error:
        raise SubmissionRefused([fault_of(error, "task")]) from error
    publish_root = publish_root_of(request.out, studio, settings)
    request = dispatcher.read(partial(with_preset, request=request, studio=studio))
    chosen = choose_models(dispatcher, studio, definition, request)
    request = chosen.request
    facts = SubmissionFacts.model_validate(
        inspector.call(
            "intake",
            {
                "request": request.model_dump(mode="json"),
                "roots": [str(root) for root in settings.roots],
                "publish_root": str(publish_root),
                "known": chosen.payload(),
            },
        )
    )
    defaults = Defaults(
        studio=studio, show=settings.show, publish_root=publish_root, bounds=read_bounds(settings.bounds_file)
    )
    spec = resolve(request, facts, definition, defaults=defaults, draw_seed=draw_seed)
    if request.seed_from is not None:
        spec = _with_seed_of(spec, int(request.seed_from[1:]), definition, settings)
    steps = plan(spec, definition)
    estimate = dispatcher.read(lambda turn: estimate_of(turn.tx, spec, steps, definition, settings))
    said = None if estimate is None else estimate.as_json()
    admitted = admit(dispatcher, spec, definition, settings, use=request.use or None, user=user, estimate=said)
    return Prepared(
        spec=admitted,
        steps=steps,
        work=WorkFacts(
            product=definition.product,
            memory_mb=definition.memory_mb,
            models=tuple(f"{spec.task}:{take.identity}" for take in spec.takes),
            estimate="" if estimate is None else estimate.as_text(),
        ),
        estimate=said,
        taken_on_disk=_taken(spec, definition, settings),
    )


def _with_seed_of(spec: JobSpec, number: int, definition: TaskDefinition, settings: FarmSettings) -> JobSpec:
    """The spec with the seed of an earlier version of this shot and product, on every take that names none of its own.

    Raises: SubmissionRefused (no such version here).
    """
    template = FolderTemplate(settings.version_template)
    version = version_of(spec.address, definition.product, number, Path(spec.publish_root), template)
    path = sidecar_path(version)
    try:
        seed = int(json.loads(path.read_text(encoding="utf-8"))["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{version.name} isn't published here"
        raise SubmissionRefused([Fault("seed_from", message, "plates versions lists what is")]) from error
    given = {entry["name"] for entry in describe(definition.parameters)["parameters"] if entry["kind"] == Kind.SEED}
    takes = tuple(
        take if any(take.parameters[name] is not None for name in given) else take.model_copy(update={"seed": seed})
        for take in spec.takes
    )
    return spec.model_copy(update={"takes": takes})


def publish_root_of(out: str | None, studio: str, settings: FarmSettings) -> Path:
    """Where a studio's versions go, unless a request says otherwise. Raises: SubmissionRefused (outside the roots)."""
    if out is None:
        # Guests have a root of their own. No show's name holds a `_`, so it can't be one of the house's.
        return settings.publish_root if studio == settings.studio else settings.publish_root / f"studio_{studio}"
    try:
        return allowed_path(out, settings.roots)
    except PipelineError as error:
        raise SubmissionRefused([Fault("out", error.message, error.hint)]) from error


def _taken(spec: JobSpec, definition: TaskDefinition, settings: FarmSettings) -> frozenset[int]:
    """Versions that lie on disk though no row knows them: an older database, or another tool's."""
    template = FolderTemplate(settings.version_template)
    root = Path(spec.publish_root)
    probe = root / template.format(spec.address, definition.product, 1)
    level = next((p for p in (probe, *probe.parents) if "v001" in p.name), probe)
    taken: set[int] = set()
    try:
        for entry in level.parent.iterdir():
            found = template.parse(str((entry / probe.relative_to(level)).relative_to(root)))
            if found is not None:
                taken.add(int(found["version"][1:]))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    return frozenset(taken)
