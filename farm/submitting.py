"""From a request to a job: look at the files, make the spec, plan it, reserve its version. What HTTP, `plates run` and the
watch folder all call."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from farm.inspector import Inspector
from farm.records import WorkFacts
from farm.settings import FarmSettings
from pipeline.errors import Fault, PipelineError, SubmissionRefused, fault_of
from pipeline.jobs.plan import Step, plan
from pipeline.jobs.spec import Defaults, JobRequest, JobSpec, SubmissionFacts, resolve
from pipeline.naming import FolderTemplate
from pipeline.paths import allowed_path
from pipeline.tasks.definition import TaskDefinition
from pipeline.tasks.registry import task


@dataclass(frozen=True, slots=True)
class Prepared:
    """A submission that may become a job: nothing was written for it yet."""

    spec: JobSpec
    steps: tuple[Step, ...]
    work: WorkFacts
    taken_on_disk: frozenset[int]
    """Version numbers of this shot and product whose folders already exist, by whoever made them."""


def prepare(
    request: JobRequest,
    *,
    studio: str,
    settings: FarmSettings,
    inspector: Inspector,
    draw_seed: Callable[[], int] = lambda: secrets.randbelow(2**31),
) -> Prepared:
    """Check a request against its files and plan it. Raises: SubmissionRefused with every fault."""
    try:
        definition = task(request.task)
    except PipelineError as error:
        raise SubmissionRefused([fault_of(error, "task")]) from error
    publish_root = _publish_root(request, studio, settings)
    facts = SubmissionFacts.model_validate(
        inspector.call(
            "intake",
            {
                "request": request.model_dump(mode="json"),
                "roots": [str(root) for root in settings.roots],
                "publish_root": str(publish_root),
            },
        )
    )
    defaults = Defaults(studio=studio, show=settings.show, publish_root=publish_root)
    spec = resolve(request, facts, definition, defaults=defaults, draw_seed=draw_seed)
    return Prepared(
        spec=spec,
        steps=plan(spec, definition),
        work=WorkFacts(product=definition.product, memory_mb=definition.memory_mb, model=f"{spec.task}:{spec.model}"),
        taken_on_disk=_taken(spec, definition, settings),
    )


def _publish_root(request: JobRequest, studio: str, settings: FarmSettings) -> Path:
    if request.out is None:
        # Guests have a root of their own. No show's name holds a `_`, so it can't be one of the house's.
        return settings.publish_root if studio == settings.studio else settings.publish_root / f"studio_{studio}"
    try:
        return allowed_path(request.out, settings.roots)
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
