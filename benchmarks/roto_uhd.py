"""Roto's edges on an UHD plate whose alpha is known exactly, and the memory that it takes.

    python -m benchmarks.roto_uhd [--width 3840] [--frames 9] [--iterations 150]

The plate is made on the spot: a textured star with thin rays glides and turns over a textured ground, at full size, in scene-linear half.
Keys on the first and the last frame. The same fitted net's mattes go to full size three ways: plain (bilinear), as logits without the
plate, and as the runner delivers them. F counts contours as matched within 2 and 6 pixels at 3840 × 2160, not within DAVIS's 35.
Each stage's peak memory is that of the process, which does nothing else.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.roto import CURVE, machine
from pipeline.memory_shot import MemoryShot
from pipeline.quality.overlap import contour_accuracy, region_similarity
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.roto.definition import RotoParameters
from pipeline.tasks.roto.fitted import load_facts
from pipeline.tasks.roto.runner import RotoRunner

Float = NDArray[np.float32]

TOLERANCES_PX = (2, 6)


def texture(seed: int, height: int, width: int) -> Float:
    """Noise in octaves, (height, width, 3), 0 … 1: detail at every size down to the pixel."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    cells, weight = 4, 0.3
    while cells < height:
        noise = random.random((cells, cells * width // height, 3), dtype=np.float32) - np.float32(0.5)
        total += np.float32(weight) * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 3, weight * 0.75
    return np.clip(total + 0.5, 0, 1)


def star(index: int, height: int, width: int) -> Float:
    """The exact alpha of frame `index`, (height, width): covered part of each pixel, from 4 × 4 samples where the edge is near."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    alpha = _inside(x + np.float32(0.5), y + np.float32(0.5), index, height, width).astype(np.float32)
    near = cv2.morphologyEx(alpha, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    x, y = x[near], y[near]
    offsets = [np.float32(o) for o in (0.125, 0.375, 0.625, 0.875)]
    alpha[near] = np.mean([_inside(x + dx, y + dy, index, height, width) for dy in offsets for dx in offsets], axis=0)
    return alpha


def _inside(x: Float, y: Float, index: int, height: int, width: int) -> NDArray[np.bool_]:
    scale = height / 2160
    x = x - np.float32(width * 0.4 + index * 14 * scale)
    y = y - np.float32(height * 0.5 + index * 5 * scale)
    angle = np.arctan2(y, x) - np.float32(index * 0.02)
    rays = np.maximum(np.cos(angle * 7), 0) ** 6
    return np.asarray(np.hypot(x, y) < (520 + 180 * rays + 24 * np.cos(angle * 31)) * np.float32(scale))


def make(frames: int, height: int, width: int) -> tuple[dict[int, NDArray[np.float16]], dict[int, Float]]:
    """The plate, (3, height, width) half, and its alpha, by frame from 1001."""
    ground = texture(1, height, width + 64 * frames) * np.float32(0.55)
    skin = texture(2, height, width) * np.float32(0.6) + np.float32((0.3, 0.2, 0.1))
    plate, truth = {}, {}
    for i in range(frames):
        alpha = star(i, height, width)
        around = cv2.getRotationMatrix2D((width * 0.4, height * 0.5), -np.degrees(i * 0.02), 1)
        around[:, 2] += np.array((i * 14, i * 5)) * height / 2160
        over = cv2.warpAffine(skin, around, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        shift = round(i * 6 * height / 2160)
        display = over * alpha[..., None] + ground[:, shift : shift + width] * (1 - alpha[..., None])
        plate[1001 + i] = CURVE.inverse(np.ascontiguousarray(display.transpose(2, 0, 1))).astype(np.float16)
        truth[1001 + i] = alpha
    return plate, truth


def edge_width_px(matte: Float) -> float:
    """Mean width of the edge: the area between 10 and 90 %, over the length of the contour."""
    soft = int(((matte > 0.1) & (matte < 0.9)).sum())
    contours, _ = cv2.findContours((matte > 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return soft / max(1.0, sum(cv2.arcLength(c, True) for c in contours))


def peak_mb() -> float:
    """Of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def print_row(name: str, found: Mapping[int, Float], truth: Mapping[int, Float]) -> None:
    """One way's scores over the frames that no key gave away."""
    diagonal = float(np.hypot(*next(iter(truth.values())).shape))
    j = float(np.mean([region_similarity(m, truth[f]) for f, m in found.items()]))
    contours = [
        float(np.mean([contour_accuracy(m, truth[f], tolerance=px / diagonal) for f, m in found.items()]))
        for px in TOLERANCES_PX
    ]
    sad = float(np.mean([np.abs(m - truth[f]).sum() / 1000 for f, m in found.items()]))
    width = float(np.mean([edge_width_px(m) for m in found.values()]))
    print(
        f"{name:34} | {j:.4f} | " + " | ".join(f"{f:.3f}" for f in contours) + f" | {sad:6.2f} | {width:5.1f}",
        flush=True,
    )


def main() -> int:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=3840)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=Path, help="write a crop of the last made frame, each way, into this folder")
    options = parser.parse_args()
    width, height = options.width, round(options.width * 9 / 16)
    plate, truth = make(options.frames, height, width)
    frames = sorted(plate)
    keys = {f: truth[f] for f in (frames[0], frames[-1])}
    base = peak_mb()
    runner = RotoRunner()
    runner.load(ModelRef())
    with tempfile.TemporaryDirectory() as folder:
        parameters = RotoParameters(iterations=options.iterations)
        shot = MemoryShot(
            plate=plate, parameters=parameters, folder=Path(folder), seed=options.seed, keys={"star": keys}
        )
        runner.fit(shot)
        fitted_mb = peak_mb()
        shot.frames = [f for f in frames if f not in keys]
        began = time.process_time()
        refined = {r.frame: r.layers["matte"]["A"] for r in runner.run(shot)}
        each_ms = (time.process_time() - began) / len(refined) * 1000
        infer_mb = peak_mb()
        shot.parameters = RotoParameters(iterations=options.iterations, edge_refine=False)
        logits = {r.frame: r.layers["matte"]["A"] for r in runner.run(shot)}
        facts = load_facts(shot.folder)
    small = {f: cv2.resize(m, (facts.width, facts.height), interpolation=cv2.INTER_AREA) for f, m in logits.items()}
    ways: dict[str, Callable[[int], Float]] = {
        "plain upsampling, bilinear": lambda f: np.asarray(cv2.resize(small[f], (width, height)), np.float32),
        "the exact alpha at 480 lines, plain": lambda f: np.asarray(
            cv2.resize(
                cv2.resize(truth[f], (facts.width, facts.height), interpolation=cv2.INTER_AREA), (width, height)
            ),
            np.float32,
        ),
        "as a logit": lambda f: logits[f],
        "refined on tiles": lambda f: refined[f],
        "(the exact alpha)": lambda f: truth[f],
    }
    print(f"{width} × {height}, {len(refined)} frames | J | F 2 px | F 6 px | SAD /1000 | edge px")
    for name, way in ways.items():
        mattes = {f: way(f) for f in refined}
        print_row(name, mattes, truth)
        if options.pictures:
            _picture(options.pictures / f"{name.split(',')[0].replace(' ', '_')}.png", mattes, plate)
    plate_mb = sum(p.nbytes for p in plate.values()) / 2**20 + sum(t.nbytes for t in truth.values()) / 2**20
    print(
        f"infer {each_ms:.0f} ms CPU a frame; peak {fitted_mb:.0f} MB after the fit, {infer_mb:.0f} MB after inference"
    )
    print(
        f"of which {base:.0f} MB before the runner came: the plate and its alpha, {plate_mb:.0f} MB, and their making"
    )
    print(machine())
    return 0


def _picture(path: Path, mattes: Mapping[int, Float], plate: Mapping[int, NDArray[np.float16]]) -> None:
    """The subject over grey, a 640 × 360 crop at the edge, pixel for pixel."""
    frame = max(mattes)
    alpha = mattes[frame]
    height, width = alpha.shape
    x, y = int(width * 0.4) + 420 * width // 3840, height // 2 - 180
    cut = np.s_[y : y + 360, x : x + 640]
    rgb = CURVE.forward(plate[frame][:, cut[0], cut[1]].astype(np.float32)).transpose(1, 2, 0)
    over = rgb * alpha[cut][..., None] + (1 - alpha[cut][..., None]) * np.float32(0.9)
    cv2.imwrite(str(path), np.clip(over[..., ::-1] * 255, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    sys.exit(main())
