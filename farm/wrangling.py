"""What people do to jobs: cancel, pause, resume, retry, skip, change the priority."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import and_, bindparam, literal_column, or_, select, update

from farm.events import Draft, EventKind
from farm.moves import (
    NEW_WORK,
    Ending,
    chunk_move,
    in_states,
    job_move,
    job_state,
    move_chunks,
    move_job,
    settle,
)
from farm.reports import HOLD
from farm.reservations import give_number_back
from farm.states import FINISHED_JOBS, JOB_MOVES, AttemptState, ChunkState, JobState, check_move
from farm.tables import ATTEMPT, CHUNK, JOB, STEP
from farm.turn import Turn
from pipeline.errors import NotFoundError, StateError
from pipeline.frames import FrameRange
from pipeline.jobs.plan import StepName

_OF_JOB = CHUNK.c.job == bindparam("of_job")
_ONE_CHUNK = and_(_OF_JOB, CHUNK.c.id == bindparam("of_chunk"))

CANCEL_CHUNKS = chunk_move(
    set(ChunkState) - {ChunkState.SUCCEEDED, ChunkState.CANCELLED}, ChunkState.CANCELLED, _OF_JOB
)
CANCEL = job_move(
    {JobState.WAITING, JobState.RUNNING, JobState.PAUSED, JobState.FAILED},
    JobState.CANCELLED,
    ended_at=bindparam("at"),
    message="cancelled",
    hint="",
)
_PUBLISHES = select(CHUNK.c.take, CHUNK.c.attempt).where(
    _OF_JOB, CHUNK.c.step == literal_column(f"'{StepName.PUBLISH}'")
)


def cancel(turn: Turn, studio: str, job: int) -> None:
    """Cancel a job for good, and give its version numbers back. Whoever works on it is told to stop.

    Raises: NotFoundError; StateError when it has ended for good already.
    """
    tx = turn.tx
    check_move(JOB_MOVES, job_state(tx, studio, job), JobState.CANCELLED, f"job {job}")
    move_job(tx, CANCEL, {"of_job": job, "at": turn.now})
    stopped = Ending(AttemptState.STOPPED, reason="the job was cancelled")
    for publish in tx.rows(_PUBLISHES, {"of_job": job}):
        give_number_back(tx, job=job, take=publish.take, publish_began=publish.attempt > 0)
    move_chunks(tx, CANCEL_CHUNKS, {"of_job": job}, now=turn.now, ending=stopped)


PAUSE = job_move({JobState.WAITING, JobState.RUNNING}, JobState.PAUSED)
RESUME = job_move({JobState.PAUSED}, JobState.RUNNING)
RESUME_UNSTARTED = job_move({JobState.PAUSED}, JobState.WAITING)
_STARTED_AT = select(JOB.c.started_at).where(JOB.c.id == bindparam("of_job"))


def pause(turn: Turn, studio: str, job: int) -> None:
    """Offer nothing of a job any more, and stop what runs, without blame. Raises: NotFoundError, StateError."""
    check_move(JOB_MOVES, job_state(turn.tx, studio, job), JobState.PAUSED, f"job {job}")
    move_job(turn.tx, PAUSE, {"of_job": job})
    stopped = Ending(AttemptState.STOPPED, reason="the job was paused")
    move_chunks(turn.tx, HOLD, {"of_job": job}, now=turn.now, ending=stopped)


def resume(turn: Turn, studio: str, job: int) -> None:
    """Go on with a paused job. Raises: NotFoundError, StateError."""
    state = job_state(turn.tx, studio, job)
    if state is not JobState.PAUSED:
        raise StateError(f"job {job} is {state}, not paused", "only a paused job can be resumed")
    started = turn.tx.first(_STARTED_AT, {"of_job": job})
    assert started is not None  # its state was read above
    move_job(turn.tx, RESUME_UNSTARTED if started.started_at is None else RESUME, {"of_job": job})
    settle(turn.tx, job, now=turn.now)


_REDOABLE = {ChunkState.RUNNING, ChunkState.SUCCEEDED, ChunkState.FAILED, ChunkState.SKIPPED}
REDO = chunk_move(
    _REDOABLE, ChunkState.DEPEND, _ONE_CHUNK, failures=0, not_before=0.0, fraction=0.0, done_frames="", result="{}"
)
_AFTERWARDS = and_(_OF_JOB, CHUNK.c.take == bindparam("of_take"), CHUNK.c.step == bindparam("of_step"))
UNDO = chunk_move(
    {*_REDOABLE, ChunkState.WAITING},
    ChunkState.DEPEND,
    _AFTERWARDS,
    failures=0,
    not_before=0.0,
    fraction=0.0,
    done_frames="",
    result="{}",
)
REVIVE = job_move({JobState.FAILED}, JobState.RUNNING, ended_at=None, message="", hint="")
_UNBLOCK = update(ATTEMPT).where(ATTEMPT.c.chunk == bindparam("of_chunk")).values(counted=0)
_NOW = (
    update(CHUNK).where(_ONE_CHUNK, in_states(CHUNK.c.state, {ChunkState.WAITING})).values(not_before=0.0, failures=0)
)
_CHUNKS = (
    select(CHUNK.c.id, CHUNK.c.take, CHUNK.c.step, CHUNK.c.frames, CHUNK.c.state, CHUNK.c.not_before)
    .where(_OF_JOB)
    .order_by(CHUNK.c.id)
)
_STEPS = select(STEP.c.take, STEP.c.name, STEP.c.after).where(STEP.c.job == bindparam("of_job")).order_by(STEP.c.place)


def retry(
    turn: Turn, studio: str, job: int, *, chunks: Collection[int] = (), frames: FrameRange | None = None
) -> list[int]:
    """Do chunks again: those named, those that write one of `frames`, or else all that failed. Returns their numbers.

    Failures and block lists start anew; the attempt numbers go on. Whatever later steps of the same take made of the old
    results is undone. A chunk that waits for a retry is let go at once.
    Raises: NotFoundError (no such job or chunk), StateError (the job ended for good, or nothing failed).
    """
    tx = turn.tx
    _check_alive(job_state(tx, studio, job), job)
    chosen = _choose(turn, job, chunks, frames)
    if not chunks and frames is None:
        chosen = [row for row in chosen if row.state == ChunkState.FAILED or _backs_off(row, turn.now)]
    if not chosen:
        raise StateError(f"nothing of job {job} has failed", "name chunks or frames to do them again")
    move_job(tx, REVIVE, {"of_job": job})
    stopped = Ending(AttemptState.STOPPED, reason="a person asked to do the chunk again")
    redone: set[tuple[int, str]] = set()
    for row in chosen:
        one = {"of_job": job, "of_chunk": row.id}
        if move_chunks(tx, REDO, one, now=turn.now, ending=stopped):
            redone.add((row.take, row.step))
        tx.execute(_NOW, one)
        tx.execute(_UNBLOCK, {"of_chunk": row.id})
    for step in tx.rows(_STEPS, {"of_job": job}):
        if any((step.take, name) in redone for name in step.after.split(",")):
            undone = Ending(AttemptState.STOPPED, reason="a step before it is being done again")
            move_chunks(
                tx, UNDO, {"of_job": job, "of_take": step.take, "of_step": step.name}, now=turn.now, ending=undone
            )
            redone.add((step.take, step.name))
    settle(tx, job, now=turn.now)
    tx.tell(NEW_WORK)
    return [row.id for row in chosen]


def _backs_off(row: Any, now: float) -> bool:
    return bool(row.state == ChunkState.WAITING and row.not_before > now)


SKIP = chunk_move(
    {ChunkState.DEPEND, ChunkState.WAITING, ChunkState.RUNNING, ChunkState.FAILED}, ChunkState.SKIPPED, _ONE_CHUNK
)


def skip(
    turn: Turn, studio: str, job: int, *, chunks: Collection[int] = (), frames: FrameRange | None = None
) -> list[int]:
    """Go on without some chunks: those named, or those that write one of `frames`. Returns their numbers.

    Raises: NotFoundError; StateError for a job that has ended, a chunk that succeeded, or a fit or publish, without which
    there is no result.
    """
    tx = turn.tx
    _check_alive(job_state(tx, studio, job), job)
    chosen = _choose(turn, job, chunks, frames)
    for row in chosen:
        if row.step != StepName.INFER:
            raise StateError(f"the {row.step} of job {job} can't be skipped", "retry it, or cancel the job")
        if row.state == ChunkState.SUCCEEDED:
            raise StateError(f"frames {row.frames} of job {job} are done already", "there is nothing to skip")
    if not chosen:
        raise NotFoundError(f"no chunk of job {job} was named", "name chunks or frames")
    move_job(tx, REVIVE, {"of_job": job})
    stopped = Ending(AttemptState.STOPPED, reason="a person skipped the chunk")
    for row in chosen:
        move_chunks(tx, SKIP, {"of_job": job, "of_chunk": row.id}, now=turn.now, ending=stopped)
    settle(tx, job, now=turn.now)
    return [row.id for row in chosen]


_JOB_PRIORITY = (
    update(JOB).where(JOB.c.id == bindparam("of_job")).values(priority=bindparam("to")).returning(JOB.c.state)
)
_CHUNK_PRIORITY = (
    update(CHUNK)
    .where(_OF_JOB, or_(bindparam("any_chunk"), CHUNK.c.id == bindparam("of_chunk")))
    .values(priority=bindparam("to"))
)


def set_priority(turn: Turn, studio: str, job: int, priority: int, *, chunk: int | None = None) -> None:
    """Change how urgent a job, or one chunk of it, is: 0 to 100. Raises: NotFoundError, StateError."""
    if not 0 <= priority <= 100:
        raise StateError(f"priority {priority} is outside 0 to 100", "50 is what jobs start with")
    _check_alive(job_state(turn.tx, studio, job), job)
    if chunk is None:
        turn.tx.execute(_JOB_PRIORITY, {"of_job": job, "to": priority})
    changed = turn.tx.execute(
        _CHUNK_PRIORITY, {"of_job": job, "any_chunk": chunk is None, "of_chunk": chunk or 0, "to": priority}
    )
    if chunk is not None and changed == 0:
        raise NotFoundError(f"job {job} has no chunk {chunk}")
    turn.tx.tell(Draft(EventKind.JOB, studio, job, {"priority": priority}))


def _check_alive(state: JobState, job: int) -> None:
    if state in FINISHED_JOBS:
        raise StateError(f"job {job} is {state}, which is final", "submit it again")


def _choose(turn: Turn, job: int, chunks: Collection[int], frames: FrameRange | None) -> list[Any]:
    rows = turn.tx.rows(_CHUNKS, {"of_job": job})
    if missing := set(chunks) - {row.id for row in rows}:
        raise NotFoundError(f"job {job} has no chunk {min(missing)}", "`plates status` lists its chunks")
    if frames is not None:
        wanted = frames.as_set()
        return [row for row in rows if row.step == StepName.INFER and wanted & FrameRange.parse(row.frames).as_set()]
    return [row for row in rows if not chunks or row.id in chunks]
