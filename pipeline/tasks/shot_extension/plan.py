"""Which frames of the plate each delivered frame is made from. Pure: numbers in, numbers out, no pictures."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.shot_extension.camera import Matrix, apply, corners, predict, root

_MOST_SOURCES = 8
_LEAST_GAIN = 0.004
"""Part of the missing area that a further source must add."""
_NEAR = 2
"""Frames of distance at which a source must show twice as much as the frame next door."""
_COARSE = 96
"""Cells along the window's longer side in which coverage is planned."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Frames between two cuts. `frames`: of the plate, rising. `camera`: frame → its homography to the scene's first frame, for those of
    the plate; `place` has it for any."""

    frames: tuple[int, ...]
    camera: Mapping[int, Matrix] = field(default_factory=dict)


def split(
    available: Sequence[int], wanted: Sequence[int], cuts: Sequence[int]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(the plate's frames, all frames wanted) of each scene that something is wanted of."""
    marks = sorted(cuts)
    scenes: dict[int, tuple[list[int], list[int]]] = {}
    for frame in sorted(available):
        scenes.setdefault(bisect_right(marks, frame), ([], []))[0].append(frame)
    for frame in sorted(wanted):
        scenes.setdefault(bisect_right(marks, frame), ([], []))[1].append(frame)
    return [(tuple(own), tuple(asked)) for _, (own, asked) in sorted(scenes.items()) if asked]


def neighbours(frames: Sequence[int], frame: int) -> tuple[int | None, int | None]:
    """The nearest of `frames` (rising) below and above one that is not among them."""
    at = bisect_left(frames, frame)
    return (frames[at - 1] if at > 0 else None), (frames[at] if at < len(frames) else None)


def place(scene: Scene, frame: int, size: tuple[int, int]) -> Matrix:
    """A frame's homography to the scene's first frame: known, shared out over a gap, or carried on beyond an end."""
    if frame in scene.camera:
        return scene.camera[frame]
    before, after = neighbours(scene.frames, frame)
    if before is not None and after is not None:
        step = root(between(scene, before, after), after - before, size)
        return scene.camera[before] @ np.linalg.inv(np.linalg.matrix_power(step, frame - before))
    last = before if before is not None else after
    assert last is not None  # a scene has a frame
    return scene.camera[last] @ np.linalg.inv(beyond(scene, last, frame, size))


def beyond(scene: Scene, last: int, frame: int, size: tuple[int, int]) -> Matrix:
    """The camera from the plate's `last` frame (or its first, where `frame` lies before it) to a frame outside."""
    order = scene.frames if frame > last else scene.frames[::-1]
    tail = order[-3:]
    steps = [root(between(scene, a, b), abs(b - a), size) for a, b in pairwise(tail)]
    total = np.eye(3)
    for step in predict(steps, abs(frame - last), size):
        total = step @ total
    return np.asarray(total / total[2, 2], np.float64)


def between(scene: Scene, a: int, b: int) -> Matrix:
    """From frame a's pixels to frame b's, both of the plate."""
    matrix = np.linalg.inv(scene.camera[b]) @ scene.camera[a]
    return np.asarray(matrix / matrix[2, 2], np.float64)


def choose_sources(
    candidates: Sequence[tuple[int, Matrix]],
    frame: int,
    size: tuple[int, int],
    rectangle: tuple[float, float, float, float],
    known: tuple[float, float, float, float] | None,
) -> list[int]:
    """Which candidates (frame, its homography to the target) to gather a wider picture from, the most telling first.

    Greedy set cover on a coarse grid over `rectangle` (x0, y0, x1, y1 in the target's plate pixels) less `known`: what a frame adds,
    divided by how far it is, for light and shapes drift with distance.
    """
    x0, y0, x1, y1 = rectangle
    cell = max(x1 - x0, y1 - y0) / _COARSE
    x, y = np.meshgrid(np.arange(x0 + cell / 2, x1, cell), np.arange(y0 + cell / 2, y1, cell))
    points = np.dstack([x, y]).astype(np.float32)
    open_ = np.ones(points.shape[:2], bool)
    if known is not None:
        open_ &= ~((x >= known[0]) & (y >= known[1]) & (x <= known[2]) & (y <= known[3]))
    total = max(1, int(open_.sum()))
    shows = {other: _inside(matrix, points, size) for other, matrix in candidates}
    chosen: list[int] = []
    while len(chosen) < _MOST_SOURCES and open_.any():
        scores = {
            other: float((seen & open_).sum()) / (_NEAR + abs(other - frame))
            for other, seen in shows.items()
            if other not in chosen and (seen & open_).sum() >= _LEAST_GAIN * total
        }
        if not scores:
            break
        best = max(scores, key=lambda other: (scores[other], -abs(other - frame), other))
        chosen.append(best)
        open_ &= ~shows[best]
    return chosen


def _inside(matrix: Matrix, points: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which points of the target lie inside the other frame."""
    inverse = np.asarray(np.linalg.inv(matrix), np.float64)
    depth = points @ inverse[2, :2].astype(np.float32) + np.float32(inverse[2, 2])
    centre = np.array([[size[1] / 2, size[0] / 2]], np.float32)
    front = np.sign(depth) == np.sign(float(centre[0] @ inverse[2, :2] + inverse[2, 2]))
    there = apply(inverse, points)
    height, width = size
    return np.asarray(
        front
        & (there[..., 0] >= 1)
        & (there[..., 1] >= 1)
        & (there[..., 0] <= width - 2)
        & (there[..., 1] <= height - 2)
    )


def near(frames: Sequence[int], frame: int, reach: int) -> list[int]:
    """The `reach` frames of `frames` (rising) on either side of one, itself left out."""
    low, high = bisect_left(frames, frame), bisect_right(frames, frame)
    return list(frames[max(0, low - reach) : low]) + list(frames[high : high + reach])


def usable(scene: Scene, frame: int, others: Sequence[int], size: tuple[int, int]) -> list[tuple[int, Matrix]]:
    """Those of `others` whose chain of homographies to `frame` still is a camera's: not folded, not more than doubled in scale."""
    target = np.linalg.inv(place(scene, frame, size))
    out = []
    own = corners(size)
    for other in others:
        matrix = target @ scene.camera[other]
        matrix = matrix / matrix[2, 2]
        depth = own @ matrix[2, :2] + matrix[2, 2]
        if np.isfinite(matrix).all() and (depth > 0.4).all() and (depth < 2.5).all():
            sides = apply(matrix, own)
            scale = np.linalg.norm(sides[1] - sides[0]) / (size[1] - 1) if size[1] > 1 else 1.0
            if 0.5 < scale < 2:
                out.append((other, np.asarray(matrix, np.float64)))
    return out


Fetch = Callable[[int, int], Matrix]


def chain(frames: Sequence[int], step: Fetch) -> Scene:
    """A scene whose frames are placed one after the other; `step(a, b)` is the homography from frame a to b, the next."""
    camera: dict[int, Matrix] = {}
    for before, frame in zip((None, *frames), frames, strict=False):
        camera[frame] = np.eye(3) if before is None else camera[before] @ np.linalg.inv(step(before, frame))
        camera[frame] = camera[frame] / camera[frame][2, 2]
    return Scene(tuple(frames), camera)
