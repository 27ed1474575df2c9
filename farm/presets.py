"""Presets: named parameters of a show's task. What is picked of the takes that were made with them ranks them.

A name that is saved again with other parameters is a new preset: what was made with the one before doesn't count for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, insert, select, update

from farm import reviews
from farm.queries import get_version, spec_text
from farm.records import Record
from farm.reviews import Taste
from farm.states import JobKind, VersionState
from farm.store import Transaction
from farm.tables import JOB, PRESET, TAKE, VERSION
from farm.tokens import Identity, Scope
from farm.turn import Turn
from pipeline.errors import (
    AuthError,
    Fault,
    NotFoundError,
    PipelineError,
    SubmissionRefused,
    TaskError,
    fault_of,
)
from pipeline.jobs.spec import JobRequest, JobSpec, TakeSpec
from pipeline.parameters import Kind, describe, validate_keyed
from pipeline.shot import check_name
from pipeline.tasks.definition import TaskDefinition
from pipeline.tasks.registry import task as task_of

OF_THE_SHOT = frozenset({Kind.SEED, Kind.POINT, Kind.POINTS, Kind.BOX, Kind.MASK, Kind.PLATE, Kind.AUDIO, Kind.STROKE})
"""Kinds that say something of one shot: a preset that is made from a version leaves them out, and curves too."""


@dataclass(frozen=True, slots=True)
class PresetView(Record):
    """A preset, and how what was made with it did."""

    id: int
    show: str
    task: str
    name: str
    parameters: Mapping[str, Any]
    model: str
    """What the takes are asked to use; empty for whatever is used without a word."""
    created_by: str
    created_at: float
    uses: int = 0
    """Takes that were handed in with it."""
    picks: int = 0
    """How often one of their versions is picked."""
    rating: float | None = None
    """The mean over all standing ratings of their versions."""
    ratings: int = 0


def save(
    turn: Turn,
    *,
    who: Identity,
    name: str,
    task: str = "",
    show: str = "",
    version: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    model: str = "",
) -> PresetView:
    """Keep parameters under a name, those of a `version` beneath those given; one of that name goes.

    What isn't said is the version's, or the farm's default show.
    Raises: SubmissionRefused with every fault, NotFoundError (no such version), AuthError (the name is somebody else's).
    """
    given, take = dict(parameters or {}), None
    if version is not None:
        spec, take = _made(turn.tx, who.studio, version)
        task, show = task or spec.task, show or spec.show
        if task != spec.task:
            raise SubmissionRefused(
                [Fault("task", f"the version was made by {spec.task}, not by {task}", "leave it out")]
            )
    show = show or turn.settings.show
    definition = _definition(task)
    if take is not None:
        given = {**worth_keeping(take, definition), **given}
        model = model or take.model.card or take.model.path or ""
    faults = _name_faults(name, show) + _faults(definition, given)
    if faults:
        raise SubmissionRefused(faults)
    old = _find(turn.tx, who.studio, show, task, name)
    if old is not None and (old.parameters, old.model) == (given, model):
        return old
    _retire(turn, who, show, task, name)
    row = turn.tx.first(
        insert(PRESET).returning(PRESET),
        {
            "studio": who.studio,
            "show": show,
            "task": task,
            "name": name,
            "parameters": json.dumps(given),
            "model": model,
            "created_by": who.name,
            "created_at": turn.now,
            "retired_at": None,
        },
    )
    return _view(row)


def worth_keeping(take: TakeSpec, definition: TaskDefinition) -> dict[str, Any]:
    """The parameters of a take that make its look: what was set but its seed and what lies on its shot."""
    kinds = {entry["name"]: Kind(entry["kind"]) for entry in describe(definition.parameters)["parameters"]}
    return {
        name: take.inputs[name].path if name in take.inputs else value
        for name, value in take.parameters.items()
        if value is not None and name in kinds and kinds[name] not in OF_THE_SHOT and name not in take.curves
    }


def delete(turn: Turn, preset: int, *, who: Identity) -> PresetView:
    """Take a preset away: who saved it may, and a wrangler. Raises: NotFoundError, AuthError."""
    row = turn.tx.first(
        select(PRESET).where(PRESET.c.id == preset, PRESET.c.studio == who.studio, PRESET.c.retired_at.is_(None))
    )
    if row is None:
        raise NotFoundError(f"there is no preset {preset}", "`plates presets list` lists them")
    _retire(turn, who, row.show, row.task, row.name)
    return _view(row)


def with_preset(turn: Turn, request: JobRequest, *, studio: str) -> JobRequest:
    """The request with its preset's parameters and model beneath its own; as it is where it names none.

    Raises: SubmissionRefused (no such preset of this show's task, or one whose parameters the task no longer takes).
    """
    if not request.preset:
        return request
    show = request.show or turn.settings.show
    preset = _find(turn.tx, studio, show, request.task, request.preset)
    if preset is None:
        known = [one.name for one in listed(turn.tx, studio, show=show, task=request.task)]
        hint = f"there are {', '.join(known)}" if known else f"{show} has none for {request.task} yet"
        raise SubmissionRefused([Fault("preset", f"{show} has no preset {request.preset!r} for {request.task}", hint)])
    return laid_under(request, preset)


def laid_under(request: JobRequest, preset: PresetView) -> JobRequest:
    """What the request gives counts before what the preset gives. Raises: SubmissionRefused (it no longer fits the task)."""
    stale = _faults(_definition(request.task), preset.parameters)
    if stale:
        hint = f"save it again: plates presets save {preset.name} --task {preset.task} --show {preset.show} --set …"
        where = f"preset {preset.name}"
        raise SubmissionRefused([Fault(f"{where}, {f.where}", f.message, hint) for f in stale])
    return request.model_copy(
        update={
            "parameters": {**preset.parameters, **request.parameters},
            "model": request.model or preset.model,
        }
    )


def listed(tx: Transaction, studio: str, *, show: str | None = None, task: str | None = None) -> tuple[PresetView, ...]:
    """The presets by how they did: most picks first, then the best rating, then the most uses."""
    statement = select(PRESET).where(PRESET.c.studio == studio, PRESET.c.retired_at.is_(None))
    for column, wanted in ((PRESET.c.show, show), (PRESET.c.task, task)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    presets = {row.id: _view(row) for row in tx.rows(statement)}
    versions: dict[int, list[int]] = {number: [] for number in presets}
    uses = dict.fromkeys(presets, 0)
    for use in _uses(tx, studio, presets):
        uses[use.preset] += 1
        if use.version is not None:
            versions[use.preset].append(use.version)
    tastes = reviews.of_versions(tx, studio, [version for of in versions.values() for version in of])
    judged = [_judged(view, uses[n], [tastes[v] for v in versions[n]]) for n, view in presets.items()]
    return tuple(sorted(judged, key=lambda view: (-view.picks, -(view.rating or 0), -view.uses, view.name, view.id)))


def _uses(tx: Transaction, studio: str, presets: Iterable[int]) -> Iterable[Any]:
    """Each take that was handed in with one of the presets, with its version once that is published."""
    made_with = and_(
        JOB.c.studio == PRESET.c.studio,
        JOB.c.show == PRESET.c.show,
        JOB.c.task == PRESET.c.task,
        JOB.c.kind == JobKind.PLATE.value,
        JOB.c.created_at >= PRESET.c.created_at,
    )
    published = and_(
        VERSION.c.job == TAKE.c.job, VERSION.c.take == TAKE.c.take, VERSION.c.state == VersionState.PUBLISHED.value
    )
    return tx.rows(
        select(PRESET.c.id.label("preset"), VERSION.c.id.label("version"))
        .select_from(PRESET)
        .join(TAKE, TAKE.c.preset == PRESET.c.name)
        .join(JOB, and_(JOB.c.id == TAKE.c.job, made_with))
        .outerjoin(VERSION, published)
        .where(PRESET.c.studio == studio, PRESET.c.id.in_(list(presets)))
    )


def _judged(view: PresetView, uses: int, tastes: list[Taste]) -> PresetView:
    ratings = sum(taste.ratings for taste in tastes)
    total = sum((taste.rating or 0.0) * taste.ratings for taste in tastes)
    facts = {name: getattr(view, name) for name in PresetView.__dataclass_fields__}
    return PresetView(
        **{
            **facts,
            "uses": uses,
            "picks": sum(len(taste.picked_by) for taste in tastes),
            "rating": total / ratings if ratings else None,
            "ratings": ratings,
        }
    )


def _made(tx: Transaction, studio: str, version: int) -> tuple[JobSpec, TakeSpec]:
    """How a version was made. Raises: NotFoundError."""
    view = get_version(tx, studio, version)
    spec = JobSpec.model_validate_json(spec_text(tx, studio, view.job_id))
    return spec, spec.takes[view.take]


def _definition(task: str) -> TaskDefinition:
    try:
        return task_of(task)
    except TaskError as error:
        raise SubmissionRefused([fault_of(error, "task")]) from error


def _name_faults(name: str, show: str) -> list[Fault]:
    faults: list[Fault] = []
    for what, text in (("preset", name), ("show", show)):
        try:
            check_name(text, what)
        except PipelineError as error:
            faults.append(fault_of(error, what))
    return faults


def _faults(definition: TaskDefinition, parameters: Mapping[str, Any]) -> list[Fault]:
    """What the task has against these parameters; that others are required is no fault of a preset."""
    _, _, faults = validate_keyed(definition.parameters, parameters)
    given = {f"parameter {name}" for name in parameters}
    return [fault for fault in faults if fault.where in given]


def _find(tx: Transaction, studio: str, show: str, task: str, name: str) -> PresetView | None:
    row = tx.first(
        select(PRESET).where(
            PRESET.c.studio == studio,
            PRESET.c.show == show,
            PRESET.c.task == task,
            PRESET.c.name == name,
            PRESET.c.retired_at.is_(None),
        )
    )
    return None if row is None else _view(row)


def _retire(turn: Turn, who: Identity, show: str, task: str, name: str) -> None:
    """Raises: AuthError when somebody else saved it."""
    old = _find(turn.tx, who.studio, show, task, name)
    if old is None:
        return
    if old.created_by != who.name and not who.allows(Scope.WRANGLE):
        raise AuthError(f"{old.created_by} saved the preset {name}", "take another name, or ask a wrangler")
    turn.tx.execute(update(PRESET).where(PRESET.c.id == old.id).values(retired_at=turn.now))


def _view(row: Any) -> PresetView:
    return PresetView(
        id=row.id,
        show=row.show,
        task=row.task,
        name=row.name,
        parameters=json.loads(row.parameters),
        model=row.model,
        created_by=row.created_by,
        created_at=row.created_at,
    )
