"""The farm as a whole, through real processes: what a job costs over its bare I/O, how soon something is seen, how much memory.

    python -m benchmarks.whole overhead|preview|memory|start|roto [--frames 100]

Each measure starts its own dispatcher and worker on loopback, with real EXR frames. `roto` needs the footage (PLATEWRIGHT_DATA, or
../shared/data beside the checkout) and says so when it isn't there.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from pipeline.frames import FrameRange
from pipeline.media.exr import Frame, Part, read_frame, write_frame
from pipeline.media.transform import HybridCurve
from pipeline.plate import FramePattern, Window
from pipeline.quality.overlap import score_mattes
from tests.acceptance.farmhouse import Farmhouse
from tests.plates import SmallPlate, write_small_plate

SRGB = HybridCurve(peak=1.0)
NOTHING = '''
from pipeline.parameters import Parameters
from pipeline.tasks.contract import FrameResult
from pipeline.tasks.definition import TaskDefinition


class Nothing(Parameters):
    """No parameters."""


class Runner:
    """Adds nothing: each frame is read and written again around it."""

    def load(self, model): ...
    def unload(self): ...
    def fit(self, shot): return {}

    def run(self, shot):
        for frame in shot.frames:
            yield FrameResult(frame=frame, layers={}, quality={"confidence": 1.0})


NOTHING = TaskDefinition(
    name="nothing", label="Nothing", help="Does nothing.", parameters=Nothing, runner="nothing_task:Runner", product="nothing"
)
'''


def main() -> int:
    measures: dict[str, Callable[[argparse.Namespace], int]] = {
        "overhead": overhead,
        "preview": preview,
        "memory": memory,
        "start": start,
        "roto": roto,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=measures)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--shots", nargs="+", default=["blackswan", "camel", "dog"])
    arguments = parser.parse_args()
    print(
        f"machine: {_cpu()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    )
    return measures[arguments.measure](arguments)


def overhead(arguments: argparse.Namespace) -> int:
    """A job of HD frames with a runner that does nothing, submit to published, over the plainest loop that reads and writes them."""
    with _house() as house:
        _install_nothing(house)
        pattern = hd_plate(house.folder / "plate", arguments.frames)
        out = house.folder / "bare"
        out.mkdir()
        house.serve()
        house.worker()
        _until_warm(house)

        def bare() -> None:
            for frame in range(1001, 1001 + arguments.frames):
                write_frame(out / f"bare.{frame}.exr", read_frame(pattern.path(frame)))

        rows = []
        for _ in range(3):
            started = time.perf_counter()
            bare()
            bare_s = time.perf_counter() - started
            started = time.perf_counter()
            job = house.submit({"task": "nothing", "plate": str(pattern)})["job"]
            submitted_s = time.perf_counter() - started
            outcome = house.ended(job, 900)
            whole_s = time.perf_counter() - started
            assert outcome["state"] == "succeeded", outcome
            rows.append((bare_s, submitted_s, outcome["timings"]["infer_s"], outcome["timings"]["publish_s"], whole_s))
            house.published.joinpath(".x").mkdir(exist_ok=True)
        bare_s, submitted_s, infer_s, publish_s, whole_s = (sorted(column)[1] for column in zip(*rows, strict=True))
        print(f"{arguments.frames} HD frames, RGB half ZIPS, medians of 3")
        print("| what | wall s | over bare |")
        print("|---|---|---|")
        print(f"| bare loop: read, write, next | {bare_s:.2f} | 1.00 |")
        print(f"| submit: every frame decoded, checked, hashed | {submitted_s:.2f} | {submitted_s / bare_s:.2f} |")
        print(f"| chunks: read, nothing, write | {infer_s:.2f} | {infer_s / bare_s:.2f} |")
        print(f"| publish: every frame decoded, checked, three proxies | {publish_s:.2f} | {publish_s / bare_s:.2f} |")
        print(f"| whole job, submit to published | {whole_s:.2f} | {whole_s / bare_s:.2f} |")
    return 0


def preview(arguments: argparse.Namespace) -> int:
    """Submit to the first picture that a browser can fetch, on a worker that has the task's model: 50 frames of 854 × 480."""
    del arguments
    print(f"{'task':16}| accepted | first preview, median of 3 | bar")
    with _house() as house:
        plate = write_small_plate(house.folder / "shot", count=50, width=854, height=480)
        house.serve()
        house.worker()
        _until_warm(house)
        for task, request in _requests(plate, house.folder).items():
            times = []
            for run in range(4):  # the first brings the model along
                for path in plate.pattern.folder.iterdir():
                    os.utime(path)  # as a new plate: nothing of the last submission is known any more
                started = time.perf_counter()
                seed = {} if task == "matte" else {"seed": run}  # chance has no part in a matte
                parameters = {**request["parameters"], **seed}
                job = house.submit({"plate": str(plate.pattern), **request, "task": task, "parameters": parameters})[
                    "job"
                ]
                submitted = time.perf_counter() - started
                times.append((_first_preview(house, job, started), submitted))
                house.plates("cancel", str(job))
                house.wait(
                    lambda: house.client().get("/v1/status")["workers"].get("busy", 0) == 0, 60, "the worker stays busy"
                )
            first, submitted = sorted(times[1:])[1]
            print(f"{task:16}| {submitted:6.2f} s | {first:6.2f} s | 3 s", flush=True)
    return 0


