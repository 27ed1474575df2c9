"""The one door for every change of state. A move that the tables of `farm/states.py` don't allow can't even be declared.

A move is declared once, as a module constant: from which states, to which, where, and what else is written. `move_chunks`
carries it out and keeps everything that depends on states in step: the counters of the step, the attempt that ends, the
events, and the signal that there is work. `settle` then draws the conclusions: which steps may start, how the job stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Executable, bindparam, literal_column, select, update

from farm.events import Draft, EventKind
from farm.statements import hot
from farm.states import (
    CHUNK_MOVES,
    JOB_MOVES,
    AttemptState,
    ChunkState,
    FailureKind,
    JobState,
    check_move,
)
from farm.store import Transaction
from farm.tables import ATTEMPT, CHUNK, JOB, STEP
from pipeline.errors import NotFoundError

NEW_WORK = object()
"""The note that chunks became claimable."""
MOST_CHUNK_EVENTS = 64
"""A move of more chunks than this is told as one change of its job."""


@dataclass(frozen=True, slots=True)
class _Tally:
    """What one chunk of a state adds to its step's counters."""

    left: int
    live: int
    failed: int


_TALLIES = {
    ChunkState.DEPEND: _Tally(1, 0, 0),
    ChunkState.WAITING: _Tally(1, 1, 0),
    ChunkState.RUNNING: _Tally(1, 1, 0),
    ChunkState.SUCCEEDED: _Tally(0, 0, 0),
    ChunkState.FAILED: _Tally(1, 0, 1),
    ChunkState.SKIPPED: _Tally(0, 0, 0),
    ChunkState.CANCELLED: _Tally(1, 0, 0),
}


def in_states(column: ColumnElement[Any], states: Collection[str]) -> ColumnElement[bool]:
    """`column` is one of `states`, as literals, and a single one as an equation: a partial index is used only where its
    own condition stands in the text."""
    literals: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state in sorted(states)]
    return column == literals[0] if len(literals) == 1 else column.in_(literals)


@dataclass(frozen=True, slots=True)
class Ending:
    """How the attempts end whose chunks are moved out of RUNNING."""

    state: AttemptState
    kind: FailureKind | None = None
    reason: str = ""
    hint: str = ""
    counted: bool = False
    """Whether the worker goes on the chunk's block list."""


STOPPED = Ending(AttemptState.STOPPED)


@dataclass(frozen=True, slots=True)
class Moved:
    """A chunk as it is after a move."""

    id: int
    studio: str
    job: int
    take: int
    step: str
    index: int
    frames: str
    context: str
    attempt: int
    failures: int
    worker: str | None
    memory_mb: int
    model: str
    fraction: float
    done_frames: str


RETURNED = tuple(
    CHUNK.c[name]
    for name in (
        "id",
        "studio",
        "job",
        "take",
        "step",
        "idx",
        "frames",
        "context",
        "attempt",
        "failures",
        "worker",
        "memory_mb",
        "model",
        "fraction",
        "done_frames",
    )
)


@dataclass(frozen=True, slots=True)
class ChunkMove:
    """A declared change of chunks' state: one statement for each kind of source, since counters differ by it."""

    to: ChunkState
    parts: tuple[tuple[_Tally, bool, Executable], ...]
    """Change of the counters a chunk, whether the source is RUNNING, the statement."""


def chunk_move(sources: Collection[ChunkState], to: ChunkState, where: ColumnElement[bool], **values: Any) -> ChunkMove:
    """Declare a move of the chunks that satisfy `where` and are in one of `sources`.

    Raises: StateError, at import, when the table of moves doesn't allow it.
    """
    groups: dict[tuple[_Tally, bool], set[ChunkState]] = {}
    for source in sources:
        check_move(CHUNK_MOVES, source, to, "a chunk")
        before, after = _TALLIES[source], _TALLIES[to]
        change = _Tally(after.left - before.left, after.live - before.live, after.failed - before.failed)
        groups.setdefault((change, source is ChunkState.RUNNING), set()).add(source)
    parts = []
    for (change, running), states in sorted(groups.items(), key=lambda group: sorted(group[1])):
        statement = hot(
            update(CHUNK)
            .where(in_states(CHUNK.c.state, states), where)
            .values(state=literal_column(f"'{to}'"), **values)
            .returning(*RETURNED)
        )
        parts.append((change, running, statement))
    return ChunkMove(to, tuple(parts))


