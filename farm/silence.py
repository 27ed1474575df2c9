"""Workers that come, go, and fall silent."""

from __future__ import annotations

from sqlalchemy import bindparam, literal_column, select, update

from farm.events import Draft, EventKind
from farm.moves import NEW_WORK, Ending, in_states, move_chunks
from farm.records import Failure, WorkerHello
from farm.reports import come_to_nothing
from farm.scheduling import UNDELIVERED
from farm.statements import hot
from farm.states import AttemptState, ChunkState, FailureKind
from farm.tables import CHUNK
from farm.turn import Held, Turn
from farm.workers import forget, remember

REAPED_AT_ONCE = 500

_OF_WORKER = hot(
    select(CHUNK.c.id, CHUNK.c.studio, CHUNK.c.worker, CHUNK.c.attempt)
    .where(
        in_states(CHUNK.c.state, {ChunkState.RUNNING}),
        CHUNK.c.studio == bindparam("of_studio"),
        CHUNK.c.worker == bindparam("of_worker"),
    )
    .order_by(CHUNK.c.id)
)
_EXPIRED = hot(
    select(CHUNK.c.id, CHUNK.c.studio, CHUNK.c.worker, CHUNK.c.attempt)
    .where(in_states(CHUNK.c.state, {ChunkState.RUNNING}), CHUNK.c.lease_until < bindparam("at"))
    .order_by(CHUNK.c.lease_until)
    .limit(REAPED_AT_ONCE)
)
_RENEW = hot(
    update(CHUNK)
    .where(in_states(CHUNK.c.state, {ChunkState.RUNNING}))
    .values(lease_until=bindparam("until"), progress_at=bindparam("at"))
)
_FORGET_BACKOFF = hot(
    update(CHUNK)
    .where(in_states(CHUNK.c.state, {ChunkState.WAITING}), CHUNK.c.not_before > 0)
    .values(not_before=bindparam("at"))
)
_DUE = hot(
    select(CHUNK.c.id)
    .where(
        in_states(CHUNK.c.state, {ChunkState.WAITING}),
        CHUNK.c.not_before > bindparam("since"),
        CHUNK.c.not_before <= bindparam("at"),
        CHUNK.c.not_before > literal_column("0"),
    )
    .limit(1)
)


def arrive(turn: Turn, worker: WorkerHello) -> None:
    """A worker process has started. What an earlier process of its name still held died with that."""
    remember(turn.tx, worker, now=turn.now)
    died = Failure(FailureKind.CRASH, f"the worker {worker.name} died and was started again")
    for row in turn.tx.rows(_OF_WORKER, {"of_studio": worker.studio, "of_worker": worker.name}):
        come_to_nothing(turn, Held(row.studio, row.worker, row.id, row.attempt), died)
    turn.tx.tell(Draft(EventKind.WORKER, worker.studio, None, {"worker": worker.name, "state": "idle"}))


def leave(turn: Turn, *, studio: str, worker: str) -> None:
    """A worker ends in good order: what it held goes back without blame, and nobody waits for it."""
    left = Ending(AttemptState.STOPPED, reason="the worker was stopped")
    mine = {"of_studio": studio, "of_worker": worker}
    move_chunks(turn.tx, UNDELIVERED, mine, now=turn.now, ending=left)
    forget(turn.tx, studio, worker)
    turn.tx.tell(Draft(EventKind.WORKER, studio, None, {"worker": worker, "state": "lost"}))


def reap(turn: Turn, *, since: float) -> int:
    """Take back what silent workers hold, and wake the others for retries that came due after `since`.

    Returns how many leases had run out; at most REAPED_AT_ONCE a call.
    """
    expired = turn.tx.rows(_EXPIRED, {"at": turn.now})
    for row in expired:
        silent = f"the worker {row.worker} fell silent"
        hint = "look whether its machine is up, or ran out of memory"
        come_to_nothing(
            turn, Held(row.studio, row.worker, row.id, row.attempt), Failure(FailureKind.LOST, silent, hint)
        )
        turn.tx.tell(Draft(EventKind.WORKER, row.studio, None, {"worker": row.worker, "state": "lost"}))
    if turn.tx.first(_DUE, {"since": since, "at": turn.now}) is not None:
        turn.tx.tell(NEW_WORK)
    return len(expired)


def renew(turn: Turn) -> None:
    """Give every lease its full length again: the dispatcher was away, so silence proves nothing about the workers."""
    turn.tx.execute(_RENEW, {"until": turn.now + turn.settings.lease_s, "at": turn.now})


def forget_backoff(turn: Turn) -> None:
    """Let what waits for a retry be tried at once: after a restart the clock may be another one."""
    turn.tx.execute(_FORGET_BACKOFF, {"at": turn.now})
