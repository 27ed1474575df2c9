"""What workers report: progress, a result, a failure. Only the newest attempt of a chunk is listened to.

A failure that counts puts the worker on the chunk's block list, and the chunk has failed at `max_attempts` of them; so up
to three machines are asked before a frame is blamed. Storage faults count nothing and are tried again later. Refused
input fails the job at once, whoever might try.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, select, update

from farm.events import EventKind
from farm.moves import (
    GIVE_UP,
    RETURNED,
    Ending,
    Moved,
    chunk_event,
    chunk_move,
    in_states,
    move_chunks,
    move_job,
    note_on_job,
    settle,
)
from farm.records import Failure, Stop, Verdict
from farm.registering import record_registered
from farm.reservations import record_published
from farm.statements import hot
from farm.states import COUNTED_KINDS, AttemptState, ChunkState, FailureKind, JobState
from farm.tables import ATTEMPT, CHUNK, JOB
from farm.turn import THE_HOLDERS, Held, Turn
from farm.workers import still_there
from pipeline.errors import NotFoundError
from pipeline.frames import FrameRange
from pipeline.jobs.plan import StepName

_LOOK = hot(
    select(
        CHUNK.c.job,
        CHUNK.c.state,
        CHUNK.c.attempt,
        CHUNK.c.worker,
        CHUNK.c.failures,
        CHUNK.c.progress_at,
        CHUNK.c.fraction,
        CHUNK.c.done_frames,
        JOB.c.state.label("job_state"),
    )
    .select_from(CHUNK)
    .join(JOB, JOB.c.id == CHUNK.c.job)
    .where(CHUNK.c.id == bindparam("of_chunk"), CHUNK.c.studio == bindparam("of_studio"))
)
_PROGRESS = hot(
    update(CHUNK)
    .where(in_states(CHUNK.c.state, {ChunkState.RUNNING}), THE_HOLDERS)
    .values(
        lease_until=bindparam("until"),
        progress_at=bindparam("moved_at"),
        fraction=bindparam("part"),
        done_frames=bindparam("frames_done"),
    )
    .returning(*RETURNED)
)
ACCEPT = chunk_move(
    {ChunkState.RUNNING}, ChunkState.SUCCEEDED, THE_HOLDERS, fraction=1.0, not_before=0.0, result=bindparam("answer")
)


@dataclass(frozen=True, slots=True)
class News:
    """What a heartbeat says."""

    fraction: float = 0.0
    done_frames: str = ""
    note: str = ""
    advanced: bool = True
    """Whether anything was done since the last heartbeat: a hung session still lets its worker talk."""
    previews: tuple[int, ...] = ()
    """Frames that can be looked at since the last heartbeat."""


def progress(turn: Turn, held: Held, news: News) -> Verdict:
    """Extend the lease, or say why to stop. A worker that only says it is alive, and never gets on, loses the chunk.

    Raises: FrameRangeError when `done_frames` is no frame range, NotFoundError when there is no such chunk.
    """
    frames = str(FrameRange.parse(news.done_frames))
    still_there(turn.tx, held.studio, held.worker, now=turn.now)
    row = _look(turn, held)
    if not _is_holder(row, held):
        return Verdict(_why_stop(row.job_state, row.state))
    settings = turn.settings
    if not news.advanced and turn.now - row.progress_at > settings.no_progress_s:
        stuck = f"no progress for {settings.no_progress_s:.0f} s"
        come_to_nothing(turn, held, Failure(FailureKind.HUNG, stuck, "the attempt's log ends where it got stuck"))
        return Verdict(Stop.LOST)
    values = {
        "until": turn.now + settings.lease_s,
        "moved_at": turn.now if news.advanced else row.progress_at,
        "part": min(max(news.fraction, 0.0), 1.0),
        "frames_done": frames,
    }
    after = turn.tx.first(_PROGRESS, held.values() | values)
    assert after is not None  # the look above is of the same transaction
    if news.previews:
        shown = chunk_event(Moved(*after), ChunkState.RUNNING, EventKind.PREVIEW, note=news.note, shown=news.previews)
        turn.tx.tell(shown)
    elif news.note or frames != row.done_frames or news.fraction != row.fraction:
        turn.tx.tell(chunk_event(Moved(*after), ChunkState.RUNNING, note=news.note))
    return Verdict(lease_s=settings.lease_s)


def complete(turn: Turn, held: Held, result: Mapping[str, Any]) -> bool:
    """Accept an attempt's result if it is the chunk's newest. The same report twice is accepted twice and done once."""
    still_there(turn.tx, held.studio, held.worker, now=turn.now)
    answer = json.dumps(result, separators=(",", ":"), allow_nan=False)
    done = AttemptState.SUCCEEDED
    moved = move_chunks(turn.tx, ACCEPT, held.values() | {"answer": answer}, now=turn.now, ending=Ending(done))
    if not moved:
        row = _look(turn, held)
        same = (row.attempt, row.worker) == (held.attempt, held.worker)
        return bool(row.state == ChunkState.SUCCEEDED and same)
    (chunk,) = moved
    if chunk.step == StepName.PUBLISH:
        record_published(turn.tx, job=chunk.job, take=chunk.take, result=result, now=turn.now)
    elif chunk.step == StepName.REGISTER:
        record_registered(turn, job=chunk.job, result=result)
    settle(turn.tx, chunk.job, now=turn.now)
    return True


def fail(turn: Turn, held: Held, failure: Failure) -> bool:
    """Take note that an attempt came to nothing. False when the attempt wasn't the newest any more."""
    still_there(turn.tx, held.studio, held.worker, now=turn.now)
    if not _is_holder(_look(turn, held), held):
        return False
    come_to_nothing(turn, held, failure)
    return True


