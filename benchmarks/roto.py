"""Roto on real shots: keys on few frames, scored on all others, with the CPU time that it took.

    python -m benchmarks.roto [--shots blackswan:3 dog:1] [--iterations 500]    (shot:keys)

The plates are made of footage/roto_*/frames (8-bit sRGB) as scene-linear half, as an EXR would hold them, and brought to model space by
the product's curve. The footage lies in PLATEWRIGHT_DATA, or beside the checkout in ../shared/data; without it this says so and stops.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.memory_shot import CURVE, MemoryShot
from pipeline.quality.overlap import Score, score_mattes
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.roto.definition import RotoParameters
from pipeline.tasks.roto.runner import RotoRunner

Float = NDArray[np.float32]

DEFAULT_SHOTS = ("blackswan:3", "camel:3", "dog:3", "dance-twirl:5", "dog:1")


@dataclass(slots=True, kw_only=True)
class TimedShot(MemoryShot):
    """A shot in memory that notes when something first moved: the first preview of a frame that nobody painted."""

    began: float = field(default_factory=time.perf_counter)
    first_moved_s: float | None = None

    def preview(self, frame: int, layers: Mapping[str, Float]) -> None:
        """See ShotContext.preview."""
        if self.first_moved_s is None and all(frame not in painted for painted in self.keys.values()):
            self.first_moved_s = time.perf_counter() - self.began


@dataclass(frozen=True, slots=True)
class Result:
    """What a shot gave."""

    score: Score
    confidence: Mapping[int, float]
    fit_cpu_s: float
    infer_cpu_ms: float
    first_moved_s: float


def data_root() -> Path:
    """Where the footage lies."""
    return Path(os.environ.get("PLATEWRIGHT_DATA") or Path(__file__).parents[2] / "shared" / "data")


def load_shot(name: str) -> tuple[dict[int, NDArray[np.float16]], dict[int, Float]]:
    """The plate, scene-linear half, and the true mattes, by frame from 1001."""
    folder = data_root() / "footage" / f"roto_{name}"
    table = CURVE.inverse((np.arange(256) / 255).astype(np.float32)).astype(np.float16)
    plate, truth = {}, {}
    for number, path in enumerate(sorted((folder / "frames").glob("*.jpg"))):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        matte = cv2.imread(str(folder / "masks" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        assert picture is not None and matte is not None, f"{path} or its mask can't be read"
        plate[1001 + number] = table[picture].transpose(2, 0, 1)
        truth[1001 + number] = (matte > 127).astype(np.float32)
    return plate, truth


def spread_keys(frames: Sequence[int], count: int) -> list[int]:
    """First, last, and evenly between."""
    if count == 1:
        return [frames[0]]
    return [frames[round(i * (len(frames) - 1) / (count - 1))] for i in range(count)]


def run_shot(
    plate: Mapping[int, NDArray[np.float16]],
    truth: Mapping[int, Float],
    *,
    keys: int,
    parameters: RotoParameters,
    seed: int,
    model: ModelRef = ModelRef(),
) -> Result:
    """Fit and infer one shot with the real runner, and score it."""
    frames = sorted(plate)
    painted = {frame: truth[frame] for frame in spread_keys(frames, keys)}
    runner = RotoRunner()
    runner.load(model)
    with tempfile.TemporaryDirectory() as folder:
        shot = TimedShot(
            plate=plate,
            parameters=parameters,
            folder=Path(folder),
            seed=seed,
            frames=frames,
            keys={"subject": painted},
            on_progress=show_progress,
        )
        began = time.process_time()
        runner.fit(shot)
        fitted = time.process_time()
        results = list(runner.run(shot))
        ended = time.process_time()
    mattes = {r.frame: r.layers["matte"]["A"] for r in results}
    made = len(frames) - len(painted)
    return Result(
        score_mattes(mattes, truth, painted),
        {r.frame: r.quality["confidence"] for r in results},
        fitted - began,
        (ended - fitted) / made * 1000,
        shot.first_moved_s or 0.0,
    )


def show_progress(fraction: float, note: str) -> None:
    """Show that something moves when a person watches."""
    if sys.stderr.isatty():
        print(f"\r{fraction:6.1%} {note:40}", end="", file=sys.stderr, flush=True)


def print_row(name: str, keys: int, flow: Result, net: Result) -> None:
    """One line of the table."""
    frames = list(net.score.frames)
    sure = [net.confidence[f] for f in frames]
    correct = [net.score.frames[f].j for f in frames]
    print(
        f"{name:14} {keys:4} | {flow.score.j:.3f} {flow.score.f:.3f} {flow.score.jf:.3f} | {net.score.j:.3f} {net.score.f:.3f} "
        f"{net.score.jf:.3f} | {net.score.frames[net.score.worst].j:.3f} @{net.score.worst} | {np.corrcoef(sure, correct)[0, 1]:+.2f} | "
        f"{flow.fit_cpu_s:7.1f} {net.fit_cpu_s:7.1f} {net.infer_cpu_ms:7.0f} | {net.first_moved_s:.2f}",
        flush=True,
    )


def machine() -> str:
    """What the times were measured on."""
    import torch

    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        cpu = next(
            (line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")),
            cpu,
        )
    return (
        f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
        f"torch {torch.__version__} with {torch.get_num_threads()} thread(s), OpenCV {cv2.__version__}"
    )


def main() -> int:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", nargs="+", default=list(DEFAULT_SHOTS))
    parser.add_argument("--iterations", type=int, default=RotoParameters().iterations)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    asked = [(name, int(keys or 3)) for name, _, keys in (shot.partition(":") for shot in options.shots)]
    missing = [s for s, _ in asked if not (data_root() / "footage" / f"roto_{s}").is_dir()]
    if missing:
        print(f"skipped: no footage of {', '.join(missing)} in {data_root()}; set PLATEWRIGHT_DATA to where it lies")
        return 0
    print(
        "                    | flow alone        | net + prior       | worst          | conf~J | CPU s fit        infer  | first"
    )
    print(
        "shot           keys | J     F     J&F   | J     F     J&F   | J     frame    |        | flow     all    ms/frame| moved s"
    )
    nets: list[Score] = []
    for name, keys in asked:
        plate, truth = load_shot(name)
        flow = run_shot(plate, truth, keys=keys, parameters=RotoParameters(iterations=0), seed=options.seed)
        net = run_shot(
            plate, truth, keys=keys, parameters=RotoParameters(iterations=options.iterations), seed=options.seed
        )
        print_row(name, keys, flow, net)
        nets.append(net.score)
    print(f"mean J&F {np.mean([s.jf for s in nets]):.4f} over {len(nets)} shots")
    print(machine())
    return 0


if __name__ == "__main__":
    sys.exit(main())
