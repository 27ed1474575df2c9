"""The plate's grain: how strong at each level, how wide, how alike in the channels; and more of the same.

Measured in model space, where film's and sensors' grain is about equally strong from shadow to light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

LEVELS = 8
_BLOCK = 12
_FLAT = 0.1
"""Part of a level's blocks that count as flat."""
_LEAST_BLOCKS, _MOST_BLOCKS = 6, 120
"""Blocks of a level that are looked at."""
_SPREAD = 2.0
"""How much stronger than at its quietest level grain may be, in model space."""


@dataclass(frozen=True, slots=True)
class Grain:
    """`levels`: (n,) brightness in model space, rising; `sigma`: (n, 3) deviation there; `correlation`: of neighbouring pixels, 0 … 0.9;
    `mix`: (3, 3), white channels to the plate's: lower triangle, rows of length 1."""

    levels: Float
    sigma: Float
    correlation: float
    mix: Float

    def at(self, picture: Float) -> Float:
        """(…, 3) in model space: each value's deviation."""
        out = np.empty(picture.shape, np.float32)
        for c in range(3):
            out[..., c] = np.interp(picture[..., c], self.levels, self.sigma[:, c])
        return out

    @property
    def blur(self) -> float:
        """Deviation in pixels of the Gaussian that gives white noise this correlation; 0 for none."""
        return _blur_of(round(min(max(self.correlation, 0.0), 0.9), 2))

    @classmethod
    def none(cls) -> Grain:
        """No grain."""
        return cls(np.array([0, 1], np.float32), np.zeros((2, 3), np.float32), 0.0, np.eye(3, dtype=np.float32))


@cache
def _blur_of(correlation: float) -> float:
    """By trial, since a Gaussian narrower than a pixel isn't its formula."""
    if correlation < 0.02:
        return 0.0
    widths = np.arange(0.2, 2.5, 0.02)
    found = []
    for width in widths:
        taps = _taps(float(width))
        found.append(float((taps[1:] * taps[:-1]).sum() / np.square(taps).sum()))
    return float(widths[int(np.abs(np.array(found) - correlation).argmin())])


def _taps(width: float) -> NDArray[np.float64]:
    return np.asarray(cv2.getGaussianKernel(2 * (int(4 * width) + 2) + 1, width), np.float64).ravel()


def measure(pairs: Sequence[tuple[Float, Float, Float]]) -> Grain:
    """The grain of a shot, from pairs of its frames: two pictures (height, width, 3) in model space and the flow between them, (h, w, 2)
    on any grid.

    Texture is told from grain by the other frame: each block is predicted from the same place there, by the linear combination of nine
    neighbouring shifts that does it best (which takes care of the fraction of a pixel). What texture there is can be predicted; grain
    can't, and what was predicted brought its own share of it along: r² = σ² (1 + Σ c²). Of each level the flattest blocks count.
    """
    found = [_blocks(*pair) for pair in pairs]
    found = [part for part in found if len(part[0])]
    if not found:
        return Grain.none()
    level, variance, along, cross = (np.concatenate(parts) for parts in zip(*found, strict=True))
    edges = np.quantile(level.mean(1), np.linspace(0, 1, LEVELS + 1))
    which = np.clip(np.searchsorted(edges, level.mean(1), side="right") - 1, 0, LEVELS - 1)
    groups = [mine for mine in (which == n for n in range(LEVELS)) if int(mine.sum()) >= _LEAST_BLOCKS]
    groups = groups or [np.ones(len(level), bool)]
    at = np.array([np.median(level[mine].mean(1)) for mine in groups], np.float32)
    sigma = np.sqrt(np.stack([np.median(variance[mine], 0) for mine in groups])).astype(np.float32)
    # Texture that changes from frame to frame can't be predicted either: no level is far above the quietest.
    sigma = np.minimum(sigma, _SPREAD * sigma.min(0) + 1e-4)
    quiet = variance.sum(1) <= np.median(variance.sum(1))
    rho = float(np.clip((along[quiet].sum(0) / np.maximum(variance[quiet].sum(0), 1e-12)).mean(), 0, 0.9))
    return Grain(at, sigma, rho, _mix(cross[quiet].sum(0)))


