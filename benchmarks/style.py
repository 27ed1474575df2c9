"""Style transfer on a real clip with painted frames: steadiness, likeness to the painter's own later frames, CPU time.

    python -m benchmarks.style [--keys 0] [--size 640x360] [--hd]

The clip is footage/style_ezsynth: eleven frames, painted at 0, 2, 3, 6 and 10. Frames 3, 6 and 10 are the truth. The plate is
made of the 8-bit JPEGs as scene-linear half, and goes through the real runner. E_warp is `pipeline.quality.warping` along the
source's own flow, on 0 … 1; SSIM on grey, 8 bit. The footage lies in PLATEWRIGHT_DATA, or beside the checkout in ../shared/data.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from benchmarks.roto import data_root, machine
from pipeline.media.transform import SHOT_CURVE
from pipeline.memory_shot import MemoryShot
from pipeline.motion import FlowEstimator
from pipeline.quality.warping import warping_error
from pipeline.tasks.contract import FrameResult, ModelRef
from pipeline.tasks.style_transfer.carry import carry
from pipeline.tasks.style_transfer.definition import STYLE_TRANSFER, StyleParameters
from pipeline.tasks.style_transfer.render import sample, stretch
from pipeline.tasks.style_transfer.runner import StyleTransferRunner

Float = NDArray[np.float32]

PAINTED = (0, 2, 3, 6, 10)
SCORED = (3, 6, 10)
BAR_S, BAR_SSIM = 1.2, 0.79
PROTOTYPE = ("prototype: patches", 0.0097, (0.932, 0.899, 0.761), 2.2)
PROTOTYPE_BLENDED = ("prototype: patches, recursive blend", 0.0037, (0.947, 0.923, 0.798), 2.2)
"""Measured once on this clip at 640 × 360, key 0; its blend runs on from frame to frame, so chunks can't share it."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames and paintings, (height, width, 3) in model space, by index."""

    frames: Mapping[int, Float]
    paintings: Mapping[int, Float]
    flows: Sequence[tuple[Float, Float]]
    """Between frame i and i + 1: back to i, and ahead to i + 1."""


def load_clip(size: tuple[int, int]) -> Clip:
    """The clip at (width, height)."""
    folder = data_root() / "footage" / "style_ezsynth"
    frames = {i: _read(path, size) for i, path in enumerate(sorted((folder / "frames").glob("*.jpg")))}
    paintings = {i: _read(next((folder / "keyframes").glob(f"style{i:03d}.*")), size) for i in PAINTED}
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(_bytes(frames[i]), cv2.COLOR_RGB2GRAY) for i in sorted(frames)]
    flows = [(flow.calc(b, a, None), flow.calc(a, b, None)) for a, b in pairwise(grey)]
    return Clip(frames, paintings, flows)


def _read(path: Path, size: tuple[int, int]) -> Float:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert picture is not None, f"{path} can't be read"
    way = cv2.INTER_AREA if size[0] < picture.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=way), np.float32) / np.float32(255)


def _bytes(picture: Float) -> NDArray[np.uint8]:
    return np.asarray(np.clip(picture, 0, 1) * 255 + 0.5, np.uint8)


def clip_error(clip: Clip, made: Mapping[int, Float]) -> float:
    """E_warp of a version of the clip."""
    held = {i: np.clip(p, 0, 1) for i, p in made.items()}
    return float(np.mean([warping_error(held[i], held[i + 1], *clip.flows[i]) for i in range(len(clip.flows))]))


def ssim(made: Float, truth: Float) -> float:
    """Likeness on grey, 8 bit."""
    a, b = (cv2.cvtColor(_bytes(p), cv2.COLOR_RGB2GRAY) for p in (made, truth))
    return float(structural_similarity(a, b))


def flow_alone(clip: Clip) -> dict[int, Float]:
    """The first painting, warped along the chained flow: what there is without any patches."""
    flow = FlowEstimator()
    grey = [flow.prepare(clip.frames[i].transpose(2, 0, 1)) for i in sorted(clip.frames)]
    pairs = [flow.pair(a, b) for a, b in pairwise(grey)]
    key = clip.paintings[0]
    made = {0: key}
    lines, across = pairs[0].forward.shape[:2]
    scale = (key.shape[0] / lines, key.shape[1] / across)
    for i, _, way in carry([0], pairs, len(grey), (lines, across)):
        made[i] = sample(key, stretch(way.offset, (key.shape[0], key.shape[1]), scale))
    return made


@dataclass(frozen=True, slots=True)
class Run:
    """What the runner made, and the CPU seconds a frame."""

    made: Mapping[int, Float]
    fit_s: float
    run_s: float
    joins_identical: bool


