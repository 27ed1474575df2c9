"""What the camera did between frames: homographies from dense flow, chained over a shot and predicted beyond its ends.

A homography maps pixels of one frame to another's, in the plate's own full-size pixels, counted from the data window's corner, centres at
whole numbers. It describes a camera that only turns, or a scene that is far or flat; what deviates is parallax and objects.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Matrix = NDArray[np.float64]

_GRID = 4
"""Every so-many-th vector of a flow votes."""
_INLIER_PX = 0.6
_LEAST_INLIERS = 0.15
_GROWTH = 0.25
"""How much of the last change of speed is taken to happen again: measured on hand-held and tracked shots, where .25 did better than
a constant speed (0) and than autoregressions fitted to the shot, which learn its shakes rather than its way."""
_FADE = 0.5
"""What is left of that change with each further frame."""


def homography(flow: Float, size: tuple[int, int]) -> tuple[Matrix, float]:
    """The camera's motion in a dense flow, and the part of the picture that follows it.

    `flow`: (h, w, 2) in pixels of its own grid; `size`: (height, width) of the plate, in whose pixels the matrix is. MAGSAC++ (Barath et
    al. 2020) over a grid of vectors. Where nothing moves as one, the median shift, with a share of 0.
    """
    h, w = flow.shape[:2]
    top, left = min(_GRID, h) // 2, min(_GRID, w) // 2
    ys, xs = np.mgrid[top:h:_GRID, left:w:_GRID]
    start = np.stack([xs, ys], -1).reshape(-1, 2).astype(np.float32)
    vectors = flow[ys, xs].reshape(-1, 2)
    found, inliers = None, None
    if len(start) >= 16:
        found, inliers = cv2.findHomography(
            start, start + vectors, cv2.USAC_MAGSAC, _INLIER_PX, maxIters=2000, confidence=0.999
        )
    share = 0.0 if inliers is None else float(inliers.mean())
    matrix = np.eye(3)
    if found is not None and share >= _LEAST_INLIERS and is_sane(found, (h, w)):
        matrix = np.asarray(found / found[2, 2], np.float64)
    else:
        share = 0.0
        matrix[:2, 2] = np.median(vectors, 0)
    to_plate = scaling((h, w), size)
    matrix = to_plate @ matrix @ np.linalg.inv(to_plate)
    return np.asarray(matrix / matrix[2, 2], np.float64), share


def scaling(small: tuple[int, int], large: tuple[int, int]) -> Matrix:
    """From pixels of a grid of (height, width) `small` to one of `large` over the same picture."""
    sy, sx = large[0] / small[0], large[1] / small[1]
    return np.array([[sx, 0, sx / 2 - 0.5], [0, sy, sy / 2 - 0.5], [0, 0, 1]])


def shift(x: float, y: float) -> Matrix:
    """Moves by (x, y)."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def corners(size: tuple[int, int]) -> Float:
    """(4, 2): the picture's corners as x, y."""
    height, width = size
    return np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], np.float32)


def is_sane(matrix: Matrix, size: tuple[int, int]) -> bool:
    """Whether a step keeps the picture's shape: no corner behind the camera or thrown out, no fold, area within a third."""
    if not np.isfinite(matrix).all():
        return False
    own = corners(size)
    w = own @ matrix[2, :2] + matrix[2, 2]
    if (np.abs(w) < 1e-9).any() or not (np.sign(w) == np.sign(w[0])).all():
        return False
    moved = apply(matrix, own)
    reach = np.abs(moved - own).max()
    a, b, c, d = moved
    area = float(_cross(b - a, c - a) + _cross(d - b, c - b)) / 2
    full = (size[0] - 1) * (size[1] - 1)
    return bool(reach < 0.6 * max(size) and 0.66 < area / full < 1.5)


def _cross(a: Float, b: Float) -> float:
    return float(a[0] * b[1] - a[1] * b[0])


def apply(matrix: Matrix, points: Float) -> Float:
    """Points (…, 2) as x, y through a homography."""
    flat = cv2.perspectiveTransform(np.ascontiguousarray(points, np.float32).reshape(-1, 1, 2), matrix)
    return np.asarray(flat.reshape(points.shape), np.float32)


def predict(steps: Sequence[Matrix], count: int, size: tuple[int, int]) -> list[Matrix]:
    """The next `count` steps of a camera whose last ones were `steps`, oldest first (one or two of them are looked at).

    In the motion of the four corners, which is linear in the flow where a matrix's entries aren't: the last speed, and `_GROWTH` of its
    last change, fading. Empty `steps`: the camera stands.
    """
    own = corners(size)
    if not steps:
        return [np.eye(3)] * count
    speed = apply(steps[-1], own) - own
    change = np.zeros_like(speed)
    if len(steps) > 1:
        change = _GROWTH * (speed - (apply(steps[-2], own) - own))
    out = []
    for _ in range(count):
        speed = speed + change
        change = change * _FADE
        out.append(np.asarray(cv2.getPerspectiveTransform(own, (own + speed).astype(np.float32)), np.float64))
    return out


def root(matrix: Matrix, times: int, size: tuple[int, int]) -> Matrix:
    """The step that, done `times` times, comes near `matrix`: a part of its corners' motion."""
    own = corners(size)
    part = own + (apply(matrix, own) - own) / times
    return np.asarray(cv2.getPerspectiveTransform(own, part.astype(np.float32)), np.float64)


def motion_of(matrix: Matrix, grid_size: tuple[int, int], size: tuple[int, int]) -> Float:
    """A homography as a flow on a grid of (height, width) `grid_size`, (h, w, 2) in the grid's pixels."""
    to_plate = scaling(grid_size, size)
    small = np.linalg.inv(to_plate) @ matrix @ to_plate
    h, w = grid_size
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    points = np.dstack([x, y])
    return apply(small, points) - points
