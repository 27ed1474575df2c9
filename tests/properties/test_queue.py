"""The queue under any order of events, by hypothesis: nothing is lost, nothing is held twice, the counters never lie."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from farm.records import Assignment, WorkerHello
from farm.states import ChunkState, FailureKind, JobState, VersionState
from farm.store import SqlStore, Transaction
from farm.tables import ATTEMPT, CHUNK, JOB, STEP, VERSION
from pipeline.errors import StateError
from tests.queue_kit import STUDIO, QueueFarm

WORKERS = ("a", "b", "c")
DONE = {ChunkState.SUCCEEDED, ChunkState.SKIPPED}
LIVE = {ChunkState.WAITING, ChunkState.RUNNING}


class Queue(RuleBasedStateMachine):
    """Workers that claim, work, lie, fall silent and come back as zombies; people who meddle; a clock that only moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.farm = QueueFarm(SqlStore.in_memory(), lease_s=10.0, no_progress_s=25.0, max_attempts=2)
        self.given: list[tuple[str, Assignment]] = []
        """Every assignment that was handed out and not finished at once: zombies report too."""
        self.newest: dict[int, int] = {}
        self.accepted: Counter[tuple[int, int]] = Counter()
        self.chunks = 0

    def teardown(self) -> None:
        self.farm.close()

    @initialize(frames=st.integers(1, 5), fits=st.booleans())
    def begin(self, frames: int, fits: bool) -> None:
        self.submit(frames, fits, 1, 1)

    @precondition(lambda self: len(self.farm.dispatcher.jobs(STUDIO)) < 3)
    @rule(frames=st.integers(1, 5), fits=st.booleans(), takes=st.integers(1, 2), priority=st.integers(0, 3))
    def submit(self, frames: int, fits: bool, takes: int, priority: int) -> None:
        job = self.farm.submit(f"1-{frames}", size=2, fits=fits, takes=takes, priority=priority)
        self.chunks += sum(step.total for step in job.steps)

    # Workers

    @rule(worker=st.sampled_from(WORKERS))
    def claim(self, worker: str) -> None:
        held = self.farm.claim(worker)
        if held is not None:
            self._given(worker, held)

    @rule(worker=st.sampled_from(WORKERS))
    def lose_an_answer(self, worker: str) -> None:
        if (lost := self.farm.claim(worker)) is None:
            return
        self._given(worker, lost)
        again = self.farm.claim(worker)
        assert again is not None
        self._given(worker, again)
        assert not self.farm.done(lost, worker)

    @rule(worker=st.sampled_from(WORKERS), number=st.integers(1, 6))
    def work_well(self, worker: str, number: int) -> None:
        for _ in range(number):
            if (held := self.farm.claim(worker)) is not None:
                self._given(worker, held, finished=True)
                assert self.farm.done(held, worker)

    @rule(worker=st.sampled_from(WORKERS), kind=st.sampled_from(["error", "crash", "memory", "refused"]))
    def work_badly(self, worker: str, kind: str) -> None:
        if (held := self.farm.claim(worker)) is not None:
            self._given(worker, held, finished=True)
            assert self.farm.fail(held, worker, FailureKind(kind))
            self.farm.pass_time(5)

    def _given(self, worker: str, held: Assignment, *, finished: bool = False) -> None:
        # A fresh attempt number each time: no two assignments of a chunk can both be the newest.
        assert held.attempt == self.newest.get(held.chunk_id, 0) + 1
        self.newest[held.chunk_id] = held.attempt
        if not finished:
            self.given.append((worker, held))

    @precondition(lambda self: self.given)
    @rule(data=st.data(), following=st.booleans())
    def complete(self, data: st.DataObject, following: bool) -> None:
        worker, held = data.draw(st.sampled_from(self.given[-4:]))
        was = self._chunk(held)
        hello = WorkerHello(worker, STUDIO) if following else None
        answer = self.farm.complete(held, worker, claim=hello)
        newest = (was["attempt"], was["worker"]) == (held.attempt, worker)
        assert answer.accepted == (newest and was["state"] in (ChunkState.RUNNING, ChunkState.SUCCEEDED))
        if answer.next is not None:
            self._given(worker, answer.next)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), kind=st.sampled_from(sorted(set(FailureKind) - {FailureKind.LOST, FailureKind.HUNG})))
    def fail(self, data: st.DataObject, kind: FailureKind) -> None:
        worker, held = data.draw(st.sampled_from(self.given[-4:]))
        was = self._chunk(held)
        holds = (was["state"], was["attempt"], was["worker"]) == (ChunkState.RUNNING, held.attempt, worker)
        assert self.farm.fail(held, worker, kind) == holds
        if holds and kind is FailureKind.STORAGE:
            assert self._chunk(held)["failures"] == was["failures"]

    @precondition(lambda self: self.given)
    @rule(data=st.data(), advanced=st.booleans())
    def beat(self, data: st.DataObject, advanced: bool) -> None:
        worker, held = data.draw(st.sampled_from(self.given[-4:]))
        was = self._chunk(held)
        holds = (was["state"], was["attempt"], was["worker"]) == (ChunkState.RUNNING, held.attempt, worker)
        stop = self.farm.beat(held, worker, advanced=advanced).stop
        stuck = not advanced and self.farm.clock.now - was["progress_at"] > 25
        assert (stop is None) == (holds and not stuck)

    @rule(worker=st.sampled_from(WORKERS))
    def start_again(self, worker: str) -> None:
        self.farm.run(self.farm.dispatcher.arrive(WorkerHello(worker, STUDIO)))

    @rule(worker=st.sampled_from(WORKERS))
    def leave(self, worker: str) -> None:
        self.farm.run(self.farm.dispatcher.leave(STUDIO, worker))

    @rule(seconds=st.floats(0.1, 30))
    def pass_time(self, seconds: float) -> None:
        self.farm.pass_time(seconds)

    # People

    @precondition(lambda self: self.chunks)
    @rule(
        data=st.data(),
        act=st.sampled_from(
            ["pause", "resume", "resume", "retry", "retry", "retry_one", "skip_one", "priority", "cancel"]
        ),
    )
    def meddle(self, data: st.DataObject, act: str) -> None:
        dispatcher = self.farm.dispatcher
        job = data.draw(st.sampled_from([job.id for job in dispatcher.jobs(STUDIO)]))
        chunk = data.draw(st.sampled_from([chunk.id for chunk in self.farm.job(job).chunks]))
        acts = {
            "pause": lambda: dispatcher.pause(STUDIO, job),
            "resume": lambda: dispatcher.resume(STUDIO, job),
            "cancel": lambda: dispatcher.cancel(STUDIO, job),
            "retry": lambda: dispatcher.retry(STUDIO, job),
            "retry_one": lambda: dispatcher.retry(STUDIO, job, chunk=chunk),
            "skip_one": lambda: dispatcher.skip(STUDIO, job, chunk=chunk),
            "priority": lambda: dispatcher.set_priority(STUDIO, job, 77),
        }
        before = self._rows()
        try:
            self.farm.run(acts[act]())
        except StateError:
            assert self._rows() == before

    # What must always hold

    @invariant()
    def nothing_is_lost_and_counters_agree(self) -> None:
        jobs, steps, chunks, attempts, versions = self._rows()
        assert len(chunks) == self.chunks
        by_step: dict[tuple[int, int, str], list[dict[str, Any]]] = {}
        for chunk in chunks:
            by_step.setdefault((chunk["job"], chunk["take"], chunk["step"]), []).append(chunk)
        for step in steps:
            states = [chunk["state"] for chunk in by_step[step["job"], step["take"], step["name"]]]
            assert step["total"] == len(states)
            assert step["chunks_left"] == sum(state not in DONE for state in states)
            assert step["live"] == sum(state in LIVE for state in states)
            assert step["failed"] == states.count(ChunkState.FAILED)
        for job in jobs:
            mine = [chunk for chunk in chunks if chunk["job"] == job["id"]]
            self._check_job(job, mine, [version for version in versions if version["job"] == job["id"]])
        self._check_attempts(chunks, attempts)

    def _check_job(self, job: dict[str, Any], chunks: list[dict[str, Any]], versions: list[dict[str, Any]]) -> None:
        states = {chunk["state"] for chunk in chunks}
        running = {chunk["state"] for chunk in chunks} & LIVE
        match JobState(job["state"]):
            case JobState.WAITING | JobState.RUNNING:
                assert running, "a job that is open always has something that can run"
            case JobState.SUCCEEDED:
                assert states <= DONE
                assert all(version["state"] == VersionState.PUBLISHED for version in versions)
            case JobState.FAILED:
                assert ChunkState.FAILED in states and not running
            case JobState.PAUSED:
                assert not running
            case JobState.CANCELLED:
                assert states <= {ChunkState.SUCCEEDED, ChunkState.CANCELLED}
                assert all(version["state"] != VersionState.RESERVED for version in versions)

    def _check_attempts(self, chunks: list[dict[str, Any]], attempts: list[dict[str, Any]]) -> None:
        holders = Counter(chunk["worker"] for chunk in chunks if chunk["state"] == ChunkState.RUNNING)
        assert all(number == 1 for number in holders.values()), "a worker is one slot"
        open_attempts = {(one["chunk"], one["number"]) for one in attempts if one["state"] == "running"}
        assert open_attempts == {
            (chunk["id"], chunk["attempt"]) for chunk in chunks if chunk["state"] == ChunkState.RUNNING
        }
        good = Counter(one["chunk"] for one in attempts if one["state"] == "succeeded")
        for chunk in chunks:
            assert chunk["failures"] <= 2
            assert chunk["attempt"] == self.newest.get(chunk["id"], 0)
            if chunk["state"] == ChunkState.SUCCEEDED:
                assert good[chunk["id"]] >= 1

    def _chunk(self, held: Assignment) -> dict[str, Any]:
        def look(tx: Transaction) -> dict[str, Any]:
            row = tx.first(select(CHUNK).where(CHUNK.c.id == held.chunk_id))
            assert row is not None
            return dict(row._asdict())

        return self.farm.store.read(look)

    def _rows(self) -> tuple[list[dict[str, Any]], ...]:
        def look(tx: Transaction) -> tuple[list[dict[str, Any]], ...]:
            tables = (JOB, STEP, CHUNK, ATTEMPT, VERSION)
            return tuple([dict(row._asdict()) for row in tx.rows(select(table))] for table in tables)

        return self.farm.store.read(look)


TestQueue = Queue.TestCase
TestQueue.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
