"""Why a job isn't running, in words. Looked at in the order in which a person would."""

from __future__ import annotations

from sqlalchemy import func, select

from farm.moves import in_states
from farm.queries import get_job
from farm.records import JobView, WorkerView
from farm.states import ChunkState, JobState
from farm.store import Transaction
from farm.tables import CHUNK
from farm.workers import list_workers

MOST_COUNTED = 10_000


def why_waiting(tx: Transaction, studio: str, job: int, *, now: float, alive_since: float) -> str:
    """One true sentence on what the job waits for. Raises: NotFoundError."""
    view = get_job(tx, studio, job)
    if view.state is JobState.PAUSED:
        return "It is paused: resume it."
    if view.state not in (JobState.WAITING, JobState.RUNNING):
        said = f" ({view.message})" if view.message else ""
        has = "has " if view.state in (JobState.SUCCEEDED, JobState.FAILED) else "was "
        return f"It waits for nothing: it {has}{view.state}{said}."
    if view.running:
        return f"It is running: {view.running} chunk{'s' * (view.running > 1)} on workers now."
    workers = [w for w in list_workers(tx, studio, alive_since=alive_since) if w.state != "lost"]
    return _no_worker(tx, view, workers) or _later(tx, view, now) or _behind(tx, view) or _busy(workers)


def _no_worker(tx: Transaction, job: JobView, workers: list[WorkerView]) -> str:
    if not workers:
        return "No worker is alive: start one with `plates worker`."
    serving = [worker for worker in workers if job.pool in worker.pools]
    if not serving:
        return f"None of the {len(workers)} live workers serves the pool {job.pool!r}."
    needs = tx.rows(
        select(func.min(CHUNK.c.memory_mb)).where(CHUNK.c.job == job.id, in_states(CHUNK.c.state, {ChunkState.WAITING}))
    )[0][0]
    most = max(worker.memory_mb for worker in serving)
    if needs is not None and needs > most:
        return f"It needs {needs} MB in one session, and no live worker has more than {most} MB."
    return ""


def _later(tx: Transaction, job: JobView, now: float) -> str:
    row = tx.rows(
        select(func.min(CHUNK.c.not_before)).where(
            CHUNK.c.job == job.id, in_states(CHUNK.c.state, {ChunkState.WAITING})
        )
    )[0]
    if row[0] is None or row[0] <= now:
        return ""
    said = f" after: {job.message}" if job.message else ""
    return f"It is tried again in {row[0] - now:.0f} s{said}."


def _behind(tx: Transaction, job: JobView) -> str:
    ahead = (
        select(CHUNK.c.id)
        .where(
            in_states(CHUNK.c.state, {ChunkState.WAITING}),
            CHUNK.c.studio == job.studio,
            CHUNK.c.pool == job.pool,
            CHUNK.c.job != job.id,
            (CHUNK.c.priority > job.priority) | ((CHUNK.c.priority == job.priority) & (CHUNK.c.job < job.id)),
        )
        .limit(MOST_COUNTED)
        .subquery()
    )
    number = tx.rows(select(func.count()).select_from(ahead))[0][0]
    if not number:
        return ""
    many = f"{MOST_COUNTED} or more" if number >= MOST_COUNTED else str(number)
    return f"{many} chunk{'s' * (number > 1)} of the same pool go first, by priority or age."


def _busy(workers: list[WorkerView]) -> str:
    busy = sum(worker.state == "busy" for worker in workers)
    if busy == len(workers):
        return f"All {busy} live workers are busy: it is next."
    return "It is next: a worker takes it with its next request."