def _requests(plate: SmallPlate, folder: Path) -> dict[str, dict[str, Any]]:
    """What is asked of each task: the least that makes it work."""
    painted = folder / "painted.png"
    cv2.imwrite(str(painted), np.full((plate.height, plate.width, 3), (90, 60, 200), np.uint8))
    keys = [{"frame": frame, "path": str(path)} for frame, path in plate.keys.items()]
    mask = str(next(iter(plate.keys.values())))
    return {
        "roto": {"keys": keys, "parameters": {"iterations": 500}},
        "matte": {"parameters": {"roto": mask}},
        "style_transfer": {"keys": [{"frame": 1001, "path": str(painted)}], "parameters": {}},
        "shot_extension": {"parameters": {"mode": "space", "overscan": 10.0}},
    }


def _first_preview(house: Farmhouse, job: int, started: float) -> float:
    from integrations._shared.client import DispatcherError

    while time.perf_counter() - started < 120:
        for frame in (1001, 1002, 1003):
            try:
                if house.client().get_bytes(f"/v1/jobs/{job}/preview/{frame}.jpg"):
                    return time.perf_counter() - started
            except DispatcherError:
                continue
        time.sleep(0.02)
    raise AssertionError("no preview within 120 s")


def memory(arguments: argparse.Namespace) -> int:
    """Peak memory of dispatcher, worker and session in a roto on HD."""
    with _house() as house:
        plate = write_small_plate(house.folder / "shot", count=min(arguments.frames, 60), width=1920, height=1080)
        dispatcher = house.serve()
        worker = house.worker()
        _until_warm(house)
        with _Peaks({"dispatcher": dispatcher.pid, "worker": worker.pid}) as peaks:
            job = house.submit({**plate.request(), "parameters": {"iterations": arguments.iterations, "seed": 1}})[
                "job"
            ]
            outcome = house.ended(job, 1800)
        assert outcome["state"] == "succeeded", outcome
        print(f"roto, {len(plate.frames)} HD frames, 3 keys, {arguments.iterations} iterations")
        print("| process | peak MB | bar |")
        print("|---|---|---|")
        print(f"| dispatcher alone | {peaks.mb['dispatcher']} | 150 |")
        print(f"| the reader of submissions, its child | {peaks.mb['dispatcher children']} | – |")
        print(f"| worker and its session | {peaks.mb['worker'] + peaks.mb['worker children']} | 2500 |")
    return 0


def start(arguments: argparse.Namespace) -> int:
    """`plates --help` in a fresh process."""
    del arguments
    walls, cpus = [], []
    for _ in range(15):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "farm.cli.main", "--help"], check=True, capture_output=True)
        walls.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(
        f"plates --help: wall median {sorted(walls)[7]:.3f} s, best {min(walls):.3f} s; CPU median {sorted(cpus)[7]:.3f} s; bar 0.3 s"
    )
    return 0


def roto(arguments: argparse.Namespace) -> int:
    """Real shots through `plates submit`: EXRs made of the JPEGs, keys first, middle, last, scored on all other frames."""
    footage = Path(os.environ.get("PLATEWRIGHT_DATA", "../shared/data")) / "footage"
    if not footage.is_dir():
        print(f"skipped: no footage at {footage}; set PLATEWRIGHT_DATA")
        return 0
    rows = []
    with _house() as house:
        house.serve()
        house.worker()
        _until_warm(house)
        for shot in arguments.shots:
            rows.append(_roto_shot(house, footage / f"roto_{shot}", shot, arguments.iterations))
            print(rows[-1][0], flush=True)
    print("\n| shot | keys | flow J / F | net J / F | worst J | fit s | infer s | total s |")
    print("|---|---|---|---|---|---|---|---|")
    for row, *_ in rows:
        print(row)
    print(
        f"mean J&F: flow alone {np.mean([r[1] for r in rows]):.3f}, net {np.mean([r[2] for r in rows]):.3f}; bar 0.94"
    )
    return 0


