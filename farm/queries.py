"""What people look at, read from one consistent state. Everything is asked for within a studio; another's isn't there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from farm.folders import attempt_folder
from farm.moves import in_states, no_job
from farm.records import (
    AttemptView,
    ChunkView,
    Counts,
    InputFolder,
    JobDetail,
    JobFilter,
    JobView,
    ReplayView,
    StepView,
    TakeView,
    VersionFilter,
    VersionRef,
    VersionView,
)
from farm.states import AttemptState, ChunkState, FailureKind, JobKind, JobState, VersionState
from farm.store import Transaction
from farm.tables import ATTEMPT, CHUNK, JOB, STEP, TAKE, VERSION
from farm.usage import cost_of
from farm.workers import list_workers
from pipeline.errors import NotFoundError
from pipeline.jobs.plan import StepName

MOST_LISTED = 500
_JOB_COLUMNS = [column for column in JOB.columns if column.name not in ("spec", "asked", "publish_root", "estimate")]


def list_jobs(
    tx: Transaction, studio: str, wanted: JobFilter, *, limit: int = 50, before: int | None = None
) -> tuple[JobView, ...]:
    """The newest jobs first; `before` is the last number of the page before."""
    statement = select(*_JOB_COLUMNS).where(JOB.c.studio == studio)
    if wanted.states is not None:
        statement = statement.where(JOB.c.state.in_([state.value for state in wanted.states]))
    if wanted.kinds is not None:
        statement = statement.where(JOB.c.kind.in_([kind.value for kind in wanted.kinds]))
    for name in ("show", "shot", "task", "user"):
        if (value := getattr(wanted, name)) is not None:
            statement = statement.where(JOB.c[name] == value)
    if before is not None:
        statement = statement.where(JOB.c.id < before)
    return _jobs(tx, statement.order_by(JOB.c.id.desc()).limit(min(limit, MOST_LISTED)))


def get_job(tx: Transaction, studio: str, job: int) -> JobView:
    """One job at a glance. Raises: NotFoundError."""
    found = _jobs(tx, select(*_JOB_COLUMNS).where(JOB.c.studio == studio, JOB.c.id == job))
    if not found:
        raise no_job(job)
    return found[0]


def _jobs(tx: Transaction, statement: Select[Any]) -> tuple[JobView, ...]:
    rows = tx.rows(statement)
    numbers = [row.id for row in rows]
    steps: dict[int, list[StepView]] = {number: [] for number in numbers}
    if not numbers:
        return ()
    for row in tx.rows(select(STEP).where(STEP.c.job.in_(numbers)).order_by(STEP.c.job, STEP.c.take, STEP.c.place)):
        after = tuple(name for name in row.after.split(",") if name)
        steps[row.job].append(StepView(row.take, row.name, after, row.total, row.total - row.chunks_left, row.failed))
    versions: dict[int, list[VersionView]] = {number: [] for number in numbers}
    for row in tx.rows(select(VERSION).where(VERSION.c.job.in_(numbers)).order_by(VERSION.c.job, VERSION.c.take)):
        versions[row.job].append(version_view(row))
    busy = {
        row.job: (row.number, row.part)
        for row in tx.rows(
            select(CHUNK.c.job, func.count().label("number"), func.sum(CHUNK.c.fraction).label("part"))
            .where(CHUNK.c.job.in_(numbers), in_states(CHUNK.c.state, {ChunkState.RUNNING}))
            .group_by(CHUNK.c.job)
        )
    }
    return tuple(_job(row, tuple(steps[row.id]), tuple(versions[row.id]), *busy.get(row.id, (0, 0.0))) for row in rows)


def _job(
    row: Any, steps: tuple[StepView, ...], versions: tuple[VersionView, ...], running: int, part: float
) -> JobView:
    total = sum(step.total for step in steps)
    done = sum(step.done for step in steps)
    facts = {name: getattr(row, name) for name in JobView.__dataclass_fields__ if hasattr(row, name)}
    facts["state"], facts["kind"] = JobState(row.state), JobKind(row.kind)
    progress = min(1.0, (done + part) / total) if total else 0.0
    return JobView(**facts, progress=progress, running=running, steps=steps, versions=versions)


def job_detail(tx: Transaction, studio: str, job: int, *, now: float, currency: str = "") -> JobDetail:
    """A job with every chunk and every attempt, and what these have cost until `now`. Raises: NotFoundError."""
    view = get_job(tx, studio, job)
    about = tx.rows(select(JOB.c.publish_root, JOB.c.estimate).where(JOB.c.id == job))[0]
    takes = tuple(
        TakeView(row.take, row.name, row.seed, json.loads(row.parameters), row.preset)
        for row in tx.rows(select(TAKE).where(TAKE.c.job == job).order_by(TAKE.c.take))
    )
    rows = tx.rows(select(CHUNK).where(CHUNK.c.job == job).order_by(CHUNK.c.id))
    attempts: dict[int, list[Any]] = {}
    of_job = select(ATTEMPT).select_from(ATTEMPT).join(CHUNK, CHUNK.c.id == ATTEMPT.c.chunk).where(CHUNK.c.job == job)
    for row in tx.rows(of_job.order_by(ATTEMPT.c.chunk, ATTEMPT.c.number)):
        attempts.setdefault(row.chunk, []).append(row)
    chunks = tuple(_chunk(row, attempts.get(row.id, []), about.publish_root) for row in rows)
    cost = cost_of([one for some in attempts.values() for one in some], now=now, currency=currency)
    return JobDetail(view, takes, chunks, cost, json.loads(about.estimate) if about.estimate else None)


def _chunk(row: Any, attempts: Sequence[Any], root: str) -> ChunkView:
    def folder(attempt: int) -> str:
        return str(
            attempt_folder(
                root, studio=row.studio, job=row.job, take=row.take, step=row.step, index=row.idx, attempt=attempt
            )
        )

    state = ChunkState(row.state)
    return ChunkView(
        id=row.id,
        take=row.take,
        step=row.step,
        index=row.idx,
        frames=row.frames,
        context=row.context,
        state=state,
        attempt=row.attempt,
        failures=row.failures,
        worker=row.worker if state is ChunkState.RUNNING else None,
        fraction=row.fraction,
        done_frames=row.done_frames,
        not_before=row.not_before,
        accepted_folder=folder(row.attempt) if state is ChunkState.SUCCEEDED else "",
        result=json.loads(row.result),
        attempts=tuple(
            AttemptView(
                number=one.number,
                worker=one.worker,
                state=AttemptState(one.state),
                started_at=one.started_at,
                ended_at=one.ended_at,
                kind=FailureKind(one.kind) if one.kind else None,
                reason=one.reason,
                hint=one.hint,
                folder=folder(one.number),
            )
            for one in attempts
        ),
    )


def list_versions(
    tx: Transaction,
    studio: str,
    wanted: VersionFilter,
    *,
    limit: int = 50,
    before: int | None = None,
    also: Sequence[ColumnElement[bool]] = (),
) -> tuple[VersionView, ...]:
    """The newest versions first; `before` is the last `id` of the page before, `also` more that must hold of each."""
    statement = select(VERSION).where(VERSION.c.studio == studio, *also)
    if wanted.states is not None:
        statement = statement.where(VERSION.c.state.in_([state.value for state in wanted.states]))
    for name in ("show", "sequence", "shot", "product", "name"):
        if (value := getattr(wanted, name)) is not None:
            statement = statement.where(VERSION.c[name] == value)
    if wanted.job_id is not None:
        statement = statement.where(VERSION.c.job == wanted.job_id)
    if before is not None:
        statement = statement.where(VERSION.c.id < before)
    rows = tx.rows(statement.order_by(VERSION.c.id.desc()).limit(min(limit, MOST_LISTED)))
    return tuple(version_view(row) for row in rows)


def get_version(tx: Transaction, studio: str, version: int) -> VersionView:
    """One version. Raises: NotFoundError."""
    row = tx.first(select(VERSION).where(VERSION.c.studio == studio, VERSION.c.id == version))
    if row is None:
        raise NotFoundError(f"there is no version {version}", "`plates versions` lists them")
    return version_view(row)


def versions_made_with(tx: Transaction, studio: str, sha256: str, *, limit: int = 50) -> tuple[VersionView, ...]:
    """The published versions whose take loaded these weights, newest first."""
    loaded = CHUNK.c.model.contains(f"@{sha256[:12]}", autoescape=True)
    statement = (
        select(VERSION)
        .select_from(VERSION.join(CHUNK, and_(CHUNK.c.job == VERSION.c.job, CHUNK.c.take == VERSION.c.take)))
        .where(VERSION.c.studio == studio, CHUNK.c.step == StepName.PUBLISH.value, loaded)
        .where(in_states(VERSION.c.state, {VersionState.PUBLISHED}))
    )
    return tuple(version_view(row) for row in tx.rows(statement.order_by(VERSION.c.id.desc()).limit(limit)))


def replays_of(tx: Transaction, version: VersionView, *, limit: int = 20) -> tuple[ReplayView, ...]:
    """The newest replays of a version first."""
    of_shot = {"studio": version.studio, "show": version.show, "sequence": version.sequence, "shot": version.shot}
    jobs = tx.rows(
        select(JOB.c.id, JOB.c.state, JOB.c.user, JOB.c.created_at, JOB.c.spec)
        .where(JOB.c.kind == JobKind.REPLAY.value, *(JOB.c[name] == value for name, value in of_shot.items()))
        .order_by(JOB.c.id.desc())
        .limit(MOST_LISTED)
    )
    mine = [row for row in jobs if json.loads(row.spec)["replays"]["version"] == version.id][:limit]
    compared = select(CHUNK.c.job, CHUNK.c.result).where(
        CHUNK.c.job.in_([row.id for row in mine]), CHUNK.c.step == StepName.COMPARE.value
    )
    results = {row.job: json.loads(row.result).get("replay") for row in tx.rows(compared)} if mine else {}
    return tuple(ReplayView(row.id, JobState(row.state), row.user, row.created_at, results.get(row.id)) for row in mine)


def version_view(row: Any) -> VersionView:
    """The value of a version's row."""
    return VersionView(
        id=row.id,
        studio=row.studio,
        show=row.show,
        sequence=row.sequence,
        shot=row.shot,
        product=row.product,
        number=row.number,
        job_id=row.job,
        take=row.take,
        name=row.name,
        folder=row.folder,
        state=VersionState(row.state),
        frames=row.frames,
        layers=tuple(json.loads(row.layers)),
        colorspace=row.colorspace,
        report=json.loads(row.report),
        created_at=row.created_at,
        published_at=row.published_at,
    )


