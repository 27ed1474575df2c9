"""Pixels that a frame hasn't, taken from other frames that show them.

Each source is laid over the target by the camera's homography. What the homography misses — drift, parallax, light — is measured
where the two overlap and carried smoothly outwards from there, so that a source meets the plate's edge without a step. At each pixel
the source counts that fits best next to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.dense_flow import DenseFlow
from pipeline.motion import grid
from pipeline.tasks.shot_extension.camera import Matrix, apply, scaling
from pipeline.tasks.shot_extension.reading import grey_of
from pipeline.tasks.shot_extension.smooth import push_pull

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]

_TILE = 256
_ERROR = 0.08
"""Difference in model space at which an overlap counts little."""
_LIGHT_MOST = 0.12
"""Most that light may be moved, in model space: more is another object, not another exposure."""
_SHIFT_MOST = 1 / 24
"""Most that a source may be bent, as a part of the picture's height."""
_PER_FRAME = 0.0015
"""What a frame of distance adds to a source's error."""
_MOVING_COST = 0.1
_SHARP = 0.012
"""How sharply the best source is preferred, in error."""
_RAMP_PX = 4.0
"""Width of the blend at a source's own border, on the flow's grid."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the plate lies in what is delivered, full size and on the flow's grid.

    `size`, `window`: (height, width) of plate and window; `offset`: (x, y) of the plate in the window. `shape`: (h, w) of the plate on
    the grid; `pads`: grid pixels left, top, right, bottom, so that the padded grid covers the window.
    """

    size: tuple[int, int]
    window: tuple[int, int]
    offset: tuple[int, int]
    shape: tuple[int, int]

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Grid pixels added on the left, top, right and bottom."""
        sy, sx = self.shape[0] / self.size[0], self.shape[1] / self.size[1]
        right = self.window[1] - self.size[1] - self.offset[0]
        bottom = self.window[0] - self.size[0] - self.offset[1]
        sides = (self.offset[0] * sx, self.offset[1] * sy, right * sx, bottom * sy)
        return tuple(int(np.ceil(side)) + 1 if side else 0 for side in sides)  # type: ignore[return-value]

    @property
    def padded(self) -> tuple[int, int]:
        """(h, w) of the padded grid."""
        left, top, right, bottom = self.pads
        return self.shape[0] + top + bottom, self.shape[1] + left + right

    def inner(self) -> tuple[slice, slice]:
        """The plate in the window."""
        x, y = self.offset
        return slice(y, y + self.size[0]), slice(x, x + self.size[1])

    def small_inner(self) -> tuple[slice, slice]:
        """The plate in the padded grid."""
        left, top, _, _ = self.pads
        return slice(top, top + self.shape[0]), slice(left, left + self.shape[1])

    def to_grid(self, points: Float) -> Float:
        """Pixels of the window, (…, 2) as x, y, to pixels of the padded grid."""
        sy, sx = self.shape[0] / self.size[0], self.shape[1] / self.size[1]
        x, y = self.offset
        left, top, _, _ = self.pads
        out = np.empty_like(points)
        out[..., 0] = (points[..., 0] - x + 0.5) * sx - 0.5 + left
        out[..., 1] = (points[..., 1] - y + 0.5) * sy - 0.5 + top
        return out

    def grid_points(self) -> Float:
        """The padded grid's pixels in the plate's own full-size pixels, (h, w, 2)."""
        left, top, _, _ = self.pads
        points = grid(*self.padded) - np.array((left, top), np.float32)
        return apply(scaling(self.shape, self.size), np.asarray(points, np.float32))


@dataclass(frozen=True, slots=True)
class Source:
    """A frame that may show what is missing. `matrix`: its full-size pixels to the target's; `small`: (h, w, 3) on the grid; `moving`:
    (h, w) 0 … 1, what doesn't follow the camera; `distance`: frames from the target."""

    frame: int
    matrix: Matrix
    small: Float
    moving: Float
    distance: int


@dataclass(frozen=True, slots=True)
class Laid:
    """A source over the target, on the padded grid: `bend` (h, w, 2) in grid pixels, `light` (h, w, 3) to add, `error` (h, w), `weight`
    (h, w) in the blend, `ramp` (h, w) 0 … 1 from its own border inwards."""

    frame: int
    inverse: Matrix
    bend: Float
    light: Float
    error: Float
    weight: Float
    ramp: Float


