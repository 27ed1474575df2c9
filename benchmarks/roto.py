"""Roto on real shots: keys on few frames, scored on all others, with the CPU time that it took.

    python benchmarks/roto.py [--shots blackswan camel dog] [--keys 3] [--iterations 300]

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

from pipeline.media.transform import HybridCurve
from pipeline.quality.overlap import Score, score_mattes
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.roto.definition import RotoParameters
from pipeline.tasks.roto.runner import RotoRunner

Float = NDArray[np.float32]

CURVE = HybridCurve(peak=1.0)
DEFAULT_SHOTS = ("blackswan", "camel", "dog")


@dataclass(slots=True)
class MemoryShot:
    """A shot held in memory, as a runner's context. `plate`: frame → (3, height, width) scene-linear half."""

    parameters: RotoParameters
    seed: int
    frames: Sequence[int]
    keys: Mapping[str, Mapping[int, Float]]
    folder: Path
    plate: Mapping[int, NDArray[np.float16]]
    context: Sequence[int] = ()
    cuts: Sequence[int] = ()
    began: float = field(default_factory=time.perf_counter)
    first_preview_s: float | None = None
    first_moved_s: float | None = None

    def at(self, frame: int) -> RotoParameters:
        """Nothing is keyed here."""
        return self.parameters

    def linear(self, frame: int) -> Float:
        """The plate's own pixels."""
        return self.plate[frame].astype(np.float32)

    def display(self, frame: int, height: int | None = None) -> Float:
        """Model space, at most `height` lines."""
        picture = CURVE.forward(self.linear(frame))
        lines, columns = picture.shape[1:]
        if height is None or height >= lines:
            return picture
        size = (round(columns * height / lines), height)
        return np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in picture])

    def prefetch(self, frames: Sequence[int], height: int | None = None) -> None:
        """Nothing to read ahead: the plate is in memory."""

    def progress(self, fraction: float, note: str = "") -> None:
        """Show that something moves when a person watches."""
        if sys.stderr.isatty():
            print(f"\r{fraction:6.1%} {note:40}", end="", file=sys.stderr, flush=True)

    def preview(self, frame: int, layers: Mapping[str, Float]) -> None:
        """Note when the first came, and the first of a frame that nobody painted."""
        now = time.perf_counter() - self.began
        if self.first_preview_s is None:
            self.first_preview_s = now
        if self.first_moved_s is None and all(frame not in painted for painted in self.keys.values()):
            self.first_moved_s = now


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
) -> Result:
    """Fit and infer one shot with the real runner, and score it."""
    frames = sorted(plate)
    painted = {frame: truth[frame] for frame in spread_keys(frames, keys)}
    runner = RotoRunner()
    runner.load(ModelRef())
    with tempfile.TemporaryDirectory() as folder:
        shot = MemoryShot(parameters, seed, frames, {"subject": painted}, Path(folder), plate)
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
    parser.add_argument("--keys", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    missing = [s for s in options.shots if not (data_root() / "footage" / f"roto_{s}").is_dir()]
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
    for name in options.shots:
        plate, truth = load_shot(name)
        flow = run_shot(plate, truth, keys=options.keys, parameters=RotoParameters(iterations=0), seed=options.seed)
        net = run_shot(
            plate, truth, keys=options.keys, parameters=RotoParameters(iterations=options.iterations), seed=options.seed
        )
        print_row(name, options.keys, flow, net)
        nets.append(net.score)
    print(f"mean J&F {np.mean([s.jf for s in nets]):.4f} over {len(nets)} shots")
    print(machine())
    return 0


if __name__ == "__main__":
    sys.exit(main())