def spec_text(tx: Transaction, studio: str, job: int) -> str:
    """The spec of a job as it was submitted, in JSON. Raises: NotFoundError."""
    row = tx.first(select(JOB.c.spec).where(JOB.c.studio == studio, JOB.c.id == job))
    if row is None:
        raise no_job(job)
    return str(row.spec)


def publish_root(tx: Transaction, studio: str, job: int) -> str:
    """Where a job's versions go, and under which its attempts work. Raises: NotFoundError."""
    row = tx.first(select(JOB.c.publish_root).where(JOB.c.studio == studio, JOB.c.id == job))
    if row is None:
        raise no_job(job)
    return str(row.publish_root)


def count(tx: Transaction, studio: str, *, alive_since: float) -> Counts:
    """How many jobs, chunks and workers of each state a studio has."""
    jobs = tx.rows(select(JOB.c.state, func.count()).where(JOB.c.studio == studio).group_by(JOB.c.state))
    chunks = tx.rows(select(CHUNK.c.state, func.count()).where(CHUNK.c.studio == studio).group_by(CHUNK.c.state))
    workers: dict[str, int] = {}
    for worker in list_workers(tx, studio, alive_since=alive_since):
        workers[worker.state] = workers.get(worker.state, 0) + 1
    return Counts(dict(map(tuple, jobs)), dict(map(tuple, chunks)), workers)


