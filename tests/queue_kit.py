"""What the queue's tests share: a farm with a clock that only the test moves, jobs of any shape, and the three databases."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest

from farm.dispatcher import Dispatcher
from farm.records import Assignment, Completed, Failure, JobDetail, JobView, Verdict, WorkerHello, WorkFacts
from farm.settings import FarmSettings
from farm.states import FailureKind
from farm.store import SqlStore
from pipeline.frames import FrameRange
from pipeline.jobs.chunks import Chunk, Chunks
from pipeline.jobs.plan import Step, StepName
from pipeline.jobs.spec import JobSpec, PlateSpec, TakeSpec

T = TypeVar("T")
STUDIO = "local"
POSTGRES = os.environ.get("PLATEWRIGHT_TEST_POSTGRES", "postgresql://root@127.0.0.1:5432/test")


class Clock:
    """Time that passes when the test says so."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def job_spec(
    frames: str = "1001-1010", *, studio: str = STUDIO, shot: str = "sh010", takes: int = 1, **more: Any
) -> JobSpec:
    """A spec as `resolve` would make it; its files are never looked at by the queue."""
    plate = PlateSpec(
        pattern="/plates/sh010.####.exr",
        frames=frames,
        layers=(),
        data_window=(0, 0, 63, 63),
        display_window=(0, 0, 63, 63),
        colorspace="lin_rec709_scene",
        source_colorspace="lin_rec709_scene",
    )
    return JobSpec(
        task="roto",
        studio=studio,
        show="show",
        sequence="sq01",
        shot=shot,
        plate=plate,
        frames=frames,
        takes=tuple(TakeSpec(index=i, name=f"take-{i + 1}", seed=i, parameters={}) for i in range(takes)),
        model="net",
        codec="zips",
        publish_root="/publish",
        **more,
    )


def job_steps(frames: str = "1001-1010", *, size: int = 4, fits: bool = True, takes: int = 1) -> tuple[Step, ...]:
    """fit → infer → publish, as `plan` would make them."""
    wanted = FrameRange.parse(frames)
    whole = [Chunk(0, wanted, FrameRange())]
    steps: list[Step] = []
    for take in range(takes):
        if fits:
            steps.append(Step(StepName.FIT, take, whole))
        chunks = Chunks(wanted, size=size, context=1)
        steps.append(Step(StepName.INFER, take, chunks, (StepName.FIT,) if fits else ()))
        steps.append(Step(StepName.PUBLISH, take, whole, (StepName.INFER,)))
    return tuple(steps)


class QueueFarm:
    """A dispatcher over a store, driven without a server."""

    def __init__(self, store: SqlStore, **settings: Any) -> None:
        self.clock = Clock()
        self.store = store
        self.settings = replace(FarmSettings.read({}), **settings)
        self.dispatcher = Dispatcher(store, self.settings, clock=self.clock)
        self._runner = asyncio.Runner()

    def close(self) -> None:
        self._runner.close()
        self.store.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def submit(
        self,
        frames: str = "1001-1010",
        *,
        size: int = 4,
        fits: bool = False,
        takes: int = 1,
        key: str | None = None,
        memory_mb: int = 100,
        model: str = "",
        taken: tuple[int, ...] = (),
        **spec: Any,
    ) -> JobView:
        work = WorkFacts(product="roto", memory_mb=memory_mb, model=model)
        steps = job_steps(frames, size=size, fits=fits, takes=takes)
        wanted = job_spec(frames, takes=takes, **spec)
        return self.run(self.dispatcher.submit(wanted, steps, work=work, key=key, taken_on_disk=taken)).job

    def claim(self, worker: str = "w1", **hello: Any) -> Assignment | None:
        return self.run(self.dispatcher.claim(WorkerHello(worker, hello.pop("studio", STUDIO), **hello)))

    def take(self, worker: str = "w1", **hello: Any) -> Assignment:
        got = self.claim(worker, **hello)
        assert got is not None
        return got

    def done(
        self, held: Assignment, worker: str = "w1", *, studio: str = STUDIO, result: dict[str, Any] | None = None
    ) -> bool:
        return self.complete(held, worker, studio=studio, result=result).accepted

    def complete(
        self,
        held: Assignment,
        worker: str = "w1",
        *,
        studio: str = STUDIO,
        result: dict[str, Any] | None = None,
        claim: WorkerHello | None = None,
    ) -> Completed:
        return self.run(
            self.dispatcher.complete(studio, worker, held.chunk_id, held.attempt, result or {}, claim=claim)
        )

    def fail(
        self, held: Assignment, worker: str = "w1", kind: FailureKind = FailureKind.ERROR, why: str = "broke"
    ) -> bool:
        failure = Failure(kind, why, "look at the log")
        return self.run(self.dispatcher.fail(STUDIO, worker, held.chunk_id, held.attempt, failure))

    def beat(self, held: Assignment, worker: str = "w1", **news: Any) -> Verdict:
        return self.run(self.dispatcher.progress(STUDIO, worker, held.chunk_id, held.attempt, **news))

    def finish(self, worker: str = "w1") -> int:
        """Do all that can be done. Returns how many chunks that were."""
        number = 0
        while (held := self.claim(worker)) is not None:
            assert self.done(held, worker)
            number += 1
        return number

    def pass_time(self, seconds: float) -> int:
        """Let time pass as it does on a dispatcher that is awake: looking at the leases all the while."""
        reaped = 0
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + self.settings.lease_s / 4)
            reaped += self.run(self.dispatcher.reap())
        return reaped

    def job(self, job: int, studio: str = STUDIO) -> JobDetail:
        return self.dispatcher.job(studio, job)

    def states(self, job: int, step: str = "infer") -> list[str]:
        return [str(chunk.state) for chunk in self.job(job).chunks if chunk.step == step]


@contextmanager
def open_farm(**settings: Any) -> Iterator[QueueFarm]:
    """A farm in memory."""
    farm = QueueFarm(SqlStore.in_memory(), **settings)
    try:
        yield farm
    finally:
        farm.close()


@cache
def _postgres_refusal() -> str:
    try:
        psycopg.connect(POSTGRES, connect_timeout=3).close()
    except psycopg.Error as error:
        return f"PostgreSQL at {POSTGRES} doesn't answer: {error}".strip()
    return ""


@contextmanager
def postgres_schema() -> Iterator[str]:
    """The address of a fresh schema on the test server, dropped afterwards. Skips, saying why, where there is no server."""
    if refusal := _postgres_refusal():
        pytest.skip(refusal)
    name = f"platewright_{secrets.token_hex(6)}"
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"')
        try:
            yield f"{POSTGRES}{'&' if '?' in POSTGRES else '?'}options=-csearch_path%3D{name}"
        finally:
            connection.execute(f'DROP SCHEMA "{name}" CASCADE')


@contextmanager
def database_url(kind: str, folder: Path) -> Iterator[str]:
    """The address of a fresh database: `file`, `memory` or `postgres`."""
    if kind == "postgres":
        with postgres_schema() as url:
            yield url
    else:
        yield "sqlite://" if kind == "memory" else f"sqlite:///{folder / 'queue.db'}"
