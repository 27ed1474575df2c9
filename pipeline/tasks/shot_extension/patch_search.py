"""The inner loops of the patch fill, compiled once a machine: plain Python would take minutes.

Patches are (2 HALF + 1)² pixels. `match` holds (y, x) of the known patch that each of `targets`, (y, x), is taken from.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

HALF = 3
STAY_NEAR = 0.15
"""Cost of taking a patch from a picture's diagonal away: what lies beyond an edge is most like what lies next to it."""


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _distance(picture: Any, trust: Any, ty: int, tx: int, sy: int, sx: int, most: float) -> float:
    """Mean squared difference of two patches by trust, with what being far away costs; 1e9 when it is more than `most`."""
    h, w = trust.shape
    total, weight = 0.0, 0.0
    away = STAY_NEAR * float((ty - sy) ** 2 + (tx - sx) ** 2) / float(h * h + w * w)
    if away >= most:
        return 1e9
    for dy in range(-HALF, HALF + 1):
        y = ty + dy
        if y < 0 or y >= h:
            continue
        for dx in range(-HALF, HALF + 1):
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


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def search(picture: Any, sources: Any, targets: Any, index: Any, match: Any, trust: Any, turn: int, seed: int) -> Any:
    """Better matches for all targets, in place: from the neighbours, and at random (PatchMatch). Returns their costs, (targets,)."""
    h, w = sources.shape
    count = targets.shape[0]
    cost = np.empty(count, np.float32)
    state = np.uint64(seed)
    for i in range(count):
        cost[i] = _distance(picture, trust, targets[i, 0], targets[i, 1], match[i, 0], match[i, 1], 1e9)
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
                d = _distance(picture, trust, ty, tx, cy, cx, best)
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
                    d = _distance(picture, trust, ty, tx, cy, cx, best)
                    if d < best:
                        best, by, bx = d, cy, cx
                radius //= 2
            cost[i], match[i, 0], match[i, 1] = best, by, bx
    return cost


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def vote(picture: Any, targets: Any, match: Any, cost: Any, known: Any, trust: Any, tolerance: float) -> Any:
    """The picture that the matches make, (height, width, 3): every patch votes for the pixels that it covers."""
    h, w = known.shape
    total = np.zeros((h, w, 3), np.float32)
    weight = np.full((h, w), 1e-9, np.float32)
    scale = float(np.quantile(cost, 0.75)) + tolerance
    for i in range(targets.shape[0]):
        share = np.exp(-cost[i] / (2.0 * scale)) * trust[targets[i, 0], targets[i, 1]] + 1e-6
        for dy in range(-HALF, HALF + 1):
            y = targets[i, 0] + dy
            if y < 0 or y >= h:
                continue
            for dx in range(-HALF, HALF + 1):
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
