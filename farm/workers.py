"""The workers that the dispatcher has heard of. A worker is alive while it was heard of within `FarmSettings.alive_s`."""

from __future__ import annotations

import json

from sqlalchemy import BindParameter, ColumnElement, and_, bindparam, insert, select, update

from farm.moves import in_states
from farm.records import WorkerHello, WorkerView
from farm.statements import hot
from farm.states import ChunkState
from farm.store import Transaction
from farm.tables import CHUNK, WORKER

SEEN_EVERY_S = 5.0
"""A worker's last sign of life is written at most so often: it isn't worth a page in every transaction."""

_ONE = and_(WORKER.c.studio == bindparam("of_studio"), WORKER.c.name == bindparam("of_worker"))
_FACTS = ("host", "pools", "tags", "memory_mb", "model", "software")
_KNOWN = hot(select(*(WORKER.c[name] for name in _FACTS), WORKER.c.last_seen).where(_ONE))
_NEW = hot(insert(WORKER))
_CHANGED = hot(update(WORKER).where(_ONE).values({name: bindparam(f"to_{name}") for name in (*_FACTS, "last_seen")}))
_SEEN = hot(update(WORKER).where(_ONE, WORKER.c.last_seen < bindparam("stale")).values(last_seen=bindparam("at")))
_GONE = hot(update(WORKER).where(_ONE).values(last_seen=0.0))


def is_live(since: BindParameter[float]) -> ColumnElement[bool]:
    """The condition that a worker was heard of after `since`."""
    return WORKER.c.last_seen >= since


def remember(tx: Transaction, worker: WorkerHello, *, now: float) -> None:
    """Keep what a worker says of itself."""
    who = {"of_studio": worker.studio, "of_worker": worker.name}
    facts = {
        "host": worker.host,
        "pools": f",{','.join(worker.pools)},",
        "tags": json.dumps(dict(worker.tags), sort_keys=True),
        "memory_mb": worker.memory_mb,
        "model": worker.model,
        "software": worker.software,
    }
    known = tx.first(_KNOWN, who)
    if known is None:
        tx.execute(_NEW, facts | {"studio": worker.studio, "name": worker.name, "first_seen": now, "last_seen": now})
    elif known.last_seen < now - SEEN_EVERY_S or known[:-1] != tuple(facts.values()):
        tx.execute(_CHANGED, who | {f"to_{name}": value for name, value in facts.items()} | {"to_last_seen": now})


def still_there(tx: Transaction, studio: str, worker: str, *, now: float) -> None:
    """Keep that a worker reported."""
    tx.execute(_SEEN, {"of_studio": studio, "of_worker": worker, "at": now, "stale": now - SEEN_EVERY_S})


def forget(tx: Transaction, studio: str, worker: str) -> None:
    """Count a worker as gone from now on."""
    tx.execute(_GONE, {"of_studio": studio, "of_worker": worker})


_ALL = (
    select(WORKER, CHUNK.c.id.label("chunk_id"), CHUNK.c.job.label("job_id"))
    .select_from(WORKER)
    .outerjoin(
        CHUNK,
        and_(
            CHUNK.c.studio == WORKER.c.studio,
            CHUNK.c.worker == WORKER.c.name,
            in_states(CHUNK.c.state, {ChunkState.RUNNING}),
        ),
    )
    .where(WORKER.c.studio == bindparam("of_studio"))
    .order_by(WORKER.c.name)
)


def list_workers(tx: Transaction, studio: str, *, alive_since: float) -> tuple[WorkerView, ...]:
    """Every worker of a studio, by name."""
    return tuple(
        WorkerView(
            name=row.name,
            studio=row.studio,
            host=row.host,
            state="lost" if row.last_seen < alive_since else "idle" if row.chunk_id is None else "busy",
            pools=tuple(pool for pool in row.pools.split(",") if pool),
            memory_mb=row.memory_mb,
            model=row.model,
            tags=json.loads(row.tags),
            software=row.software,
            first_seen=row.first_seen,
            last_seen=row.last_seen,
            chunk_id=row.chunk_id,
            job_id=row.job_id,
        )
        for row in tx.rows(_ALL, {"of_studio": studio})
    )