_COUNT = hot(
    update(STEP)
    .where(STEP.c.job == bindparam("of_job"), STEP.c.take == bindparam("of_take"), STEP.c.name == bindparam("of_step"))
    .values(
        chunks_left=STEP.c.chunks_left + bindparam("d_left"),
        live=STEP.c.live + bindparam("d_live"),
        failed=STEP.c.failed + bindparam("d_failed"),
    )
)
_END_ATTEMPT = hot(
    update(ATTEMPT)
    .where(ATTEMPT.c.chunk == bindparam("of_chunk"), ATTEMPT.c.number == bindparam("of_number"))
    .values(
        state=bindparam("to_state"),
        ended_at=bindparam("at"),
        kind=bindparam("why"),
        reason=bindparam("said"),
        hint=bindparam("advice"),
        counted=bindparam("blocks"),
    )
)


def move_chunks(
    tx: Transaction, move: ChunkMove, values: Mapping[str, Any], *, now: float, ending: Ending = STOPPED
) -> list[Moved]:
    """Carry out a declared move, and everything that has to change with it. Returns the chunks that were moved."""
    moved: list[Moved] = []
    for change, running, statement in move.parts:
        part = [Moved(*row) for row in tx.rows(statement, values)]
        if not part:
            continue
        moved += part
        if change != _Tally(0, 0, 0):
            counts = {"d_left": change.left, "d_live": change.live, "d_failed": change.failed}
            for (job, take, step), number in Counter((c.job, c.take, c.step) for c in part).items():
                place = {"of_job": job, "of_take": take, "of_step": step}
                tx.execute(_COUNT, place | {name: delta * number for name, delta in counts.items()})
        if running:
            end = {
                "to_state": ending.state,
                "at": now,
                "why": ending.kind or "",
                "said": ending.reason,
                "advice": ending.hint,
                "blocks": int(ending.counted),
            }
            tx.execute(_END_ATTEMPT, [end | {"of_chunk": c.id, "of_number": c.attempt} for c in part])
    _announce(tx, moved, move.to)
    return moved


def _announce(tx: Transaction, moved: list[Moved], to: ChunkState) -> None:
    if not moved:
        return
    if to is ChunkState.WAITING:
        tx.tell(NEW_WORK)
    if len(moved) > MOST_CHUNK_EVENTS:
        for studio, job in {(c.studio, c.job) for c in moved}:
            tx.tell(Draft(EventKind.JOB, studio, job, {"chunks": to}))
        return
    for chunk in moved:
        tx.tell(chunk_event(chunk, to))


def chunk_event(
    chunk: Moved,
    state: ChunkState,
    kind: EventKind = EventKind.CHUNK,
    *,
    note: str = "",
    shown: Collection[int] = (),
) -> Draft:
    """What is told of a chunk. `note` is what its worker says it is doing, `shown` are frames with a new preview."""
    data = {
        "chunk": chunk.id,
        "take": chunk.take,
        "step": chunk.step,
        "index": chunk.index,
        "frames": chunk.frames,
        "state": state,
        "attempt": chunk.attempt,
        "worker": chunk.worker,
        "fraction": chunk.fraction,
        "done_frames": chunk.done_frames,
        "note": note,
        "previews": list(shown),
    }
    return Draft(kind, chunk.studio, chunk.job, data)


@dataclass(frozen=True, slots=True)
class JobMove:
    """A declared change of a job's state."""

    to: JobState
    statement: Executable