# What an assignment is made of


def steps_before(tx: Transaction, job: int) -> dict[tuple[int, str], tuple[str, ...]]:
    """For each take and step, every step whose results it may read: those it comes after, and those they come after."""
    before: dict[tuple[int, str], tuple[str, ...]] = {}
    for row in tx.rows(select(STEP).where(STEP.c.job == job).order_by(STEP.c.take, STEP.c.place)):
        names: dict[str, None] = {}
        for name in (name for name in row.after.split(",") if name):
            names.update(dict.fromkeys((*before[row.take, name], name)))
        before[row.take, row.name] = tuple(names)
    return before


def versions_of_takes(tx: Transaction, job: int) -> dict[int, VersionRef]:
    """What each take of a job will become."""
    rows = tx.rows(select(VERSION).where(VERSION.c.job == job))
    return {row.take: VersionRef(row.name, row.number, row.product, row.folder) for row in rows}


def accepted(
    tx: Transaction, *, studio: str, job: int, take: int, steps: Sequence[str], root: str
) -> tuple[InputFolder, ...]:
    """The accepted folders of the succeeded chunks of some steps, in order. Skipped chunks have none."""
    rows = tx.rows(
        select(CHUNK.c.step, CHUNK.c.idx, CHUNK.c.frames, CHUNK.c.attempt)
        .where(
            CHUNK.c.job == job,
            CHUNK.c.take == take,
            or_(*(CHUNK.c.step == step for step in steps)),
            in_states(CHUNK.c.state, {ChunkState.SUCCEEDED}),
        )
        .order_by(CHUNK.c.id)
    )
    return tuple(
        InputFolder(
            row.step,
            row.idx,
            row.frames,
            str(
                attempt_folder(
                    root, studio=studio, job=job, take=take, step=row.step, index=row.idx, attempt=row.attempt
                )
            ),
        )
        for row in rows
    )