def _look(turn: Turn, held: Held) -> Any:
    row = turn.tx.first(_LOOK, {"of_chunk": held.chunk, "of_studio": held.studio})
    if row is None:
        raise NotFoundError(f"there is no chunk {held.chunk}", "the worker speaks to another dispatcher than before")
    return row


def _is_holder(row: Any, held: Held) -> bool:
    return (row.state, row.attempt, row.worker) == (ChunkState.RUNNING, held.attempt, held.worker)


def _why_stop(job: str, chunk: str) -> Stop:
    if job == JobState.CANCELLED or chunk in (ChunkState.CANCELLED, ChunkState.SKIPPED):
        return Stop.CANCELLED
    return Stop.PAUSED if job == JobState.PAUSED else Stop.LOST


_AGAIN = chunk_move(
    {ChunkState.RUNNING},
    ChunkState.WAITING,
    THE_HOLDERS,
    failures=CHUNK.c.failures + bindparam("more_failures"),
    not_before=bindparam("later"),
)
_GIVEN_UP = chunk_move(
    {ChunkState.RUNNING}, ChunkState.FAILED, THE_HOLDERS, failures=CHUNK.c.failures + bindparam("more_failures")
)
HOLD = chunk_move(
    {ChunkState.WAITING, ChunkState.RUNNING}, ChunkState.DEPEND, CHUNK.c.job == bindparam("of_job"), not_before=0.0
)
_STORAGE_FAULTS = hot(
    select(func.count())
    .select_from(ATTEMPT)
    .where(ATTEMPT.c.chunk == bindparam("of_chunk"), ATTEMPT.c.kind == FailureKind.STORAGE.value)
)


def come_to_nothing(turn: Turn, held: Held, failure: Failure) -> None:
    """End the newest attempt of a running chunk, and decide: again later, or failed for good."""
    tx, now, settings = turn.tx, turn.now, turn.settings
    row = _look(turn, held)
    counted = failure.kind in COUNTED_KINDS
    state = AttemptState.LOST if failure.kind is FailureKind.LOST else AttemptState.FAILED
    ending = Ending(state, failure.kind, failure.message, failure.hint, counted)
    values = held.values() | {"more_failures": int(counted)}
    failures = row.failures + int(counted)
    if failure.kind is FailureKind.REFUSED or failures >= settings.max_attempts:
        move_chunks(tx, _GIVEN_UP, values, now=now, ending=ending)
        note_on_job(tx, row.job, failure.message, failure.hint)
        if failure.kind is FailureKind.REFUSED:
            given_up = Ending(AttemptState.STOPPED, reason="the job was given up")
            move_chunks(tx, HOLD, {"of_job": row.job}, now=now, ending=given_up)
            move_job(tx, GIVE_UP, {"of_job": row.job, "at": now})
        settle(tx, row.job, now=now)
        return
    if failure.kind is FailureKind.STORAGE:
        before = tx.first(_STORAGE_FAULTS, {"of_chunk": held.chunk})
        assert before is not None  # a count always has a row
        wait_s = min(settings.storage_backoff_s * 2.0 ** min(before[0], 30), settings.storage_backoff_most_s)
        note_on_job(tx, row.job, f"{failure.message}; trying again in {wait_s:.0f} s", failure.hint)
    elif failure.kind is FailureKind.LOST:
        wait_s = 0.0  # a whole lease has gone by already
    else:
        wait_s = settings.retry_backoff_s * 2.0 ** (failures - 1)
    move_chunks(tx, _AGAIN, values | {"later": now + wait_s}, now=now, ending=ending)
