"""One frame in the manner of one key: flow says where each pixel was painted, the search mends where flow is wrong.

The energy is that of image analogies with guides (Hertzmann et al. 2001; Fišer et al. 2016; Jamriška et al. 2019): patches of the
key and of the frame should agree in the plate's colours, in its edges, and in the painting made so far; leaving the place that
flow names has a price that falls with flow's confidence. Where flow already fits, its own sub-pixel positions stay: they
move with the picture, so the strokes don't boil, and the search spends its time on the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.motion import grid
from pipeline.tasks.style_transfer.guides import Bytes, Painted, pack
from pipeline.tasks.style_transfer.patchmatch import judge, offer, search, vote

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]

_PULL = 1500.0
"""Highest price, in squared bytes, of leaving where a wholly sure flow leads."""
_WORST = 150.0
_TIMES_MEDIAN = 2.0
"""A pixel is searched when its error passes both: what is wrong anywhere, and what is wrong on this grainy plate."""
_UNSURE = 0.7
"""A pixel is searched when flow's confidence is below this: one round trip that failed on the way is enough."""
_WIDE_SWEEPS = 4
_ROUNDS = 2
"""Times that search and vote take turns at each level."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to search. `sweeps` over a frame each turn; random looks within `reach` pixels of each level, but everywhere in the
    first turn of the coarsest."""

    sweeps: int = 2
    reach: int = 8


@dataclass(frozen=True, slots=True)
class Synthesis:
    """`field`: (height, width, 2) key positions; `error`: (height, width), squared bytes with the price of leaving flow's place;
    `searched`: (height, width), where flow alone was not believed."""

    field: Float
    error: Float
    searched: Mask


def synthesise(
    painted: Painted, frame: Sequence[Bytes], expected: Float, confidence: Float, *, seed: int, effort: Effort
) -> Synthesis:
    """`frame`: guide of the frame per level, the full one first. `expected`: (height, width, 2), the key positions that flow
    names at the full level; `confidence`: (height, width), 0 where nothing is expected."""
    found: Synthesis | None = None
    for level in range(len(frame) - 1, -1, -1):
        found = _level(painted, level, frame[level], expected, confidence, found, seed=seed, effort=effort)
    assert found is not None
    return found


def _level(
    painted: Painted,
    level: int,
    guide: Bytes,
    expected: Float,
    confidence: Float,
    coarse: Synthesis | None,
    *,
    seed: int,
    effort: Effort,
) -> Synthesis:
    source, painting = painted.packed[level], painted.paintings[level]
    shape, scale = guide.shape[:2], _scale(painting, painted.paintings[0])
    expected = _smaller(expected, shape[0], shape[1], scale)
    sure = cv2.resize(confidence, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    pull = np.asarray(np.square(sure) * np.float32(_PULL), np.float32)
    field, lost = expected.copy(), np.zeros(shape, np.bool_)
    if coarse is not None:
        finer = _finer(coarse.field, shape[0], shape[1], _scale(painting, painted.paintings[level + 1]))
        lost = np.asarray(
            cv2.resize(coarse.searched.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        )
        field[lost] = finer[lost]
    made = _sampled(painting, field)
    target = pack(guide, made)
    error = np.empty(shape, np.float32)
    judge(source, target, field, expected, pull, error)
    if effort.sweeps == 0:
        return Synthesis(field, error, lost)
    searched = lost | _doubtful(error, sure)
    todo = places(searched)
    chance = (seed * 31 + level * (_ROUNDS + 1)) % (1 << 31)
    if coarse is None:
        _look_everywhere(painted.plain, guide, field, error, todo, expected, pull, effort.sweeps, chance + _ROUNDS)
        vote(painting, field, error, todo, made)
        target = pack(guide, made)
        judge(source, target, field, expected, pull, error)
    for turn in range(_ROUNDS):
        if turn == 0 and coarse is not None:
            offer(source, target, field, error, todo, expected, expected, pull)
        search(source, target, field, error, todo, expected, pull, effort.sweeps, effort.reach, chance + turn)
        if turn + 1 < _ROUNDS:
            vote(painting, field, error, todo, made)
            target = pack(guide, made)
            judge(source, target, field, expected, pull, error)
    return Synthesis(field, error, searched)


def _look_everywhere(
    plain: Bytes,
    guide: Bytes,
    field: Float,
    error: Float,
    todo: NDArray[np.int64],
    expected: Float,
    pull: Float,
    sweeps: int,
    seed: int,
) -> None:
    """Search the whole painting by the guides alone: where flow is lost, what it made of the painting so far is no guide."""
    target = pack(guide, np.zeros((*guide.shape[:2], 3), np.float32))
    judge(plain, target, field, expected, pull, error)
    search(plain, target, field, error, todo, expected, pull, max(sweeps, _WIDE_SWEEPS), max(guide.shape[:2]), seed)


def places(mask: Mask) -> NDArray[np.int64]:
    """(n, 2) rows of y, x in reading order."""
    return np.argwhere(mask)


def _sampled(painting: Float, field: Float) -> Float:
    return np.asarray(cv2.remap(painting, field, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _doubtful(error: Float, confidence: Float) -> Mask:
    limit = max(_WORST, _TIMES_MEDIAN * float(np.median(error)))
    bad = ((error > limit) | (confidence < _UNSURE)).astype(np.uint8)
    return np.asarray(cv2.dilate(bad, np.ones((3, 3), np.uint8)) > 0)


def _scale(to: Float, of: Float) -> Float:
    """What takes x and y of one picture to another of another size, pixel edges to pixel edges."""
    return np.array((to.shape[1] / of.shape[1], to.shape[0] / of.shape[0]), np.float32)


def _smaller(positions: Float, height: int, width: int, scale: Float) -> Float:
    """Positions of the full level as those of a smaller one, of (height, width)."""
    if positions.shape[:2] == (height, width):
        return positions
    small = cv2.resize(positions, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray((small + np.float32(0.5)) * scale - np.float32(0.5), np.float32)


def _finer(field: Float, height: int, width: int, scale: Float) -> Float:
    """A coarse field as one of the next level: each pixel keeps its place within the coarse one. `scale`: of the painting's levels."""
    rows, columns = field.shape[:2]
    half = np.float32(0.5)
    at = (grid(height, width) + half) * np.array((columns / width, rows / height), np.float32) - half
    near = np.clip(np.rint(at), 0, (columns - 1, rows - 1)).astype(np.intp)
    within = at - near.astype(np.float32)
    return np.asarray((field[near[..., 1], near[..., 0]] + within + half) * scale - half, np.float32)
