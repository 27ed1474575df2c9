"""How fast empty chunks are dispatched durably, beside Huey doing the same in the same run; and what a claim costs with
up to a million chunks waiting.

    python -m benchmarks.dispatch [--chunks 2000] [--workers 4] [--depths 1000,10000,100000,1000000]

Three tables: tasks per second with claim latencies (through HTTP, in one process, and Huey's SqliteHuey with fsync), the
cost of a claim by queue depth, the dispatcher's memory. A task is an empty chunk: claimed, completed, and every step of it
committed with fsync before it is acknowledged. Huey's figure is of tasks taken off its queue: one small delete each, gone if
the worker dies; ours are leased, kept and accounted for. The middle round by our own speed is the one that is judged.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import platform
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from farm import scheduling
from farm.dispatcher import Dispatcher
from farm.records import WorkerHello, WorkFacts
from farm.settings import FarmSettings
from farm.store import SqlStore, Transaction
from farm.tokens import local_token
from farm.turn import Held, Turn
from pipeline.frames import FrameRange
from pipeline.jobs.chunks import Chunks
from pipeline.jobs.plan import Step, StepName
from pipeline.jobs.spec import JobSpec, PlateSpec, TakeSpec

STUDIO = "local"
BAR_PER_S, BAR_OVER_HUEY, BAR_P99_MS, BAR_FLAT, BAR_MB = 300.0, 2.0, 50.0, 1.5, 150.0
CLAIMS_A_DEPTH, CLAIMS_A_TURN = 600, 10


@dataclass(frozen=True, slots=True)
class Speed:
    """What one way of dispatching did."""

    name: str
    tasks: int
    seconds: float
    latencies_ms: list[float]
    """Of each call that completes a task and claims the next; none where the peer can't tell."""
    commit_ms: float
    """Of a durable commit just before."""

    @property
    def per_s(self) -> float:
        return self.tasks / self.seconds

    def row(self) -> str:
        cells = f"{self.name:<44}{self.tasks:>7}{self.commit_ms:>12.2f}{self.per_s:>10.0f}"
        if self.latencies_ms:
            cells += f"{percentile(self.latencies_ms, 50):>10.1f}{percentile(self.latencies_ms, 99):>10.1f}"
        return cells


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def empty_job(chunks: int) -> tuple[JobSpec, tuple[Step, ...]]:
    """A job of so many chunks of one frame, none of which is ever worked on."""
    frames = FrameRange.span(1, chunks)
    plate = PlateSpec(
        pattern="/none/none.####.exr",
        frames=str(frames),
        layers=(),
        data_window=(0, 0, 1, 1),
        display_window=(0, 0, 1, 1),
        colorspace="lin_rec709_scene",
        source_colorspace="lin_rec709_scene",
    )
    spec = JobSpec(
        task="roto",
        studio=STUDIO,
        show="bench",
        sequence="",
        shot="sh010",
        plate=plate,
        frames=str(frames),
        takes=(TakeSpec(index=0, name="take-1", seed=0, parameters={}),),
        model="none",
        codec="zips",
        publish_root="/none",
    )
    return spec, (Step(StepName.INFER, 0, Chunks(frames, size=1)),)


@contextmanager
def queue(folder: Path, chunks: int) -> Iterator[Dispatcher]:
    """A dispatcher over a fresh file with one job in it."""
    store = SqlStore.at(folder / "platewright.db")
    try:
        dispatcher = Dispatcher(store, FarmSettings.read({}, data=folder))
        spec, steps = empty_job(chunks)
        asyncio.run(dispatcher.submit(spec, steps, work=WorkFacts("roto", 100)))
        yield dispatcher
    finally:
        store.close()


