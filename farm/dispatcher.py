"""The dispatcher: the one owner of every job's state. Workers, people and pages all come through here.

Writes are coroutines: each hands one operation to the store's writer and answers when it is committed. Reads are plain
functions over one consistent state; call them with `asyncio.to_thread` where a loop must not wait. A program without a
loop of its own drives the coroutines with `asyncio.run` or `asyncio.Runner`: nothing here belongs to one loop.

Everything is asked for within a studio, and what belongs to another isn't there (NotFoundError). Time is the
dispatcher's clock alone: no worker's clock is ever read. The rules themselves are functions over a transaction, in
`submission`, `scheduling`, `reports`, `silence` and `wrangling`; every change of state passes `moves`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from farm import queries, reports, scheduling, silence, submission, tokens, waiting, workers, wrangling
from farm.assignments import Assignments
from farm.clock import Clock, steady_clock
from farm.events import Draft, EventHub, Signal, Subscription
from farm.moves import NEW_WORK, Moved
from farm.records import (
    Assignment,
    Completed,
    Counts,
    Failure,
    JobDetail,
    JobFilter,
    JobView,
    Submitted,
    TokenView,
    Verdict,
    VersionFilter,
    VersionView,
    WorkerHello,
    WorkerView,
    WorkFacts,
)
from farm.settings import FarmSettings
from farm.store import Store, Transaction
from farm.tokens import Identity, Scope
from farm.turn import Held, Turn
from farm.usage import UsageBook
from pipeline.errors import NotFoundError
from pipeline.frames import FrameRange
from pipeline.jobs.plan import Step
from pipeline.jobs.spec import JobSpec
from pipeline.jobs.training import AnySpec, TrainingSpec, read_spec

T = TypeVar("T")


class Dispatcher:
    """See the module. One dispatcher owns a store for as long as it lives."""

    def __init__(self, store: Store, settings: FarmSettings, *, clock: Clock | None = None) -> None:
        """Take over the queue as it stands: leases start anew, since nobody could report while no one listened.

        Raises: StorageError.
        """
        self._store = store
        self._settings = settings
        self._clock = clock or steady_clock()
        self._signal = Signal()
        self._assignments = Assignments(store, settings)
        self.usage_book = UsageBook()
        # Numbers go on growing over a restart, so that a listener who comes back is never shown old news as new.
        self._hub = EventHub(first_id=int(self._clock() * 1e6))
        store.listen(self._told)
        self._reaped_at = self._clock()
        store.submit(self._op(silence.renew)).result()
        store.submit(self._op(silence.forget_backoff)).result()
        self._tokens: dict[str, Identity] = store.submit(self._op(tokens.valid_tokens)).result()

    # What other desks do over the same queue

    async def write(self, op: Callable[[Turn], T]) -> T:
        """Carry out one operation in a transaction of its own, and answer when it is committed. Raises: what `op` raises."""
        return await asyncio.wrap_future(self._submit(op))

    def read(self, op: Callable[[Turn], T]) -> T:
        """Look at one consistent state. Raises: what `op` raises."""
        return self._store.read(self._op(op))

    # Jobs

    async def submit(
        self,
        spec: AnySpec,
        steps: Sequence[Step],
        *,
        work: WorkFacts,
        key: str | None = None,
        asked: str | None = None,
        taken_on_disk: Collection[int] = (),
        before: Callable[[Turn], object] = lambda _: None,
    ) -> Submitted:
        """Queue a planned job and reserve its version numbers. The same key with the same `asked` is the same job.

        `asked` is the request as it came in (the spec without seeds, when it isn't given); `taken_on_disk` are version
        numbers whose folders exist already; `before` is done in the same transaction, first.
        Raises: StateError (the key stands for another request), TemplateError (no version number left), StorageError, what
        `before` raises.
        """
        text = submission.what_is_asked(spec) if asked is None else asked

        def op(turn: Turn) -> Submitted:
            before(turn)
            job, created = submission.add_job(turn, spec, steps, work, key=key, asked=text, taken_on_disk=taken_on_disk)
            return Submitted(queries.get_job(turn.tx, spec.studio, job), created)

        return await self.write(op)

    def job_of_key(self, studio: str, key: str, asked: str) -> JobView | None:
        """The job that a key already stands for. Raises: StateError when it asked for something else."""

        def op(turn: Turn) -> JobView | None:
            job = submission.job_of_key(turn, studio, key, asked)
            return None if job is None else queries.get_job(turn.tx, studio, job)

        return self.read(op)

    async def cancel(self, studio: str, job: int) -> JobView:
        """Cancel a job for good. Raises: NotFoundError, StateError."""
        return await self._act(studio, job, partial(wrangling.cancel, studio=studio, job=job))

    async def pause(self, studio: str, job: int) -> JobView:
        """Stop a job without blame, to be resumed. Raises: NotFoundError, StateError."""
        return await self._act(studio, job, partial(wrangling.pause, studio=studio, job=job))

    async def resume(self, studio: str, job: int) -> JobView:
        """Go on with a paused job. Raises: NotFoundError, StateError."""
        return await self._act(studio, job, partial(wrangling.resume, studio=studio, job=job))

    async def retry(
        self, studio: str, job: int, *, chunk: int | None = None, frames: FrameRange | None = None
    ) -> JobView:
        """Do a chunk, the chunks of some frames, or all that failed again. Raises: NotFoundError, StateError."""
        return await self._act(
            studio, job, partial(wrangling.retry, studio=studio, job=job, chunks=_one(chunk), frames=frames)
        )

    async def skip(
        self, studio: str, job: int, *, chunk: int | None = None, frames: FrameRange | None = None
    ) -> JobView:
        """Go on without a chunk, or the chunks of some frames. Raises: NotFoundError, StateError."""
        return await self._act(
            studio, job, partial(wrangling.skip, studio=studio, job=job, chunks=_one(chunk), frames=frames)
        )

    async def set_priority(self, studio: str, job: int, priority: int, *, chunk: int | None = None) -> JobView:
        """Make a job, or one chunk of it, more or less urgent. Raises: NotFoundError, StateError."""
        return await self._act(
            studio, job, partial(wrangling.set_priority, studio=studio, job=job, priority=priority, chunk=chunk)
        )

    # Workers

    async def arrive(self, worker: WorkerHello) -> None:
        """A worker process starts: what an earlier one of its name still held is taken back at once."""
        await self.write(partial(silence.arrive, worker=worker))

    async def leave(self, studio: str, worker: str) -> None:
        """A worker ends in good order: what it holds goes back without blame."""
        await self.write(partial(silence.leave, studio=studio, worker=worker))

    async def claim(self, worker: WorkerHello, *, wait_s: float = 0.0) -> Assignment | None:
        """The next chunk for a worker, waiting up to `wait_s` for one. Cancelling the call gives the chunk back."""
        end = self._clock() + min(wait_s, self._settings.long_poll_s)
        while True:
            seen = self._signal.count
            given = await self._granted(worker, self._submit(partial(scheduling.claim, worker=worker)))
            if given is not None:
                return given
            left = end - self._clock()
            if left <= 0 or not await self._signal.wait(seen, left):
                return None

    async def work_available(self, since: int, timeout_s: float) -> bool:
        """Whether chunks became claimable after `work_signal` read `since`, within the time."""
        return await self._signal.wait(since, timeout_s)

    @property
    def work_signal(self) -> int:
        """How often chunks have become claimable."""
        return self._signal.count

    async def complete(
        self,
        studio: str,
        worker: str,
        chunk: int,
        attempt: int,
        result: Mapping[str, Any],
        *,
        claim: WorkerHello | None = None,
    ) -> Completed:
        """Hand in a chunk's result, and take the next chunk along: one commit for both.

        Not accepted when the attempt isn't the chunk's newest: its files must then be left alone. The next chunk is
        given either way. Raises: NotFoundError, StorageError (nothing is known to be kept: report again).
        """
        held = Held(studio, worker, chunk, attempt)
        # Two operations, so that no fault in claiming undoes the result; queued together, they share a commit.
        done = self._submit(partial(reports.complete, held=held, result=result))
        following = None if claim is None else self._submit(partial(scheduling.claim, worker=claim))
        try:
            accepted = await asyncio.wrap_future(done)
        except BaseException:
            if claim is not None and following is not None:
                following.add_done_callback(partial(self._give_back, claim))
            raise
        if claim is None or following is None:
            return Completed(accepted, None)
        return Completed(accepted, await self._granted(claim, following))

    async def fail(self, studio: str, worker: str, chunk: int, attempt: int, failure: Failure) -> bool:
        """Hand in that an attempt came to nothing. False when it isn't the chunk's newest. Raises: NotFoundError."""
        held = Held(studio, worker, chunk, attempt)
        return await self.write(partial(reports.fail, held=held, failure=failure))

    async def progress(
        self,
        studio: str,
        worker: str,
        chunk: int,
        attempt: int,
        *,
        fraction: float = 0.0,
        done_frames: str = "",
        note: str = "",
        advanced: bool = True,
        previews: Sequence[int] = (),
    ) -> Verdict:
        """A heartbeat: extends the lease, or says why to stop. `advanced` is whether anything was done since the last.

        Raises: NotFoundError, FrameRangeError (`done_frames`).
        """
        held = Held(studio, worker, chunk, attempt)
        news = reports.News(fraction, done_frames, note, advanced, tuple(previews))
        return await self.write(partial(reports.progress, held=held, news=news))

    async def reap(self) -> int:
        """Take back the chunks of workers that fell silent. To be called every `reap_s`; returns how many there were.

        After a longer gap (a stopped process, a database that was away) leases are renewed instead: silence that nobody
        could have broken proves nothing.
        """
        now, since = self._clock(), self._reaped_at
        if now - since > self._settings.lease_s / 2:
            await self.write(silence.renew)
        reaped = await self.write(partial(silence.reap, since=since))
        self._reaped_at = now
        return reaped

    # What people look at

    def jobs(
        self, studio: str, wanted: JobFilter | None = None, *, limit: int = 50, before: int | None = None
    ) -> tuple[JobView, ...]:
        """The newest jobs first; `before` is the last number of the page before."""
        found = partial(queries.list_jobs, studio=studio, wanted=wanted or JobFilter(), limit=limit, before=before)
        return self._store.read(found)

    def job(self, studio: str, job: int) -> JobDetail:
        """A job with its takes, chunks and attempts. Raises: NotFoundError."""
        currency = self._settings.currency
        return self.read(lambda turn: queries.job_detail(turn.tx, studio, job, now=turn.now, currency=currency))

    def job_view(self, studio: str, job: int) -> JobView:
        """A job at a glance. Raises: NotFoundError."""
        return self._store.read(partial(queries.get_job, studio=studio, job=job))

    def spec(self, studio: str, job: int) -> JobSpec:
        """A job of a plate as it was submitted. Raises: NotFoundError (also for a job of another kind)."""
        spec = self.any_spec(studio, job)
        if isinstance(spec, TrainingSpec):
            raise NotFoundError(f"job {job} has no plate", "it trains or judges a model")
        return spec

    def any_spec(self, studio: str, job: int) -> AnySpec:
        """A job of any kind as it was submitted. Raises: NotFoundError."""
        return read_spec(self._store.read(partial(queries.spec_text, studio=studio, job=job)))

    def publish_root(self, studio: str, job: int) -> str:
        """Under which folder a job works. Raises: NotFoundError."""
        return self._store.read(partial(queries.publish_root, studio=studio, job=job))

    def versions(
        self, studio: str, wanted: VersionFilter | None = None, *, limit: int = 50, before: int | None = None
    ) -> tuple[VersionView, ...]:
        """The newest versions first, published ones unless the filter says otherwise."""
        wanted = wanted or VersionFilter()
        return self._store.read(
            partial(queries.list_versions, studio=studio, wanted=wanted, limit=limit, before=before)
        )

    def version(self, studio: str, version: int) -> VersionView:
        """One version. Raises: NotFoundError."""
        return self._store.read(partial(queries.get_version, studio=studio, version=version))

    def workers(self, studio: str) -> tuple[WorkerView, ...]:
        """Every worker that was heard of."""
        return self._store.read(partial(workers.list_workers, studio=studio, alive_since=self._alive_since()))

    def counts(self, studio: str) -> Counts:
        """How much there is of everything."""
        return self._store.read(partial(queries.count, studio=studio, alive_since=self._alive_since()))

    def why_waiting(self, studio: str, job: int) -> str:
        """What a job waits for, in one sentence. Raises: NotFoundError."""
        now, alive = self._clock(), self._alive_since()
        return self._store.read(partial(waiting.why_waiting, studio=studio, job=job, now=now, alive_since=alive))

    def subscribe(self, studio: str | None, *, last_id: int | None = None, limit: int = 1_000) -> Subscription:
        """Listen to a studio's events, from now or from behind `last_id`. Needs a running loop."""
        return self._hub.subscribe(studio, last_id=last_id, limit=limit)

    # Tokens

    def token(self, secret: str) -> Identity | None:
        """Who a bearer token speaks for, or None. Looks into memory only: it is asked with every request."""
        return self._tokens.get(tokens.hash_token(secret))

    def is_current(self, who: Identity) -> bool:
        """Whether a valid token still speaks for somebody: what a browser was let in with may have been revoked since."""
        return who in self._tokens.values()

    async def create_token(self, studio: str, name: str, scopes: Iterable[Scope]) -> tuple[TokenView, str]:
        """A new token and its secret, which is shown this once."""
        secret = tokens.new_token()
        add = partial(tokens.add_token, studio=studio, name=name, scopes=tuple(scopes), secret=secret)
        view = await self.write(add)
        self._tokens[tokens.hash_token(secret)] = tokens.identity_of(view)
        return view, secret

    async def revoke_token(self, studio: str, token: int) -> None:
        """End a token at once. Raises: NotFoundError."""
        self._tokens.pop(await self.write(partial(tokens.revoke_token, studio=studio, token=token)), None)

    def tokens(self, studio: str) -> tuple[TokenView, ...]:
        """The tokens of a studio, without their secrets."""
        return self.read(partial(tokens.list_tokens, studio=studio))

    # Inner workings

    def _op(self, op: Callable[[Turn], T]) -> Callable[[Transaction], T]:
        # The time is read when the operation runs, not when it was queued: a lease is never shorter than it says.
        return lambda tx: op(Turn(tx, self._clock(), self._settings))

    def _submit(self, op: Callable[[Turn], T]) -> Future[T]:
        return self._store.submit(self._op(op))

    async def _act(self, studio: str, job: int, op: Callable[[Turn], object]) -> JobView:
        def act_and_look(turn: Turn) -> JobView:
            op(turn)
            return queries.get_job(turn.tx, studio, job)

        return await self.write(act_and_look)

    async def _granted(self, worker: WorkerHello, claim: Future[Moved | None]) -> Assignment | None:
        """What a claim came to. A worker that hangs up meanwhile gives the chunk back, rather than let its lease run out."""
        try:
            chunk = await asyncio.shield(asyncio.wrap_future(claim))
            return None if chunk is None else await self._assignments.of(chunk)
        except BaseException:
            claim.add_done_callback(partial(self._give_back, worker))
            raise

    def _give_back(self, worker: WorkerHello, claim: Future[Moved | None]) -> None:
        chunk = None if claim.cancelled() or claim.exception() is not None else claim.result()
        if chunk is not None:
            held = Held(worker.studio, worker.name, chunk.id, chunk.attempt)
            self._submit(partial(scheduling.give_back, held=held))

    def _alive_since(self) -> float:
        return self._clock() - self._settings.alive_s

    def _told(self, notes: Sequence[object]) -> None:
        """On the writer's thread, after a commit."""
        self._hub.publish(note for note in notes if isinstance(note, Draft))
        if any(note is NEW_WORK for note in notes):
            self._signal.give()


def _one(chunk: int | None) -> tuple[int, ...]:
    return () if chunk is None else (chunk,)