def job_move(sources: Collection[JobState], to: JobState, **values: Any) -> JobMove:
    """Declare a move of one job, `of_job`, out of `sources`. Raises: StateError, at import."""
    for source in sources:
        check_move(JOB_MOVES, source, to, "a job")
    statement = hot(
        update(JOB)
        .where(JOB.c.id == bindparam("of_job"), in_states(JOB.c.state, sources))
        .values(state=literal_column(f"'{to}'"), **values)
        .returning(JOB.c.studio, JOB.c.message)
    )
    return JobMove(to, statement)


def move_job(tx: Transaction, move: JobMove, values: Mapping[str, Any]) -> bool:
    """Carry out a declared move. False when the job was in none of its sources."""
    row = tx.first(move.statement, values)
    if row is None:
        return False
    tx.tell(Draft(EventKind.JOB, row.studio, values["of_job"], {"state": move.to, "message": row.message}))
    return True


_NOTE = hot(
    update(JOB)
    .where(JOB.c.id == bindparam("of_job"))
    .values(message=bindparam("said"), hint=bindparam("advice"))
    .returning(JOB.c.studio, JOB.c.state)
)


def note_on_job(tx: Transaction, job: int, message: str, hint: str) -> None:
    """Say on the job what went wrong, at once and whatever becomes of it."""
    row = tx.first(_NOTE, {"of_job": job, "said": message, "advice": hint})
    assert row is not None  # the caller holds a chunk of it
    tx.tell(Draft(EventKind.JOB, row.studio, job, {"state": row.state, "message": message}))


_JOB_STATE = hot(select(JOB.c.state).where(JOB.c.id == bindparam("of_job"), JOB.c.studio == bindparam("of_studio")))


def job_state(tx: Transaction, studio: str, job: int) -> JobState:
    """How a job of this studio stands. Raises: NotFoundError, also for another studio's job."""
    row = tx.first(_JOB_STATE, {"of_job": job, "of_studio": studio})
    if row is None:
        raise no_job(job)
    return JobState(row.state)


def no_job(job: int) -> NotFoundError:
    """The answer to a number that isn't visible to whoever asked."""
    return NotFoundError(f"there is no job {job}", "`plates jobs` lists them")


# Conclusions that follow from the chunks


RELEASE = chunk_move(
    {ChunkState.DEPEND},
    ChunkState.WAITING,
    (CHUNK.c.job == bindparam("of_job"))
    & (CHUNK.c.take == bindparam("of_take"))
    & (CHUNK.c.step == bindparam("of_step")),
)
START = job_move({JobState.WAITING}, JobState.RUNNING, started_at=bindparam("at"))
SUCCEED = job_move(
    {JobState.WAITING, JobState.RUNNING}, JobState.SUCCEEDED, ended_at=bindparam("at"), message="", hint=""
)
GIVE_UP = job_move({JobState.WAITING, JobState.RUNNING}, JobState.FAILED, ended_at=bindparam("at"))
_STEPS = hot(
    select(STEP, JOB.c.state)
    .select_from(STEP)
    .join(JOB, JOB.c.id == STEP.c.job)
    .where(STEP.c.job == bindparam("of_job"))
    .order_by(STEP.c.take, STEP.c.place)
)


def settle(tx: Transaction, job: int, *, now: float) -> None:
    """Draw the conclusions after chunks of `job` have moved: release steps, end the job.

    A step starts when every step it comes after is done. A job has succeeded when nothing is left, and has failed when
    something failed and nothing waits or runs any more: one bad chunk doesn't stop the others.
    """
    rows = tx.rows(_STEPS, {"of_job": job})
    if not rows or rows[0].state not in (JobState.WAITING, JobState.RUNNING):
        return
    left = {(row.take, row.name): row.chunks_left for row in rows}
    if not any(left.values()):
        move_job(tx, SUCCEED, {"of_job": job, "at": now})
        return
    live = 0
    for row in rows:
        live += row.live
        held = row.chunks_left - row.live - row.failed
        if held and not any(left[row.take, name] for name in row.after.split(",") if name):
            live += len(move_chunks(tx, RELEASE, {"of_job": job, "of_take": row.take, "of_step": row.name}, now=now))
    if not live:
        move_job(tx, GIVE_UP, {"of_job": job, "at": now})
