"""What no frame shows: filled from patches of what is there (PatchMatch, Barnes et al. 2009; the voting of Wexler et al. 2007).

Coarse to fine: at each level every patch over the hole finds its nearest neighbour among wholly known patches, and every missing pixel
becomes the mean of what the patches over it say. Deterministic for a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.shot_extension.smooth import push_pull

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
Places = NDArray[np.int32]

_HALF = 3
"""Patches are 7 × 7."""
_COARSEST = 20
"""Lines of the coarsest level, about."""
_ROUNDS = (8, 6, 4, 3)
"""Rounds of search and vote on the coarsest level and those after; the last goes for all finer ones."""
_LEAST_PATCHES = 64
_LESS_TRUST = np.float32(1.3)
"""By which trust falls with each pixel away from what is known."""
_TOLERANCE = (1e-3, 5e-5)
"""Mean squared difference of patches, in model space, that is as good as none, while structure is laid out and on the finest level.
Without it, noise that matches noise outvotes all structure; with too much of it, everything becomes the mean of everything."""
_STAY_NEAR = 0.15
"""Cost of taking a patch from a picture's diagonal away: what lies beyond an edge is most like what lies next to it."""


def fill(picture: Float, known: Mask, *, seed: int) -> Float:
    """`picture` (h, w, 3) with the pixels outside `known` (h, w) made up; known ones stay as they are.

    Where there are too few whole patches to take from: a smooth continuation.
    """
    if known.all():
        return picture
    levels = [(picture, known)]
    while min(levels[-1][1].shape) >= 2 * _COARSEST:
        levels.append(_halved(*levels[-1]))
    made, matches = picture, None
    for depth, (level, mask) in enumerate(reversed(levels)):
        sources = cv2.erode(mask.astype(np.uint8), np.ones((2 * _HALF + 1,) * 2, np.uint8), borderValue=0) > 0
        if int(sources.sum()) < _LEAST_PATCHES:
            made = push_pull(level, mask.astype(np.float32))
            continue
        start = _mirrored(mask) if matches is None else _doubled(matches, mask.shape)
        rounds = _ROUNDS[min(depth, len(_ROUNDS) - 1)]
        finest = depth == len(levels) - 1
        made, matches = _complete(level, mask, sources, start, rounds=rounds, seed=seed + depth, finest=finest)
    return np.where(known[..., None], picture, made).astype(np.float32)


def _mirrored(known: Mask) -> Places:
    """(h, w, 2) as y, x: for each missing pixel its mirror image behind the nearest known one. A fill that starts smooth ends smooth."""
    h, w = known.shape
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    ys, xs = np.nonzero(known)
    at = np.zeros((labels.max() + 1, 2), np.int32)
    at[labels[ys, xs]] = np.stack([ys, xs], -1)
    y, x = np.mgrid[0:h, 0:w]
    return np.asarray(np.clip(2 * at[labels] - np.dstack([y, x]), 0, (h - 1, w - 1)), np.int32)


