"""Fewest keys: which frames of a shape stay keyed, and where its points lie there, so that the frames between come out right.

First the shortest path over frames: an edge a → b is allowed when running straight from the fit at a to the fit at b keeps to the
outline of every frame between, by the first-order distance along the normals. Then all keys are solved together by least squares
over all frames (Gauss–Seidel over keys). What this distance can't see, the exact matte decides in `reduce`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.shapes.crossing import THOROUGH, crosses, uncross
from pipeline.shapes.motion_layer import from_layer, to_layer
from pipeline.shapes.raster import Array
from pipeline.shapes.solve import STEADY, Equations, Samples, equations, solve, unknowns

_REACH = 64
"""Frames that two keys may lie apart."""
_PATIENCE = 4
"""Failures in a row after which no longer step is tried."""
_MENDS = 6
_RIDGE_FRAMES = 0.02
"""How much of a frame's own equations holds a key to where it was."""


@dataclass(frozen=True, slots=True)
class Pull:
    """Control points of one frame that should go elsewhere: `target` (points, 3, 2) on the layer, `strength` (points, 3)."""

    target: Array
    strength: Array

    def blocks(self) -> tuple[Array, Array]:
        """As least squares in the blocks of `Equations`."""
        count = len(self.target)
        order = np.array([0, 2, 1])  # a segment's block holds vertex, out-handle and the next one's in-handle
        here = np.stack([np.arange(count), np.arange(count), (np.arange(count) + 1) % count], 1)
        strength = np.repeat(self.strength[here, order], 2, axis=1)
        target = self.target[here, order].reshape(count, 6)
        matrix, right = np.zeros((count, 8, 8)), np.zeros((count, 8))
        matrix[:, np.arange(6), np.arange(6)] = strength
        right[:, :6] = strength * target
        return matrix, right


@dataclass(slots=True)
class Moving:
    """A shape's own fits on every frame of its run, seen from its layer. `fits`, `own`: (frames, points, 3, 2), in the picture and on the
    layer; `maps` (frames, 2, 3); `systems`: least squares of each frame in the layer's plane; `length_px`: of each outline."""

    samples: Sequence[Samples]
    fits: Array
    own: Array
    maps: Array
    systems: list[Equations]
    length_px: Array

    @property
    def frames(self) -> int:
        """Frames of its run."""
        return len(self.fits)


def moving(samples: Sequence[Samples], fits: Array, maps: Array) -> Moving:
    """Bring samples and fits of a run onto the layer."""
    maps = maps.astype(np.float32).astype(np.float64)
    systems = [_on_layer(equations(one, fit, STEADY), map_) for one, fit, map_ in zip(samples, fits, maps, strict=True)]
    length = np.array([one.weight.sum() for one in samples])
    own = rounded(to_layer(maps, fits))
    for _ in range(_MENDS):  # what is simple may cross again once it is rounded
        placed = from_layer(maps, own)
        bad = [f for f in range(len(own)) if crosses(placed[f], THOROUGH)]
        if not bad:
            break
        own[bad] = rounded(to_layer(maps[bad], np.stack([uncross(placed[f]) for f in bad])))
    return Moving(samples, from_layer(maps, own), own, maps, systems, length)


def rounded(points: Array) -> Array:
    """Points (…, 3, 2) as a file will hold them, so that what is tested is what is written: float32, handles relative."""
    vertex = points[..., :1, :].astype(np.float32).astype(np.float64)
    handles = (points[..., 1:, :] - vertex).astype(np.float32).astype(np.float64)
    return np.concatenate([vertex, vertex + handles], -2)


def _on_layer(system: Equations, map_: Array) -> Equations:
    """The same rows for points of the layer: x = L p + d, so n·x = (Lᵀn)·p + n·d. Weights of rows sum to 1 a point, so d moves
    to the right-hand side whole."""
    linear, shift = map_[:, :2], map_[:, 2]
    block = np.kron(np.eye(4), linear)
    moved = np.tile(shift, 4)
    matrix = np.einsum("ji,njk,kl->nil", block, system.matrix, block)
    right = (system.right - system.matrix @ moved) @ block
    rows = system.rows @ block
    target = system.target - system.rows @ moved
    return Equations(matrix, right, rows, system.segment, target, system.weight)