def _mix(covariance: Float) -> Float:
    """White channels to correlated ones: the Cholesky factor of the channels' correlation."""
    deviation = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    matrix = np.clip(covariance / np.outer(deviation, deviation), -0.99, 0.99)
    np.fill_diagonal(matrix, 1.0)
    values, vectors = np.linalg.eigh(matrix)
    matrix = vectors @ np.diag(np.maximum(values, 1e-4)) @ vectors.T
    return np.asarray(np.linalg.cholesky(matrix / np.sqrt(np.outer(np.diag(matrix), np.diag(matrix)))), np.float32)


def _blocks(picture: Float, other: Float, flow: Float) -> tuple[Float, Float, Float, Float]:
    """Of the flat blocks: mean (n, 3), grain's variance (n, 3), its covariance with the next pixel (n, 3) and of the channels (n, 3, 3)."""
    height, width = picture.shape[:2]
    tops, lefts = (np.arange(_BLOCK, side - 2 * _BLOCK, _BLOCK) for side in (height, width))
    top, left = (axis.ravel() for axis in np.meshgrid(tops, lefts, indexing="ij"))
    if not len(top):
        return _nothing()
    own = _cut(picture, top, left, _BLOCK)
    level = own.mean((1, 2))
    usable = (level.max(1) < 0.98) & (level.min(1) > 0.01)  # a clipped block has lost its grain
    spread = np.square(own - level[:, None, None]).mean((1, 2)).sum(-1)
    spread = np.where(usable, spread, np.inf)
    bins = np.clip((level.mean(1) * LEVELS).astype(int), 0, LEVELS - 1)
    flat: list[int] = []
    for n in range(LEVELS):
        mine = np.nonzero((bins == n) & usable)[0]
        most = max(_LEAST_BLOCKS, min(_MOST_BLOCKS, int(_FLAT * len(mine))))
        flat += list(mine[np.argsort(spread[mine], kind="stable")[:most]])
    chosen = np.array(sorted(flat), int)
    top, left = top[chosen], left[chosen]
    small = cv2.resize(flow, (width, height), interpolation=cv2.INTER_NEAREST) if len(chosen) else flow
    middle = small[top + _BLOCK // 2, left + _BLOCK // 2] if len(chosen) else np.zeros((0, 2), np.float32)
    middle = np.round(middle * (width / flow.shape[1], height / flow.shape[0])).astype(int)
    to_top, to_left = top + middle[:, 1], left + middle[:, 0]
    inside = (to_top >= 1) & (to_left >= 1) & (to_top + _BLOCK < height) & (to_left + _BLOCK < width)
    if not inside.any():
        return _nothing()
    chosen, top, left = chosen[inside], top[inside], left[inside]
    there = _cut(other, to_top[inside] - 1, to_left[inside] - 1, _BLOCK + 2)
    rest, gain = _unpredicted(_detrended(own[chosen]), there)
    # Nine shifts and a plane were fitted to each block.
    scale = (_BLOCK**2 / (_BLOCK**2 - 12.0) / (1 + gain))[:, None]
    variance = np.square(rest).mean((1, 2)) * scale
    along = ((rest[:, :, 1:] * rest[:, :, :-1]).mean((1, 2)) + (rest[:, 1:] * rest[:, :-1]).mean((1, 2))) / 2 * scale
    cross = np.einsum("nyxa,nyxb->nab", rest, rest) / _BLOCK**2 * scale[..., None]
    return level[chosen], variance, along, cross


def _nothing() -> tuple[Float, Float, Float, Float]:
    none = np.zeros((0, 3), np.float32)
    return none, none, none, np.zeros((0, 3, 3), np.float32)


def _cut(picture: Float, top: NDArray[np.int_], left: NDArray[np.int_], side: int) -> Float:
    """(n, side, side, 3) squares."""
    steps = np.arange(side)
    return np.asarray(picture[top[:, None, None] + steps[:, None], left[:, None, None] + steps], np.float32)


def _unpredicted(own: Float, there: Float) -> tuple[Float, Float]:
    """What of `own` (n, b, b, 3) no combination of nine shifts of `there` (n, b + 2, b + 2, 3) explains, and its Σ c², (n,)."""
    side = own.shape[1]
    shifts = [_detrended(there[:, y : y + side, x : x + side]) for y in range(3) for x in range(3)]
    basis = np.stack(shifts, 1).astype(np.float64)
    grey, wanted = basis.mean(-1).reshape(len(own), 9, -1), own.astype(np.float64).mean(-1).reshape(len(own), -1)
    normal = np.einsum("nap,nbp->nab", grey, grey)
    normal += np.eye(9) * (1e-6 + 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] / 9)
    right = np.einsum("nap,np->na", grey, wanted)
    factors = np.linalg.solve(normal, right[..., None])[..., 0]
    rest = own - np.einsum("na,nayxc->nyxc", factors, basis)
    return rest.astype(np.float32), np.square(factors).sum(1).astype(np.float32)