def _roto_shot(house: Farmhouse, footage: Path, shot: str, iterations: int) -> tuple[str, float, float]:
    jpegs = sorted((footage / "frames").glob("*.jpg"))
    truth = {1001 + i: cv2.imread(str(p), 0) > 127 for i, p in enumerate(sorted((footage / "masks").glob("*.png")))}
    pattern = FramePattern(house.folder / shot, f"{shot}.", 4, ".exr")
    pattern.folder.mkdir()
    for i, jpeg in enumerate(jpegs):
        picture = cv2.imread(str(jpeg))[..., ::-1].transpose(2, 0, 1).astype(np.float32) / 255
        linear = SRGB.inverse(np.ascontiguousarray(picture)).astype(np.float16)
        window = Window.of_size(picture.shape[2], picture.shape[1])
        write_frame(
            pattern.path(1001 + i), Frame((Part("", {}, dict(zip("RGB", linear, strict=True)), window, window),))
        )
    last = 1000 + len(jpegs)
    keys = [1001, 1001 + round((len(jpegs) - 1) / 2), last]
    key_arguments: list[str] = []
    for frame in keys:
        path = house.folder / f"{shot}.key.{frame}.png"
        cv2.imwrite(str(path), truth[frame].astype(np.uint8) * 255)
        key_arguments += ["--key", f"{frame}={path}"]
    scores, timings = {}, {}
    for name, count in (("flow", 0), ("net", iterations)):
        run = house.plates(
            "submit", "roto", "--plate", str(pattern), *key_arguments, "--iterations", str(count), "--seed", "0",
            "--shot", f"{shot}-{name}", "--wait", "--json", timeout_s=3600,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        import json

        outcome: dict[str, Any] = json.loads(run.stdout)
        made = FramePattern.parse(outcome["version"]["pattern"])
        assert made is not None
        mattes = {
            f: read_frame(made.path(f)).main.channels["matte.A"].astype(np.float32) for f in FrameRange.span(1001, last)
        }
        scores[name], timings[name] = score_mattes(mattes, truth, keys), outcome["timings"]
    flow, net, t = scores["flow"], scores["net"], timings["net"]
    row = (
        f"| {shot} | {len(keys)} of {len(jpegs)} | {flow.j:.3f} / {flow.f:.3f} | {net.j:.3f} / {net.f:.3f} | {net.frames[net.worst].j:.3f} "
        f"| {t['fit_s']:.0f} | {t['infer_s']:.0f} | {t['total_s']:.0f} |"
    )
    return row, (flow.j + flow.f) / 2, (net.j + net.f) / 2


def hd_plate(folder: Path, count: int) -> FramePattern:
    """HD frames of a grainy picture: noise costs a codec what a real plate does."""
    pattern = FramePattern(folder, "hd.", 4, ".exr")
    folder.mkdir()
    rng = np.random.default_rng(3)
    base = cv2.GaussianBlur(rng.random((1080, 1920, 3), np.float32), (0, 0), 12) * 4 - 1.6
    window = Window.of_size(1920, 1080)
    for i in range(count):
        noise = rng.standard_normal((270, 480, 3), np.float32) * 0.02
        pixels = (base + np.tile(noise, (4, 4, 1))).astype(np.float16)
        planes = {name: np.ascontiguousarray(pixels[..., c]) for c, name in enumerate("RGB")}
        write_frame(pattern.path(1001 + i), Frame((Part("", {}, planes, window, window),)))
    return pattern


def _install_nothing(house: Farmhouse) -> None:
    """A task of a package of its own, as a TD would install one."""
    site = house.folder / "site"
    info = site / "nothing_task-1.dist-info"
    info.mkdir(parents=True)
    (site / "nothing_task.py").write_text(NOTHING)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nothing-task\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[platewright.tasks]\nnothing = nothing_task:NOTHING\n")
    house.environment["PYTHONPATH"] = os.pathsep.join([str(site), house.environment.get("PYTHONPATH", "")]).rstrip(
        os.pathsep
    )


def _until_warm(house: Farmhouse) -> None:
    """Wait until a worker is there and its session has loaded: what an artist finds on any working day."""
    house.wait(lambda: sum(house.client().get("/v1/status")["workers"].values()) > 0, 60, "no worker")
    time.sleep(12)


@contextmanager
def _house() -> Iterator[Farmhouse]:
    folder = Path(tempfile.mkdtemp(prefix="platewright-bench-"))
    house = Farmhouse(folder)
    try:
        yield house
    finally:
        house.close()
        shutil.rmtree(folder, ignore_errors=True)


class _Peaks:
    """Peak resident memory of processes and of their children, by looking ten times a second."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.mb = {name: 0 for pid in pids for name in (pid, f"{pid} children")}
        self._pids = pids
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Peaks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            for name, pid in self._pids.items():
                try:
                    process = psutil.Process(pid)
                    own = process.memory_info().rss >> 20
                    below = sum(child.memory_info().rss for child in process.children(recursive=True)) >> 20
                except psutil.Error:
                    continue
                self.mb[name] = max(self.mb[name], own)
                self.mb[f"{name} children"] = max(self.mb[f"{name} children"], below)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


if __name__ == "__main__":
    sys.exit(main())