def weights(frames: int, keys: Sequence[int]) -> Array:
    """(frames, keys) share of each key in each frame."""
    found = np.zeros((frames, len(keys)))
    at = np.asarray(keys)
    for frame in range(frames):
        right = int(np.searchsorted(at, frame))
        if right == 0 or right == len(at):
            found[frame, min(right, len(at) - 1)] = 1
        elif at[right] == frame:
            found[frame, right] = 1
        else:
            share = (frame - at[right - 1]) / (at[right] - at[right - 1])
            found[frame, right - 1], found[frame, right] = 1 - share, share
    return found


def shortest(shape: Moving, allowed_px: Array) -> list[int]:
    """Fewest keys whose straight in-betweens of the frames' own fits stay within `allowed_px` (frames,) mean distance."""
    count = shape.frames
    if count == 1:
        return [0]
    ids = unknowns(shape.fits.shape[1])
    flat = shape.own.reshape(count, -1)
    distance = []
    for frame in range(count):
        system = shape.systems[frame]
        low, high = max(0, frame - _REACH), min(count, frame + _REACH + 1)
        near = flat[low:high][:, ids][:, system.segment]
        off = np.einsum("amk,mk->am", near, system.rows) - system.target
        distance.append((low, off.astype(np.float32)))
    budget = allowed_px * shape.length_px
    best = np.full(count, np.inf)
    best[0] = 1
    came = np.zeros(count, int)
    for a in range(count - 1):
        failures = 0
        for b in range(a + 1, min(count, a + _REACH + 1)):
            if _holds(shape, distance, budget, a, b):
                failures = 0
                if best[a] + 1 < best[b]:
                    best[b], came[b] = best[a] + 1, a
            else:
                failures += 1
                if failures > _PATIENCE:
                    break
    keys = [count - 1]
    while keys[-1] > 0:
        keys.append(int(came[keys[-1]]))
    return keys[::-1]


def _holds(shape: Moving, distance: Sequence[tuple[int, NDArray[np.float32]]], budget: Array, a: int, b: int) -> bool:
    middle = (a + b) / 2
    for frame in sorted(range(a + 1, b), key=lambda f: abs(f - middle)):
        share = (frame - a) / (b - a)
        low, near = distance[frame]
        off = np.abs(near[a - low] * (1 - share) + near[b - low] * share)
        if float(off @ shape.systems[frame].weight) > budget[frame]:
            return False
    return True


def settle(
    shape: Moving,
    keys: Sequence[int],
    points: Array,
    *,
    only: Sequence[int] | None = None,
    rounds: int = 3,
    pulls: Mapping[int, Pull] | None = None,
) -> Array:
    """Points at the keys, (keys, points, 3, 2) on the layer, that suit all frames best. `only`: numbers of keys that may move.

    Each round takes the places of the outline's samples along the curve as they are then: a vertex may slide along the outline.
    """
    share = weights(shape.frames, keys)
    ids = unknowns(points.shape[1])
    solved = points.copy()
    free = list(range(len(keys))) if only is None else list(only)
    concerned = np.flatnonzero(share[:, free].any(1))
    for number in range(rounds):
        systems = {int(f): shape.systems[f] for f in concerned}
        if number > 0:
            curves = between(shape, keys, solved, list(systems))
            systems = {
                f: _on_layer(equations(shape.samples[f], curve, STEADY), shape.maps[f])
                for f, curve in zip(systems, curves, strict=True)
            }
        for frame, pull in (pulls or {}).items():
            if frame in systems:
                matrix, right = pull.blocks()
                system = systems[frame]
                systems[frame] = replace(system, matrix=system.matrix + matrix, right=system.right + right)
        for k in free:
            matrix, right = np.zeros_like(shape.systems[0].matrix), np.zeros_like(shape.systems[0].right)
            for at in np.flatnonzero(share[:, k]):
                system, w = systems[int(at)], share[at, k]
                others = np.einsum("k,k...->...", share[at], solved) - w * solved[k]
                rest = np.einsum("nij,nj->ni", system.matrix, others.ravel()[ids])
                matrix = matrix + w * w * system.matrix
                right = right + w * (system.right - rest)
            hold = _RIDGE_FRAMES * shape.systems[keys[k]].matrix
            matrix = matrix + hold
            right = right + np.einsum("nij,nj->ni", hold, solved[k].ravel()[ids])
            solved[k] = solve(matrix, right, solved[k])
    return rounded(solved)


def between(shape: Moving, keys: Sequence[int], points: Array, frames: Sequence[int]) -> Array:
    """(frames, points, 3, 2) control points in the picture."""
    share = weights(shape.frames, keys)[list(frames)]
    return from_layer(shape.maps[list(frames)], np.tensordot(share, points, 1))