def in_process(chunks: int, workers: int, folder: Path) -> Speed:
    """Workers as coroutines of one loop: the store and the dispatcher without the wire."""

    async def work(dispatcher: Dispatcher, name: str, latencies: list[float]) -> None:
        hello = WorkerHello(name, STUDIO)
        held = await dispatcher.claim(hello)
        while held is not None:
            began = time.perf_counter()
            answer = await dispatcher.complete(STUDIO, name, held.chunk_id, held.attempt, {}, claim=hello)
            latencies.append((time.perf_counter() - began) * 1e3)
            assert answer.accepted
            held = answer.next

    async def everyone(dispatcher: Dispatcher) -> Speed:
        latencies: list[float] = []
        began = time.perf_counter()
        await asyncio.gather(*(work(dispatcher, f"w{i}", latencies) for i in range(workers)))
        return Speed("in one process", chunks, time.perf_counter() - began, latencies, disk)

    disk = commit_ms(folder / "disk")
    with queue(folder, chunks) as dispatcher:
        return asyncio.run(everyone(dispatcher))


def _http_worker(port: int, token: str, name: str, begin: Any, results: Any) -> None:
    hello = {"host": "bench", "version": "0", "memory_mb": 1000}
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(verb: str, body: dict[str, Any]) -> dict[str, Any] | None:
        connection.request("POST", f"/v1/workers/{name}/{verb}", json.dumps(body), headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status not in (200, 204):
            raise RuntimeError(f"{answer.status}: {said.decode()}")
        return json.loads(said) if said else None

    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    begin.wait()
    latencies = []
    held = post("claim", {"hello": hello, "wait_s": 0})
    while held is not None:
        began = time.perf_counter()
        done = {"chunk_id": held["chunk_id"], "attempt": held["attempt"], "result": {}, "hello": hello}
        answer = post("complete", done)
        latencies.append((time.perf_counter() - began) * 1e3)
        assert answer is not None and answer["accepted"]
        held = answer["next"]
    results.put(latencies)


def over_http(chunks: int, workers: int, folder: Path) -> tuple[Speed, float]:
    """Worker processes over HTTP against a dispatcher process, as a farm runs. Also the dispatcher's memory, in MB."""
    disk = commit_ms(folder / "disk")
    with queue(folder, chunks):
        pass
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = local_token(folder / "token")
    environment = {**os.environ, "PLATEWRIGHT_DATA": str(folder), "PLATEWRIGHT_PORT": str(port)}
    serve = "from farm.serving import run_server; from farm.settings import FarmSettings;"
    serve += "run_server(FarmSettings.read().checked(), workers=0, say=lambda _: None)"
    root = Path(__file__).parents[1]
    server = subprocess.Popen([sys.executable, "-c", serve], env=environment, cwd=root, stdin=subprocess.DEVNULL)
    try:
        _until_up(port, server)
        spawn = multiprocessing.get_context("spawn")
        begin, results = spawn.Barrier(workers + 1), spawn.Queue()
        crew = [spawn.Process(target=_http_worker, args=(port, token, f"w{i}", begin, results)) for i in range(workers)]
        for process in crew:
            process.start()
        begin.wait()
        began = time.perf_counter()
        latencies = [latency for _ in crew for latency in results.get(timeout=600)]
        seconds = time.perf_counter() - began
        for process in crew:
            process.join()
        memory_mb = psutil.Process(server.pid).memory_info().rss / 2**20
    finally:
        server.terminate()
        server.wait()
    name = f"over HTTP, {workers} worker processes"
    return Speed(name, len(latencies), seconds, latencies, disk), memory_mb


def _until_up(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if server.poll() is not None:
            raise RuntimeError("the dispatcher did not start")
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.1)
    raise RuntimeError("the dispatcher did not come up")


HUEY_APP = """
import sys
from huey import SqliteHuey
huey = SqliteHuey(filename=sys.argv[-1], fsync=True, results=False)
@huey.task()
def nothing(): pass
"""
HUEY_RUN = (
    HUEY_APP
    + """
import logging
from huey.consumer_options import ConsumerConfig
config = ConsumerConfig(workers=int(sys.argv[1]), worker_type='process', initial_delay=0.01, max_delay=0.05, periodic=False)
huey.create_consumer(**config.values).run()
"""
)


def huey(chunks: int, workers: int, folder: Path) -> Speed:
    """SqliteHuey with fsync and as many consumer processes; its own way of counting, the length of its queue."""
    disk = commit_ms(folder / "disk")
    database = folder / "huey.db"
    fill = HUEY_APP + f"\nfor _ in range({chunks}): nothing()\n"
    subprocess.run([sys.executable, "-c", fill, str(database)], check=True)
    with sqlite3.connect(database) as connection:
        consumer = subprocess.Popen(
            [sys.executable, "-c", HUEY_RUN, str(workers), str(database)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            began = left = 0
            first = 0.0
            while True:
                left = connection.execute("SELECT count(*) FROM task").fetchone()[0]
                if not began and left < chunks:
                    began, first = chunks - left, time.perf_counter()
                if left == 0:
                    break
                time.sleep(0.005)
            seconds = time.perf_counter() - first
        finally:
            consumer.terminate()
            consumer.wait()
    return Speed(f"Huey {huey_version()}, SQLite with fsync, {workers} processes", chunks - began, seconds, [], disk)


def huey_version() -> str:
    from importlib.metadata import version

    return version("huey")


FILL = """
INSERT INTO chunk (studio, job, take, step, idx, frames, context, pool, priority, model, memory_mb, state, attempt, failures,
                   lease_until, progress_at, not_before, fraction, done_frames, result)
WITH RECURSIVE number(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM number WHERE n < :last)
SELECT 'local', 1, 0, 'infer', n, n, '', 'default', n % 7 * 10, 'm' || (n % 3), 100, 'waiting', 0, 0, 0, 0, 0, 0, '', '{}'
FROM number
"""
COUNT = "UPDATE step SET total = total + :more, chunks_left = chunks_left + :more, live = live + :more"


def cost_by_depth(depths: list[int], folder: Path) -> list[tuple[int, float, float, float]]:
    """For each depth: median cost of a claim inside of its transaction, of one for a warm model, and end to end. In ms.

    The depths take turns, a few claims each, so that whatever else the machine does falls on all of them alike.
    """
    spent: dict[tuple[int, str], list[float]] = {(depth, what): [] for depth in depths for what in ("", "m1", "commit")}
    with ExitStack() as open_queues:
        queues = {depth: open_queues.enter_context(_deep_queue(folder / str(depth), depth)) for depth in depths}
        for _ in range(CLAIMS_A_DEPTH // CLAIMS_A_TURN):
            for depth, dispatcher in queues.items():
                for i in range(CLAIMS_A_TURN):
                    model = "m1" if i % 2 else ""
                    began = time.perf_counter()
                    claim = dispatcher._store.submit(partial(_timed_claim, dispatcher=dispatcher, model=model))
                    inside, held = claim.result()
                    spent[depth, "commit"].append((time.perf_counter() - began) * 1e3)
                    spent[depth, model].append(inside)
                    dispatcher._store.submit(partial(_put_back, dispatcher=dispatcher, held=held)).result()
    return [(depth, *(statistics.median(spent[depth, what]) for what in ("", "m1", "commit"))) for depth in depths]


@contextmanager
def _deep_queue(folder: Path, depth: int) -> Iterator[Dispatcher]:
    folder.mkdir()
    with queue(folder, 1) as dispatcher:

        def fill(tx: Transaction) -> None:
            tx.execute(text(FILL), {"first": 1, "last": depth - 1})
            tx.execute(text(COUNT), {"more": depth - 1})

        dispatcher._store.submit(fill).result()
        yield dispatcher


def _turn(tx: Transaction, dispatcher: Dispatcher) -> Turn:
    return Turn(tx, time.time(), dispatcher._settings)


def _timed_claim(tx: Transaction, *, dispatcher: Dispatcher, model: str) -> tuple[float, Held]:
    turn = _turn(tx, dispatcher)
    began = time.perf_counter()
    chunk = scheduling.claim(turn, WorkerHello("w1", STUDIO, model=model))
    spent = (time.perf_counter() - began) * 1e3
    assert chunk is not None
    return spent, Held(STUDIO, "w1", chunk.id, chunk.attempt)


def _put_back(tx: Transaction, *, dispatcher: Dispatcher, held: Held) -> None:
    scheduling.give_back(_turn(tx, dispatcher), held)


def commit_ms(folder: Path) -> float:
    """What one durable commit of SQLite costs here and now. It may change thirtyfold from one minute to the next."""
    folder.mkdir()
    spent = []
    with closing(sqlite3.connect(folder / "commit.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA synchronous = full")
        connection.execute("CREATE TABLE row (text)")
        for _ in range(100):
            began = time.perf_counter()
            connection.execute("INSERT INTO row VALUES ('x')")
            spent.append((time.perf_counter() - began) * 1e3)
    return statistics.median(spent)


def main() -> int:
    """Run what was asked for, print the tables, and say which bars were met. 1 when one was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=2_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of ours and Huey, one after the other")
    parser.add_argument("--depths", default="1000,10000,100000,1000000")
    parser.add_argument("--folder", type=Path, default=None, help="where the databases go; a real disk, not tmpfs")
    given = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="dispatch-", dir=given.folder))

    def folder(name: str) -> Path:
        path = base / name
        path.mkdir()
        return path

    try:
        processor = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        print(f"{processor}, SQLite {sqlite3.sqlite_version}, load {os.getloadavg()[0]:.1f}\n")
        inside = in_process(given.chunks, given.workers, folder("inside"))
        rounds, memory_mb = [], 0.0
        for i in range(given.rounds):
            ours, used_mb = over_http(given.chunks, given.workers, folder(f"http{i}"))
            rounds.append((ours, huey(given.chunks, given.workers, folder(f"huey{i}"))))
            memory_mb = max(memory_mb, used_mb)
        rounds.sort(key=lambda pair: pair[0].per_s)
        http_speed, huey_speed = rounds[len(rounds) // 2]
        speeds = [inside, *(speed for pair in rounds for speed in pair)]
        print(f"{'empty tasks, durable':<44}{'tasks':>7}{'a commit ms':>12}{'per s':>10}{'p50 ms':>10}{'p99 ms':>10}")
        for speed in speeds:
            print(speed.row())
        rows = cost_by_depth([int(depth) for depth in given.depths.split(",")], folder("depth"))
        print(f"\n{'chunks waiting':<20}{'claim ms':>12}{'warm ms':>12}{'with commit ms':>16}   (medians)")
        for depth, plain, warm, around in rows:
            print(f"{depth:<20,}{plain:>12.3f}{warm:>12.3f}{around:>16.2f}")
        flat = max(rows[-1][1] / rows[0][1], rows[-1][2] / rows[0][2])
        over_huey = http_speed.per_s / huey_speed.per_s
        p99 = percentile(http_speed.latencies_ms, 99)
        fast = http_speed.per_s >= BAR_PER_S or over_huey >= BAR_OVER_HUEY
        verdicts = [
            (f"{http_speed.per_s:.0f} tasks/s over HTTP, {over_huey:.1f} x Huey (bar: 300/s or 2 x)", fast),
            (f"p99 {p99:.1f} ms (bar: below {BAR_P99_MS:.0f})", p99 < BAR_P99_MS),
            (f"claim cost grows {flat:.2f} x from the least to the greatest depth (bar: {BAR_FLAT})", flat <= BAR_FLAT),
            (f"dispatcher {memory_mb:.0f} MB (bar: {BAR_MB:.0f})", memory_mb <= BAR_MB),
        ]
        print()
        for said, met in verdicts:
            print(f"{'met   ' if met else 'MISSED'}  {said}")
        return 0 if all(met for _, met in verdicts) else 1
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