def _detrended(blocks: Float) -> Float:
    """(n, b, b, 3) blocks without their own plane."""
    ramp = np.linspace(-1, 1, blocks.shape[1], dtype=np.float32)
    norm = np.square(ramp).mean()
    rest = blocks - blocks.mean((1, 2), keepdims=True)
    across = (rest * ramp[None, None, :, None]).mean((1, 2), keepdims=True) / norm
    down = (rest * ramp[None, :, None, None]).mean((1, 2), keepdims=True) / norm
    return np.asarray(rest - across * ramp[None, None, :, None] - down * ramp[None, :, None, None], np.float32)


def make(grain: Grain, shape: tuple[int, int], *, seed: int, frame: int) -> Float:
    """(height, width, 3) grain of deviation 1, as wide and as alike in the channels as the plate's; another on each frame."""
    rng = np.random.default_rng((seed, frame + 2**31))
    noise = rng.standard_normal((*shape, 3), np.float32)
    if grain.blur:
        taps = _taps(grain.blur)
        noise = cv2.sepFilter2D(noise, -1, taps, taps, borderType=cv2.BORDER_REFLECT_101)
        noise /= np.float32(np.square(taps).sum())
    return np.asarray(noise @ grain.mix.T, np.float32)


def degrained(picture: Float, grain: Grain) -> tuple[Float, Float]:
    """A picture (height, width, 3) without the grain that shows, and the part of the grain's variance that is left, (height, width).

    A guided filter of the picture by itself (He et al. 2010) with ε at the grain's variance: flat areas lose it, edges and texture, where
    grain hides, keep all.
    """
    radius = (5, 5)
    variance = np.square(grain.at(cv2.blur(picture, radius)))
    mean = cv2.blur(picture, radius)
    spread = np.maximum(cv2.blur(np.square(picture), radius) - np.square(mean), 0)
    gain = np.maximum(spread - variance, 0) / np.maximum(spread + variance * 0.5, 1e-12)
    out = cv2.blur(gain, radius) * picture + cv2.blur((1 - gain) * mean, radius)
    held = np.square(gain).mean(-1)
    return np.asarray(out, np.float32), np.asarray(held, np.float32)


def add(picture: Float, grain: Grain, kept: Float, *, strength: float, seed: int, frame: int) -> Float:
    """`picture` (height, width, 3) in model space with as much grain as it lacks; `kept` (height, width): the part of the variance that
    it still has. `strength` 0 adds none."""
    if strength <= 0 or not grain.sigma.any():
        return picture
    lacking = np.sqrt(np.maximum(np.float32(strength**2) - np.clip(kept, 0, 1), 0))
    noise = make(grain, (picture.shape[0], picture.shape[1]), seed=seed, frame=frame)
    return np.asarray(picture + noise * grain.at(picture) * lacking[..., None], np.float32)
