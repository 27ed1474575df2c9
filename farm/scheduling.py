"""Which chunk a worker is given.

Who may have a chunk: a worker of its studio that serves its pool and has its memory, once `not_before` has passed. The
highest priority first, then the oldest; among those of the highest priority, chunks of the model that is loaded.

A worker that failed a chunk is on its block list, and isn't offered it again, unless every live worker that could do it
has failed it too: a farm of one machine tries again on that machine, after the back-off.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Exists, Select, and_, bindparam, exists, insert, literal, or_, select, update

from farm.moves import START, Ending, Moved, chunk_move, in_states, move_chunks, move_job
from farm.prices import farm_price
from farm.records import WorkerHello
from farm.statements import hot
from farm.states import AttemptState, ChunkState
from farm.tables import ATTEMPT, CHUNK, JOB, STEP, WORKER
from farm.turn import THE_HOLDERS, Held, Turn
from farm.workers import is_live, remember


def _tried(worker: ColumnElement[str]) -> Exists:
    """Whether the worker is on the chunk's block list."""
    return exists().where(ATTEMPT.c.chunk == CHUNK.c.id, ATTEMPT.c.counted == 1, ATTEMPT.c.worker == worker)


def _offer(*, warm: bool) -> Select[int, int, str]:
    """The best chunk for a worker in one pool. With `warm`, of its loaded model and not below a priority."""
    tried = _tried(bindparam("of_worker")).correlate(CHUNK)
    someone_else = (
        exists()
        .where(
            WORKER.c.studio == CHUNK.c.studio,
            is_live(bindparam("alive_since")),
            WORKER.c.pools.contains(literal(",") + CHUNK.c.pool + ","),
            WORKER.c.memory_mb >= CHUNK.c.memory_mb,
            ~_tried(WORKER.c.name).correlate(CHUNK, WORKER),
        )
        .correlate(CHUNK)
    )
    statement = select(CHUNK.c.id, CHUNK.c.priority, CHUNK.c.model).where(
        in_states(CHUNK.c.state, {ChunkState.WAITING}),
        CHUNK.c.studio == bindparam("of_studio"),
        CHUNK.c.pool == bindparam("of_pool"),
        CHUNK.c.memory_mb <= bindparam("with_memory"),
        CHUNK.c.not_before <= bindparam("at"),
        or_(CHUNK.c.failures == 0, ~tried, ~someone_else),
    )
    if warm:
        statement = statement.where(
            CHUNK.c.model == bindparam("of_model"), CHUNK.c.priority >= bindparam("least_priority")
        )
    return statement.order_by(CHUNK.c.priority.desc(), CHUNK.c.id).limit(1)


_BEST = hot(_offer(warm=False))
_BEST_WARM = hot(_offer(warm=True))
TAKE = chunk_move(
    {ChunkState.WAITING},
    ChunkState.RUNNING,
    CHUNK.c.id == bindparam("of_chunk"),
    worker=bindparam("to_worker"),
    attempt=CHUNK.c.attempt + 1,
    lease_until=bindparam("until"),
    progress_at=bindparam("at"),
    fraction=0.0,
    done_frames="",
)
UNDELIVERED = chunk_move(
    {ChunkState.RUNNING},
    ChunkState.WAITING,
    and_(CHUNK.c.studio == bindparam("of_studio"), CHUNK.c.worker == bindparam("of_worker")),
)
GIVE_BACK = chunk_move({ChunkState.RUNNING}, ChunkState.WAITING, THE_HOLDERS)
_NEW_ATTEMPT = hot(insert(ATTEMPT))
_FORGET_MESSAGE = hot(
    update(JOB)
    .where(
        JOB.c.id == bindparam("of_job"),
        JOB.c.message != "",
        ~exists().where(STEP.c.job == JOB.c.id, STEP.c.failed > 0),
    )
    .values(message="", hint="")
)


def claim(turn: Turn, worker: WorkerHello) -> Moved | None:
    """Give a worker the best chunk that it may have, under a new attempt number.

    A worker holds one chunk at a time, so whatever it still holds when it asks for another never reached it.
    """
    tx, now = turn.tx, turn.now
    remember(tx, worker, now=now)
    never = Ending(AttemptState.STOPPED, reason="its assignment never reached the worker")
    mine = {"of_studio": worker.studio, "of_worker": worker.name}
    move_chunks(tx, UNDELIVERED, mine, now=now, ending=never)
    best = _best(turn, worker)
    if best is None:
        return None
    lease = {"of_chunk": best, "to_worker": worker.name, "at": now, "until": now + turn.settings.lease_s}
    (chunk,) = move_chunks(tx, TAKE, lease, now=now)
    attempt = {"chunk": chunk.id, "number": chunk.attempt, "worker": worker.name, "state": AttemptState.RUNNING}
    price = farm_price(worker.tags, turn.settings)
    cost = {"gpus": price.gpus, "rate": price.rate}
    tx.execute(_NEW_ATTEMPT, attempt | {"started_at": now, "kind": "", "reason": "", "hint": "", "counted": 0} | cost)
    if not move_job(tx, START, {"of_job": chunk.job, "at": now}) and chunk.attempt > 1:
        tx.execute(_FORGET_MESSAGE, {"of_job": chunk.job})
    return chunk


def _best(turn: Turn, worker: WorkerHello) -> int | None:
    values = {
        "of_studio": worker.studio,
        "of_worker": worker.name,
        "with_memory": worker.memory_mb,
        "at": turn.now,
        "alive_since": turn.now - turn.settings.alive_s,
    }
    for pool in worker.pools:
        best = turn.tx.first(_BEST, values | {"of_pool": pool})
        if best is None:
            continue
        if worker.model and best.model != worker.model:
            same = {"of_pool": pool, "of_model": worker.model, "least_priority": best.priority}
            best = turn.tx.first(_BEST_WARM, values | same) or best
        return int(best.id)
    return None


def give_back(turn: Turn, held: Held) -> None:
    """Undo a claim whose answer could not be delivered. Nobody is blamed."""
    never = Ending(AttemptState.STOPPED, reason="its assignment never reached the worker")
    move_chunks(turn.tx, GIVE_BACK, held.values(), now=turn.now, ending=never)
