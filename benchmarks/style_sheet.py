"""The contact sheet of style transfer: the demo's shot, painted by a program on two frames, and by a mood board.

    python -m benchmarks.style_sheet docs/images/style.jpg [--height 360]

The painting is layered brush strokes along the edges (Hertzmann, "Painterly rendering with curved brush strokes of multiple
sizes", 1998, with straight strokes): it stands for a painter, so it is made of single frames and knows nothing of time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from examples.demo_scene import Scene
from pipeline.media.transform import SHOT_CURVE
from pipeline.memory_shot import MemoryShot
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.style_transfer.definition import StyleParameters
from pipeline.tasks.style_transfer.runner import StyleTransferRunner

Float = NDArray[np.float32]

FRAMES = 16
SHOWN = (0, 4, 8, 12)
RADII = (14.0, 7.0, 3.2)
"""Brushes, in pixels of a picture of 540 lines."""
_WARM = np.array((1.1, 1.0, 0.86), np.float32)
_LIFT = np.array((0.03, 0.0, 0.05), np.float32)


def paint(picture: Float, seed: int = 0) -> Float:
    """(height, width, 3) in model space, painted: coarse strokes first, finer ones where they differ from the picture."""
    rng = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    held = np.clip(picture, 0, 1)
    canvas = np.full_like(held, 0.35)
    for radius in RADII:
        brush = radius * height / 540
        soft = cv2.GaussianBlur(held, (0, 0), brush * 0.7)
        grey = cv2.cvtColor(soft, cv2.COLOR_RGB2GRAY)
        slope = [cv2.GaussianBlur(cv2.Sobel(grey, cv2.CV_32F, x, 1 - x), (0, 0), brush) for x in (1, 0)]
        wrong = np.abs(canvas - soft).sum(-1)
        for y, x in _grid(rng, height, width, max(1, int(brush * 0.9))):
            if radius == RADII[0] or wrong[y, x] >= 0.09:
                _stroke(
                    canvas, rng, (int(x), int(y)), (float(slope[0][y, x]), float(slope[1][y, x])), soft[y, x], brush
                )
    return np.asarray(np.clip(canvas, 0, 1), np.float32)


def _grid(rng: np.random.Generator, height: int, width: int, step: int) -> NDArray[np.int64]:
    """Places for strokes, (n, 2) rows of y, x: a grid, shaken and shuffled."""
    ys, xs = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    places = np.stack([ys.ravel(), xs.ravel()], 1) + rng.integers(-(step // 2), step // 2 + 1, (ys.size, 2))
    rng.shuffle(places)
    return np.asarray(np.clip(places, 0, (height - 1, width - 1)))


def _stroke(
    canvas: Float,
    rng: np.random.Generator,
    at: tuple[int, int],
    slope: tuple[float, float],
    colour: Float,
    brush: float,
) -> None:
    """One straight stroke across the slope, with two bristles that show."""
    steep = float(np.hypot(*slope))
    along = np.array((-slope[1], slope[0]) if steep > 1e-4 else (1.0, 0.4)) / max(steep, 1e-4 if steep > 1e-4 else 1.08)
    half = along * brush * rng.uniform(1.5, 3.5)
    mixed = np.clip((colour * rng.uniform(0.88, 1.14) + rng.normal(0, 0.02, 3)) * _WARM + _LIFT, 0, 1)
    _line(canvas, np.array(at), half, mixed, max(1, int(brush * 0.9)))
    for side in (-0.3, 0.3):
        beside = np.array((-along[1], along[0])) * brush * side
        _line(canvas, np.array(at) + beside, half, np.clip(mixed * rng.uniform(0.85, 1.15), 0, 1), 1)


def _line(canvas: Float, middle: NDArray[Any], half: NDArray[Any], colour: NDArray[Any], width: int) -> None:
    ends = [[int(v) for v in middle + sign * half] for sign in (-1, 1)]
    cv2.line(canvas, ends[0], ends[1], [float(v) for v in colour], width, cv2.LINE_AA)


def mood_picture(height: int, width: int) -> Float:
    """A painted evening: bands of warm colours over a dark ground, made of noise."""
    rng = np.random.default_rng(7)
    bands = cv2.GaussianBlur(rng.random((height, width), dtype=np.float32), (0, 0), height / 10, sigmaY=height / 40)
    bands = (bands - bands.min()) / np.ptp(bands)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    stops = np.array(((0.95, 0.62, 0.25), (0.85, 0.3, 0.25), (0.35, 0.16, 0.32), (0.08, 0.07, 0.16)), np.float32)
    at = np.clip(0.7 * rows + 0.5 * bands - 0.1, 0, 1) * (len(stops) - 1)
    below = np.minimum(at.astype(int), len(stops) - 2)
    share = (at - below)[..., None]
    return paint(np.asarray(stops[below] * (1 - share) + stops[below + 1] * share, np.float32), seed=3)


def styled(
    plate: Mapping[int, Any], keys: Mapping[int, Float], moods: Sequence[Float], parameters: StyleParameters
) -> dict[int, Float]:
    """The runner's frames, (height, width, 3) in model space."""
    runner = StyleTransferRunner()
    runner.load(ModelRef())
    painted = {frame: np.ascontiguousarray(p.transpose(2, 0, 1)) for frame, p in keys.items()}
    with tempfile.TemporaryDirectory() as folder:
        shot = MemoryShot(
            plate=plate,
            parameters=parameters,
            folder=Path(folder),
            keys={"look": painted} if painted else {},
            references={"mood": [np.ascontiguousarray(m.transpose(2, 0, 1)) for m in moods]},
        )
        runner.fit(shot)
        return {r.frame: _upright(r.rgb) for r in runner.run(shot) if r.rgb is not None}


def _upright(rgb: Any) -> Float:
    return np.ascontiguousarray(SHOT_CURVE.forward(np.asarray(rgb, np.float32)).transpose(1, 2, 0))


def main() -> int:
    """Make the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--height", type=int, default=360)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    height, width = options.height, round(options.height * 16 / 9)
    scene = Scene(frames=FRAMES, width=width, height=height)
    plate = {i: scene.composite(i).plate.transpose(2, 0, 1).astype(np.float16) for i in range(FRAMES)}
    shown = {i: _upright(p) for i, p in plate.items()}
    one = styled(plate, {0: paint(shown[0])}, (), StyleParameters())
    two = styled(plate, {i: paint(shown[i]) for i in (0, FRAMES - 1)}, (), StyleParameters())
    mood = mood_picture(height, width)
    board = styled(plate, {}, (mood,), StyleParameters(mood="mood"))
    rows = [np.hstack([made[i] for i in SHOWN]) for made in (shown, one, two, board)]
    sheet = np.clip(np.vstack(rows), 0, 1)
    small = cv2.resize(sheet, (1200, round(1200 * sheet.shape[0] / sheet.shape[1])), interpolation=cv2.INTER_AREA)
    options.sheet.parent.mkdir(parents=True, exist_ok=True)
    packed = cv2.cvtColor(np.asarray(small * 255 + 0.5, np.uint8), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(options.sheet), packed, [cv2.IMWRITE_JPEG_QUALITY, 84])
    print(
        f"{options.sheet}: frames {SHOWN} of the plate, of one painted frame (0), of two (0, {FRAMES - 1}), of a mood board"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
