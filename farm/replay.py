"""From a version to a job that makes it again and compares: the same spec, its files held against what they were then."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from farm.dispatcher import Dispatcher
from farm.estimates import estimate_of
from farm.gate import admit, choose_models
from farm.inspector import Inspector
from farm.records import VersionView, WorkFacts
from farm.reservations import version_value
from farm.settings import FarmSettings
from farm.states import VersionState
from farm.submitting import Prepared
from pipeline.errors import Fault, StateError, SubmissionRefused
from pipeline.jobs.plan import plan
from pipeline.jobs.recall import recalled
from pipeline.jobs.spec import JobSpec, ReplaySpec, SubmissionFacts, TakeSpec
from pipeline.publish.values import sidecar_path
from pipeline.tasks.registry import task


def prepare_replay(
    version: VersionView,
    *,
    user: str,
    pool: str = "",
    priority: int = 50,
    settings: FarmSettings,
    dispatcher: Dispatcher,
    inspector: Inspector,
) -> Prepared:
    """Check that everything is there that the version was made of, unchanged, and plan to make it again.

    Raises: StateError (not published), SubmissionRefused with every input that is gone or was changed, TaskError (its task isn't
    installed any more).
    """
    if version.state is not VersionState.PUBLISHED:
        raise StateError(f"{version.name} is {version.state}: there is nothing to repeat", "replay a published version")
    before = dispatcher.spec(version.studio, version.job_id)
    definition = task(before.task)
    take = before.takes[version.take]
    request = recalled(before, version.take)
    chosen = choose_models(dispatcher, version.studio, definition, request, retired=True)
    facts = SubmissionFacts.model_validate(
        inspector.call(
            "intake",
            {
                "request": chosen.request.model_dump(mode="json"),
                "roots": [str(root) for root in settings.roots],
                "publish_root": before.publish_root,
                "known": chosen.payload(),
            },
        )
    )
    faults = [Fault(f.where, f.message, f.hint) for f in facts.faults] or list(_changed(before, take, facts))
    if faults:
        raise SubmissionRefused(faults)
    spec = before.model_copy(
        update={
            "takes": (take.model_copy(update={"index": 0}),),
            "replays": _replays(version),
            "user": user,
            "pool": pool or before.pool,
            "priority": priority,
            "warnings": (),
        }
    )
    steps = plan(spec, definition)
    estimate = dispatcher.read(lambda turn: estimate_of(turn.tx, spec, steps, definition, settings))
    said = None if estimate is None else estimate.as_json()
    return Prepared(
        spec=admit(dispatcher, spec, definition, settings, use=None, user=user, estimate=said),
        steps=steps,
        work=WorkFacts(
            product="",
            memory_mb=definition.memory_mb,
            model=f"{spec.task}:{take.identity}",
            estimate="" if estimate is None else estimate.as_text(),
        ),
        estimate=said,
        taken_on_disk=frozenset(),
    )


def _changed(before: JobSpec, take: TakeSpec, facts: SubmissionFacts) -> Iterator[Fault]:
    """What is there, but isn't what it was."""
    hint = "a replay needs the very files; recall the version to make a new one of these"
    frames = [f for f, digest in before.input_hashes.items() if facts.hashes.get(f) != digest]
    if frames:
        many = f" and {len(frames) - 1} more" if len(frames) > 1 else ""
        yield Fault("plate", f"frame {frames[0]}{many} of {before.plate.pattern} was changed since", hint)
    keys = {(key.object, key.frame): key.hash for key in facts.keys}
    for key in before.keys:
        if keys.get((key.object, key.frame)) != key.hash:
            yield Fault(f"key {key.object}:{key.frame}", f"{key.path} was changed since", hint)
    found = facts.takes[0]
    for name, given in take.inputs.items():
        now = found.inputs.get(name)
        if now is None or now.digests != given.digests:
            yield Fault(f"parameter {name}", f"{given.path} was changed since", hint)
    if found.model.sha256 != take.model.sha256:
        yield Fault("model", f"{take.model.name} has other weights now", hint)


def _replays(version: VersionView) -> ReplaySpec:
    value = version_value(version)
    return ReplaySpec(
        version=version.id,
        name=version.name,
        folder=version.folder,
        pattern=str(value.pattern),
        frames=version.frames,
        software=_software(sidecar_path(value)),
    )


def _software(path: Path) -> dict[str, str]:
    """What made it, by the record beside it; nothing where that is gone."""
    try:
        record: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(release) for name, release in record["software"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