def _doubled(matches: Places, shape: tuple[int, ...]) -> Places:
    """A level's matches on the next finer one: neighbours stay neighbours."""
    h, w = shape[:2]
    y, x = np.mgrid[0:h, 0:w]
    coarse = matches[np.minimum(y // 2, matches.shape[0] - 1), np.minimum(x // 2, matches.shape[1] - 1)]
    return np.asarray(np.clip(coarse * 2 + np.dstack([y % 2, x % 2]), 0, (h - 1, w - 1)), np.int32)


def _halved(picture: Float, known: Mask) -> tuple[Float, Mask]:
    h, w = known.shape
    size = ((w + 1) // 2, (h + 1) // 2)
    weight = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    light = cv2.resize(picture * known[..., None].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(light / np.maximum(weight, 1e-6)[..., None], np.float32), weight > 0.5


def _complete(
    level: Float, known: Mask, sources: Mask, start: Places, *, rounds: int, seed: int, finest: bool
) -> tuple[Float, Places]:
    """Search and vote in turn on one level, from the matches `start`. Returns the picture and its matches, (h, w, 2)."""
    search, vote = _kernels()
    tolerance = _TOLERANCE[finest]
    around = cv2.dilate((~known).astype(np.uint8), np.ones((2 * _HALF + 1,) * 2, np.uint8)) > 0
    ys, xs = np.nonzero(around)
    targets = np.stack([ys, xs], -1).astype(np.int32)
    index = np.full(known.shape, -1, np.int32)
    index[ys, xs] = np.arange(len(ys))
    places = np.stack(np.nonzero(sources), -1).astype(np.int32)
    rng = np.random.default_rng(seed)
    match = start[ys, xs]
    lost = ~sources[match[:, 0], match[:, 1]]
    match[lost] = places[rng.integers(0, len(places), int(lost.sum()))]

    def copied(picture: Float) -> Float:
        """Each missing pixel from the middle of its own patch's match: a mean of patches is soft, and finds softer ones."""
        out = picture.copy()
        out[ys, xs] = picture[match[:, 0], match[:, 1]]
        return np.where(known[..., None], picture, out).astype(np.float32)

    # Far inside the hole there is less to go by: what lies near its border speaks louder.
    depth = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, 3)
    trust = np.power(_LESS_TRUST, -depth).astype(np.float32)
    picture = copied(np.ascontiguousarray(level))
    for turn in range(rounds):
        cost = search(picture, sources, targets, index, match, trust, turn, int(rng.integers(1, 2**31 - 1)))
        made = vote(picture, targets, match, cost, known, trust, tolerance)
        picture = np.where(known[..., None], picture, made).astype(np.float32)
    matches = start.copy()
    matches[ys, xs] = match
    return copied(picture), matches


@cache
def _kernels() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The two inner loops, compiled once a process: plain Python would take minutes."""
    from numba import njit

    half, stay = _HALF, _STAY_NEAR

    @njit(nogil=True)  # type: ignore[untyped-decorator]
    def distance(picture: Any, trust: Any, ty: int, tx: int, sy: int, sx: int, most: float) -> float:
        h, w = trust.shape
        total, weight = 0.0, 0.0
        away = stay * float((ty - sy) ** 2 + (tx - sx) ** 2) / float(h * h + w * w)
        if away >= most:
            return 1e9
        for dy in range(-half, half + 1):
            y = ty + dy
            if y < 0 or y >= h:
                continue
            for dx in range(-half, half + 1):
                x = tx + dx
                if x < 0 or x >= w:
                    continue
                t = trust[y, x]
                d = 0.0
                for c in range(3):
                    e = picture[y, x, c] - picture[sy + dy, sx + dx, c]
                    d += e * e
                total += t * d
                weight += t
            # All of the patch can't weigh more than this: what is worse already stays worse.
            if total > most * 49.0:
                return 1e9
        return total / max(weight, 1e-6) + away

    @njit(nogil=True)  # type: ignore[untyped-decorator]
    def search(
        picture: Any, sources: Any, targets: Any, index: Any, match: Any, trust: Any, turn: int, seed: int
    ) -> Any:
        h, w = sources.shape
        count = targets.shape[0]
        cost = np.empty(count, np.float32)
        state = np.uint64(seed)
        for i in range(count):
            cost[i] = distance(picture, trust, targets[i, 0], targets[i, 1], match[i, 0], match[i, 1], 1e9)
        for sweep in range(2):
            step = 1 if (turn + sweep) % 2 == 0 else -1
            start = 0 if step == 1 else count - 1
            for n in range(count):
                i = start + step * n
                ty, tx = targets[i, 0], targets[i, 1]
                best, by, bx = cost[i], match[i, 0], match[i, 1]
                for axis in range(2):
                    ny = ty - step if axis == 0 else ty
                    nx = tx - step if axis == 1 else tx
                    if ny < 0 or nx < 0 or ny >= h or nx >= w:
                        continue
                    j = index[ny, nx]
                    if j < 0:
                        continue
                    cy, cx = match[j, 0] + (ty - ny), match[j, 1] + (tx - nx)
                    if cy < 0 or cx < 0 or cy >= h or cx >= w or not sources[cy, cx]:
                        continue
                    d = distance(picture, trust, ty, tx, cy, cx, best)
                    if d < best:
                        best, by, bx = d, cy, cx
                radius = max(h, w)
                while radius >= 1:
                    state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                    ry = int((state >> np.uint64(33)) % np.uint64(2 * radius + 1)) - radius
                    state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                    rx = int((state >> np.uint64(33)) % np.uint64(2 * radius + 1)) - radius
                    cy = min(max(by + ry, 0), h - 1)
                    cx = min(max(bx + rx, 0), w - 1)
                    if sources[cy, cx]:
                        d = distance(picture, trust, ty, tx, cy, cx, best)
                        if d < best:
                            best, by, bx = d, cy, cx
                    radius //= 2
                cost[i], match[i, 0], match[i, 1] = best, by, bx
        return cost

    @njit(nogil=True)  # type: ignore[untyped-decorator]
    def vote(picture: Any, targets: Any, match: Any, cost: Any, known: Any, trust: Any, tolerance: float) -> Any:
        h, w = known.shape
        total = np.zeros((h, w, 3), np.float32)
        weight = np.full((h, w), 1e-9, np.float32)
        scale = float(np.quantile(cost, 0.75)) + tolerance
        for i in range(targets.shape[0]):
            share = np.exp(-cost[i] / (2.0 * scale)) * trust[targets[i, 0], targets[i, 1]] + 1e-6
            for dy in range(-half, half + 1):
                y = targets[i, 0] + dy
                if y < 0 or y >= h:
                    continue
                for dx in range(-half, half + 1):
                    x = targets[i, 1] + dx
                    if x < 0 or x >= w or known[y, x]:
                        continue
                    weight[y, x] += share
                    for c in range(3):
                        total[y, x, c] += share * picture[match[i, 0] + dy, match[i, 1] + dx, c]
        for y in range(h):
            for x in range(w):
                for c in range(3):
                    total[y, x, c] /= weight[y, x]
        return total

    return search, vote