def run_style(clip: Clip, keys: Sequence[int], parameters: StyleParameters, *, check_chunks: bool) -> Run:
    """The real runner over the clip, whole; and again in chunks of three, each with its context alone."""
    plate: dict[int, Any] = {
        i: SHOT_CURVE.inverse(np.ascontiguousarray(p.transpose(2, 0, 1))).astype(np.float16)
        for i, p in clip.frames.items()
    }
    painted = {i: np.ascontiguousarray(clip.paintings[i].transpose(2, 0, 1)) for i in keys}
    runner = StyleTransferRunner()
    runner.load(ModelRef())
    with tempfile.TemporaryDirectory() as folder:
        shot = MemoryShot(plate=plate, parameters=parameters, folder=Path(folder), keys={"look": painted})
        began = time.process_time()
        runner.fit(shot)
        fitted = time.process_time()
        results = list(runner.run(shot))
        ended = time.process_time()
        same = not check_chunks or _chunks_agree(runner, shot, results)
    made = {r.frame: SHOT_CURVE.forward(r.rgb).transpose(1, 2, 0) for r in results if r.rgb is not None}
    count = len(plate)
    return Run(made, (fitted - began) / count, (ended - fitted) / count, same)


def _chunks_agree(runner: StyleTransferRunner, shot: MemoryShot, whole: Sequence[FrameResult]) -> bool:
    frames = sorted(shot.plate)
    reach = STYLE_TRANSFER.context_frames(shot.parameters)
    for start in range(0, len(frames), 3):
        chunk = frames[start : start + 3]
        context = [*frames[max(0, start - reach) : start], *frames[start + 3 : start + 3 + reach]]
        part = MemoryShot(
            plate=shot.plate,
            parameters=shot.parameters,
            folder=shot.folder,
            keys=shot.keys,
            frames=chunk,
            context=context,
        )
        for result in runner.run(part):
            one, other = result.rgb, whole[frames.index(result.frame)].rgb
            if one is None or other is None or one.tobytes() != other.tobytes():
                return False
    return True


def print_row(name: str, error: float, likeness: Sequence[float | None], cpu_s: float | None) -> None:
    """One line of the table."""
    shown = " ".join("  –  " if value is None else f"{value:.3f}" for value in likeness)
    print(f"{name:36} | {error:.4f} | {shown} | {'–' if cpu_s is None else f'{cpu_s:.2f}'}", flush=True)


def score(clip: Clip, made: Mapping[int, Float], keys: Sequence[int]) -> list[float | None]:
    """SSIM on the frames that were not given."""
    return [None if i in keys else ssim(made[i], clip.paintings[i]) for i in SCORED]


def main() -> int:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, nargs="+", default=[0], choices=PAINTED)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--hd", action="store_true", help="also the CPU time at 1920x1080")
    options = parser.parse_args()
    if not (data_root() / "footage" / "style_ezsynth").is_dir():
        print(f"skipped: no footage style_ezsynth in {data_root()}; set PLATEWRIGHT_DATA to where it lies")
        return 0
    cv2.setNumThreads(1)
    width, _, height = options.size.partition("x")
    clip = load_clip((int(width), int(height)))
    print(f"{options.size}, {len(clip.frames)} frames        E_warp: lower is better; SSIM to the painter's own frames")
    print(f"{'':36} | E_warp | +3    +6    +10   | CPU s a frame")
    source = clip_error(clip, clip.frames)
    print_row("the source clip", source, [None] * 3, None)
    warped = flow_alone(clip)
    print_row("plain flow warp of key 0", clip_error(clip, warped), score(clip, warped, ()), None)
    if options.size == "640x360":
        for name, error, likeness, cpu in (PROTOTYPE, PROTOTYPE_BLENDED):
            print_row(f"{name} *", error, likeness, cpu)
    result = None
    for keys in (options.keys, [0, 10]) if options.keys == [0] else (options.keys,):
        for blend in (0, 1, 2):
            found = run_style(clip, keys, StyleParameters(blend_frames=blend), check_chunks=blend > 0)
            name = f"keys {keys}, {blend} neighbours{' (default)' if blend == StyleParameters().blend_frames else ''}"
            print_row(name, clip_error(clip, found.made), score(clip, found.made, keys), found.fit_s + found.run_s)
            if not found.joins_identical:
                print("    chunks of three do NOT give the same bits as the whole")
            if blend == StyleParameters().blend_frames and keys == [0]:
                result = found
    if result is not None and options.size == "640x360":
        error, likeness, cpu = (
            clip_error(clip, result.made),
            ssim(result.made[10], clip.paintings[10]),
            result.fit_s + result.run_s,
        )
        print(
            f"bars, default, key 0: E_warp {error:.4f} <= {source:.4f} {_met(error <= source)}; SSIM at +10 {likeness:.3f} >= {BAR_SSIM} "
            f"{_met(likeness >= BAR_SSIM)}; {cpu:.2f} <= {BAR_S} CPU s a frame {_met(cpu <= BAR_S)}; chunks of three are bit-identical "
            f"to the whole {_met(result.joins_identical)}"
        )
        print("* measured once, with its own script")
    if options.hd:
        large = load_clip((1920, 1080))
        for keys in ([0], [0, 10]):
            found = run_style(large, keys, StyleParameters(), check_chunks=False)
            print(f"1920x1080, keys {keys}: fit {found.fit_s:.2f}, run {found.run_s:.2f} CPU s a frame")
    print(machine())
    return 0


def _met(held: bool) -> str:
    return "met" if held else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
