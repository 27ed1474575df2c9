"""Shot extension on real shots, against what was cut off: frames beyond an end, frames between two, and pixels beyond the edge.

    python -m benchmarks.extension [time] [space] [between] [--shots blackswan camel dog]

Time: the shot ends (or begins) at a frame in its middle, and the next ones are made; eleven ends a shot, eight tails and three heads.
Space: an eighth of the width is cut off on either side of all frames, and made again on three of them. Between: every fourth frame is
taken out and made again. PSNR in 8-bit sRGB, grain included, CPU seconds of one thread. The plates are made of footage/roto_*/frames as
scene-linear half, as an EXR would hold them. The footage lies in PLATEWRIGHT_DATA, or beside the checkout in ../shared/data; without it
this says so and stops.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.media.transform import HybridCurve
from pipeline.memory_shot import MemoryShot
from pipeline.plate import Window
from pipeline.tasks.contract import FrameResult, ModelRef
from pipeline.tasks.shot_extension.definition import SHOT_EXTENSION, ExtensionParameters
from pipeline.tasks.shot_extension.runner import ExtensionRunner

Float = NDArray[np.float32]
Plate = Mapping[int, NDArray[np.float16]]

CURVE = HybridCurve(peak=1.0)
SHOTS = ("camel", "blackswan", "dog")
FIRST = 1001
ENDS = (*((index, 1) for index in range(16, 45, 4)), (16, -1), (28, -1), (40, -1))
"""Index of the last frame that is kept, and the direction in which the shot is carried on: every fourth of the middle, and three heads."""
AHEAD = (1, 2, 4)
CUT_OFF = 0.125
TARGETS = (5, 20, 35)
BARS = {"+1": 26.0, "+2": 22.0, "covered": 23.5, "gain": 3.0}


def data_root() -> Path:
    """Where the footage lies."""
    return Path(os.environ.get("PLATEWRIGHT_DATA") or Path(__file__).parents[2] / "shared" / "data")


def load_plate(name: str) -> dict[int, NDArray[np.float16]]:
    """Frame from 1001 → (3, height, width) scene-linear half."""
    folder = data_root() / "footage" / (name if name.startswith("moving") else f"roto_{name}") / "frames"
    table = CURVE.inverse((np.arange(256) / 255).astype(np.float32)).astype(np.float16)
    plate = {}
    for number, path in enumerate(sorted(folder.glob("*.jpg"))[:60]):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        assert picture is not None, f"{path} can't be read"
        plate[FIRST + number] = table[picture].transpose(2, 0, 1)
    return plate


def shown(linear: NDArray[np.floating]) -> Float:
    """Scene-linear to 0 … 255."""
    return np.clip(CURVE.forward(linear.astype(np.float32)), 0, 1) * 255


def psnr(a: Float, b: Float, where: NDArray[np.bool_] | None = None) -> float:
    """Of (3, height, width) in 0 … 255; `where` (height, width) limits it."""
    error = np.square(a - b).mean(0)
    if where is not None:
        error = error[where]
    return float(10 * np.log10(255**2 / max(float(error.mean()), 1e-6)))


@dataclass(slots=True)
class Clock:
    """CPU seconds of fits and runs, and the frames that were made."""

    fit: float = 0.0
    run: float = 0.0
    frames: int = 0


def extended(
    plate: Plate, parameters: ExtensionParameters, *, wanted: Sequence[int], clock: Clock, targets: Sequence[int] = ()
) -> dict[int, FrameResult]:
    """Fit and run as a job would: the fit over all frames, the run frame by frame with its context. `targets` limits what is run."""
    some = next(iter(plate.values()))
    own = Window.of_size(some.shape[2], some.shape[1])
    window, display = SHOT_EXTENSION.windows(parameters, own, own)
    runner = ExtensionRunner()
    runner.load(ModelRef())
    have = sorted(plate)
    results: dict[int, FrameResult] = {}
    with tempfile.TemporaryDirectory() as folder:

        def shot(frames: Sequence[int], context: Sequence[int]) -> MemoryShot:
            return MemoryShot(
                plate=plate,
                parameters=parameters,
                folder=Path(folder),
                frames=frames,
                context=context,
                available=[f for f in have if f in {*frames, *context}],
                window=window,
                display_window=display,
                plate_window=own,
            )

        began = time.process_time()
        runner.fit(shot(wanted, [f for f in have if f not in set(wanted)]))
        clock.fit += time.process_time() - began
        began = time.process_time()
        reach = SHOT_EXTENSION.context_frames(parameters)
        todo = list(targets) or [f for f in wanted if f not in plate]
        for frame in todo:
            below, above = [f for f in have if f < frame][-reach:], [f for f in have if f > frame][:reach]
            results |= {r.frame: r for r in runner.run(shot([frame], below + above))}
        clock.run += time.process_time() - began
        clock.frames += len(todo)
    return results


def time_table(shots: Sequence[str], ends: Sequence[tuple[int, int]] = ENDS, grain: float = 1.0) -> None:
    """Frames beyond an end."""
    print(f"\nTime: PSNR in dB of the frames beyond {len(ends)} ends of each shot, grain {grain:g}\n")
    print("| shot | frames on | freeze | ping-pong | here | confidence | seam |")
    print("|---|---|---|---|---|---|---|")
    means: dict[int, list[float]] = {}
    clock = Clock()
    for name in shots:
        plate = load_plate(name)
        rows: dict[int, list[tuple[float, ...]]] = {}
        for index, way in ends:
            last = FIRST + index
            kept = {f: p for f, p in plate.items() if (f <= last if way > 0 else f >= last)}
            new = [frame for k in AHEAD if (frame := last + way * k) in plate]
            made = extended(kept, ExtensionParameters(grain=grain), wanted=sorted({*kept, *new}), clock=clock)
            for frame in new:
                k = abs(frame - last)
                truth, rgb = shown(plate[frame]), made[frame].rgb
                assert rgb is not None
                rows.setdefault(k, []).append(
                    (
                        psnr(shown(plate[last]), truth),
                        psnr(shown(plate[last - way * k]), truth),
                        psnr(shown(rgb), truth),
                        made[frame].quality["confidence"],
                        made[frame].quality["seam"],
                    )
                )
        for k, values in rows.items():
            mean = np.mean(values, 0)
            means.setdefault(k, []).append(float(mean[2]))
            print(f"| {name} | +{k} | {mean[0]:.1f} | {mean[1]:.1f} | {mean[2]:.1f} | {mean[3]:.2f} | {mean[4]:.2f} |")
    for k, bar in ((1, BARS["+1"]), (2, BARS["+2"])):
        print(f"Mean at +{k}: {np.mean(means[k]):.2f} dB; bar {bar}")
    print(f"CPU: fit {clock.fit / len(ends) / len(shots):.1f} s a shot, {clock.run / clock.frames:.2f} s a frame")


def space_table(shots: Sequence[str]) -> None:
    """Pixels beyond the edge."""
    print("\nSpace: PSNR in dB of the strips cut off, 12.5 % of the width on either side\n")
    print("| shot | coverage | replicate | reflect | here | covered: replicate | covered: here | confidence | seam |")
    print("|---|---|---|---|---|---|---|---|---|")
    covered, gains = [], []
    clock = Clock()
    for name in shots:
        plate = dict(list(load_plate(name).items())[:40])
        full = next(iter(plate.values())).shape[2]
        cut = int(full * CUT_OFF)
        narrow = {f: np.ascontiguousarray(p[:, :, cut : full - cut]) for f, p in plate.items()}
        parameters = ExtensionParameters(mode="space", left=cut, right=cut)
        targets = [FIRST + t for t in TARGETS if FIRST + t in narrow]
        made = extended(narrow, parameters, wanted=sorted(narrow), clock=clock, targets=targets)
        rows = []
        for frame, result in made.items():
            assert result.rgb is not None and result.changed is not None
            truth, own = shown(plate[frame]), shown(narrow[frame])
            strips = result.changed
            shows = strips & (result.layers["extension"]["coverage"] > 0.5)
            sides = ((0, 0), (0, 0), (cut, cut))
            picture = shown(result.rgb)
            rows.append(
                (
                    float(shows.sum() / strips.sum()),
                    psnr(np.pad(own, sides, mode="edge"), truth, strips),
                    psnr(np.pad(own, sides, mode="reflect"), truth, strips),
                    psnr(picture, truth, strips),
                    psnr(np.pad(own, sides, mode="edge"), truth, shows) if shows.any() else np.nan,
                    psnr(picture, truth, shows) if shows.any() else np.nan,
                    result.quality["confidence"],
                    result.quality["seam"],
                )
            )
        mean = np.nanmean(rows, 0)
        covered.append(float(mean[5]))
        if mean[0] > 0.6:
            gains.append(float(mean[3] - mean[1]))
        columns = " | ".join(f"{value:.1f}" for value in mean[1:6])
        print(f"| {name} | {mean[0]:.2f} | {columns} | {mean[6]:.2f} | {mean[7]:.2f} |")
    print(f"Mean of covered pixels: {np.mean(covered):.2f} dB; bar {BARS['covered']}")
    if gains:
        print(f"Over replication where coverage is above .6: {min(gains):.2f} dB at least; bar {BARS['gain']}")
    print(f"CPU: fit {clock.fit / len(shots):.1f} s a shot of 40 frames, {clock.run / clock.frames:.2f} s a frame")


def between_table(shots: Sequence[str]) -> None:
    """Frames between two."""
    print("\nBetween: PSNR in dB of every fourth frame, made from its neighbours\n")
    print("| shot | average | here | confidence | seam |")
    print("|---|---|---|---|---|")
    clock = Clock()
    for name in shots:
        plate = dict(list(load_plate(name).items())[:30])
        frames = sorted(plate)
        out = frames[1:-1:4]
        kept = {f: p for f, p in plate.items() if f not in out}
        made = extended(kept, ExtensionParameters(), wanted=frames, clock=clock)
        rows = []
        for frame in out:
            rgb = made[frame].rgb
            assert rgb is not None
            truth = shown(plate[frame])
            average = (shown(plate[frame - 1]) + shown(plate[frame + 1])) / 2
            quality = made[frame].quality
            rows.append((psnr(average, truth), psnr(shown(rgb), truth), quality["confidence"], quality["seam"]))
        mean = np.mean(rows, 0)
        print(f"| {name} | {mean[0]:.1f} | {mean[1]:.1f} | {mean[2]:.2f} | {mean[3]:.2f} |")
    print(f"CPU: fit {clock.fit / len(shots):.1f} s a shot, {clock.run / clock.frames:.2f} s a frame")


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=["time", "space", "between"])
    parser.add_argument("--shots", nargs="+", default=list(SHOTS))
    parser.add_argument("--tail", type=int, help="time: this one end alone, by the index of its last frame")
    parser.add_argument("--grain", type=float, default=1.0, help="time: strength of the grain on made frames")
    arguments = parser.parse_args()
    if not (data_root() / "footage").is_dir():
        print(f"no footage at {data_root()}: set PLATEWRIGHT_DATA; nothing measured", file=sys.stderr)
        return 0
    cv2.setNumThreads(1)
    ends = ENDS if arguments.tail is None else ((arguments.tail, 1),)
    for name in arguments.tables:
        match name:
            case "time":
                time_table(arguments.shots, ends, arguments.grain)
            case "space":
                space_table(arguments.shots)
            case "between":
                between_table(arguments.shots)
            case _:
                parser.error(f"no table is called {name}")
    print(
        f"\n{platform.processor() or platform.machine()}, Python {platform.python_version()}, OpenCV {cv2.__version__}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