def lay(source: Source, target: Float, known: Float, moving: Float, layout: Layout) -> Laid:
    """Fit one source to the target: `target` (h, w, 3), `known` and `moving` (h, w) on the plate's grid."""
    h, w = layout.shape
    to_full = scaling(layout.shape, layout.size)
    small = np.linalg.inv(to_full) @ source.matrix @ to_full
    laid = cv2.warpPerspective(np.dstack([source.small, source.moving]), small, (w, h), flags=cv2.INTER_LINEAR)
    valid = cv2.warpPerspective(np.ones(layout.shape, np.float32), small, (w, h)) > 0.99
    valid &= known > 0.5
    picture, away = np.ascontiguousarray(laid[..., :3]), laid[..., 3]
    light = np.median((target - picture)[valid], 0) if valid.any() else np.zeros(3, np.float32)
    picture = picture + np.clip(light, -_LIGHT_MOST, _LIGHT_MOST).astype(np.float32)
    filled = np.where(valid[..., None], picture, target)
    bend, error, trust = _residual(target, filled, valid)
    trust *= (1 - 0.9 * np.maximum(moving, away)) * valid
    limit = _SHIFT_MOST * h
    wide = _padded(trust, layout)
    spread = push_pull(_padded(_smooth(bend, trust, 7.0), layout), wide)
    moved = cv2.remap(picture, grid(h, w) + bend, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    step = np.clip(target - moved, -_LIGHT_MOST, _LIGHT_MOST)
    rest = push_pull(_padded(_smooth(step, trust, 4.0), layout), wide)
    # Distrust itself must spread too: the error is known wherever the frames overlap, good or bad.
    seen = valid.astype(np.float32)
    wrong = push_pull(_padded(_smooth(error, seen, 4.0), layout), _padded(seen, layout))
    bend_wide = np.clip(spread, -limit, limit).astype(np.float32)
    inverse = np.asarray(np.linalg.inv(source.matrix), np.float64)
    ramp, there = _ramp(inverse, bend_wide, source.moving, layout)
    cost = wrong + _PER_FRAME * source.distance + _MOVING_COST * there
    return Laid(
        frame=source.frame,
        inverse=inverse,
        bend=bend_wide,
        light=(rest + np.clip(light, -_LIGHT_MOST, _LIGHT_MOST)).astype(np.float32),
        error=np.asarray(cost, np.float32),
        weight=ramp,
        ramp=ramp,
    )


def _residual(target: Float, picture: Float, valid: Mask) -> tuple[Float, Float, Float]:
    """Flow that is left between target and laid source, the difference after it, and how far to trust it."""
    a, b = grey_of(target), grey_of(picture)
    bend = DenseFlow().between(a, b)
    moved = cv2.remap(picture, grid(*a.shape) + bend, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    error = cv2.blur(np.abs(target - moved).mean(-1), (5, 5)).astype(np.float32)
    trust = np.exp(-np.square(error / _ERROR)).astype(np.float32) * valid
    return bend, error, np.asarray(trust, np.float32)


def _smooth(values: Float, weight: Float, sigma: float) -> Float:
    """Normalised convolution: a Gaussian mean of what is trusted."""
    planes = values if values.ndim == 3 else values[..., None]
    total = cv2.GaussianBlur(weight, (0, 0), sigma)
    mean = cv2.GaussianBlur(planes * weight[..., None], (0, 0), sigma).reshape(planes.shape)
    out = mean / np.maximum(total, 1e-6)[..., None]
    return np.asarray(out.reshape(values.shape), np.float32)


def _padded(plane: Float, layout: Layout) -> Float:
    left, top, right, bottom = layout.pads
    return np.asarray(cv2.copyMakeBorder(plane, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0), np.float32)


def _ramp(inverse: Matrix, bend: Float, moving: Float, layout: Layout) -> tuple[Float, Float]:
    """On the padded grid: 0 outside the source, rising to 1 over `_RAMP_PX` inside it; and what moves there."""
    scale = layout.size[0] / layout.shape[0]
    there = apply(inverse, layout.grid_points() + bend * np.float32(scale))
    height, width = layout.size
    depth = np.minimum(
        np.minimum(there[..., 0], width - 1 - there[..., 0]), np.minimum(there[..., 1], height - 1 - there[..., 1])
    )
    ramp = np.clip(depth / (scale * _RAMP_PX), 0, 1).astype(np.float32)
    small = apply(np.asarray(np.linalg.inv(scaling(layout.shape, layout.size)), np.float64), there)
    there_moving = cv2.remap(moving, small, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return ramp, np.asarray(there_moving, np.float32)


def weigh(laid: Sequence[Laid]) -> list[Laid]:
    """The sources with their weights in the blend: the best fitting counts, with soft borders between them."""
    if not laid:
        return []
    costs = np.stack([np.where(one.ramp > 0, cv2.blur(one.error, (9, 9)), np.float32(9)) for one in laid])
    least = costs.min(0)
    out = []
    for one, cost in zip(laid, costs, strict=True):
        share = np.exp(-(cost - least) / _SHARP).astype(np.float32)
        share = cv2.GaussianBlur(share, (0, 0), 2.0) * (one.ramp + 1e-3) * (one.ramp > 0)
        out.append(
            Laid(one.frame, one.inverse, one.bend, one.light, one.error, np.asarray(share, np.float32), one.ramp)
        )
    return out


@dataclass(frozen=True, slots=True)
class Gathered:
    """A mosaic over the window, full size. `picture` (H, W, 3); `cover` (H, W) 0 … 1: how far it is covered, soft at its border;
    `error` (H, W) of the sources taken; `kept` (H, W): what is left of the grain's variance."""

    picture: Float
    cover: Float
    error: Float
    kept: Float


def gather(laid: Sequence[Laid], pictures: dict[int, Float], wanted: Mask, layout: Layout) -> Gathered:
    """Take the `wanted` pixels (H, W) of the window from the sources. `pictures`: frame → (height, width, 3), full size."""
    height, width = layout.window
    picture = np.zeros((height, width, 3), np.float32)
    cover, error, kept = (np.zeros((height, width), np.float32) for _ in range(3))
    for rows, columns in _tiles(wanted):
        x, y = np.meshgrid(
            np.arange(columns.start, columns.stop, dtype=np.float32), np.arange(rows.start, rows.stop, dtype=np.float32)
        )
        points = np.dstack([x, y])
        at = layout.to_grid(points)
        own = points - np.array(layout.offset, np.float32)
        total = np.full(x.shape, 1e-9, np.float32)
        for one in laid:
            weight = _sample(one.weight, at)
            if not weight.any():
                continue
            there = apply(one.inverse, own + _sample(one.bend, at) * np.float32(layout.size[0] / layout.shape[0]))
            inside = (
                (there[..., 0] >= 0)
                & (there[..., 1] >= 0)
                & (there[..., 0] <= layout.size[1] - 1)
                & (there[..., 1] <= layout.size[0] - 1)
            )
            weight = weight * inside
            taken = cv2.remap(pictures[one.frame], there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            picture[rows, columns] += weight[..., None] * (taken + _sample(one.light, at))
            error[rows, columns] += weight * _sample(one.error, at)
            kept[rows, columns] += np.square(weight) * left_of_grain(there)
            ramp = _sample(one.ramp, at) * inside
            cover[rows, columns] = np.maximum(cover[rows, columns], ramp)
            total += weight
        picture[rows, columns] /= total[..., None]
        error[rows, columns] /= total
        kept[rows, columns] /= np.square(total)
        cover[rows, columns] *= total > 1e-6
    return Gathered(picture, np.where(wanted, cover, 0), error, kept)


def left_of_grain(points: Float) -> Float:
    """The part of white noise's variance that bilinear sampling at `points` (…, 2) keeps: all on a pixel, a quarter between four."""
    f = points - np.floor(points)
    part = np.square(f) + np.square(1 - f)
    return np.asarray(part[..., 0] * part[..., 1], np.float32)


def _sample(plane: Float, at: Float) -> Float:
    return np.asarray(cv2.remap(plane, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _tiles(wanted: Mask) -> Iterator[tuple[slice, slice]]:
    height, width = wanted.shape
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            rows, columns = slice(top, min(top + _TILE, height)), slice(left, min(left + _TILE, width))
            if wanted[rows, columns].any():
                yield rows, columns
