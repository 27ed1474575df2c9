"""The inner loops of patch synthesis, compiled: PatchMatch (Barnes et al. 2009) over packed guides, and the patches' vote.

A picture is packed as (height + 2·RADIUS, (width + 2·RADIUS)·CHANNELS) bytes, its border repeated: one row of a patch is one run
of memory, small enough that a random look into the painting mostly hits a cache. Errors are sums of whole numbers, the same
on every machine. A field holds for each target pixel the source position that it is taken from, (height, width, 2) float32 as
x, y; what lies between pixels is kept, errors are taken at the nearest pixel.
"""

from __future__ import annotations

import numba
import numpy as np

RADIUS = 2
"""A patch has 2·RADIUS + 1 pixels a side."""
CHANNELS = 8
"""Bytes a pixel has when packed: red, green, blue and edges of the plate, red, green, blue of the painting, one unused."""

_SIDE = 2 * RADIUS + 1
_RUN = _SIDE * CHANNELS
_FREE = np.float32(64.0)
"""Squared pixels off its expected position at which a patch pays half of the highest price."""
_EVEN = np.float32(150.0)
"""Patch error, in squared bytes, that halves a patch's say in the vote."""


@numba.njit(inline="always", error_model="numpy")
def _patch_error(source, target, sx, sy, tx, ty, enough):  # type: ignore[no-untyped-def]  # compiled
    """Squared difference of two patches, summed over channels, mean over pixels; some value above `enough` when it is more."""
    limit = np.int32(min(enough * np.float32(_SIDE * _SIDE), np.float32(1e9)))
    error = np.int32(0)
    for row in range(_SIDE):
        a = source[sy + row, sx * CHANNELS : sx * CHANNELS + _RUN]
        b = target[ty + row, tx * CHANNELS : tx * CHANNELS + _RUN]
        part = np.int32(0)
        for i in range(_RUN):
            d = np.int16(np.int16(a[i]) - np.int16(b[i]))
            part = np.int32(part + np.int32(d) * np.int32(d))
        error = np.int32(error + part)
        if error > limit:
            break
    return np.float32(error) / np.float32(_SIDE * _SIDE)


@numba.njit(inline="always", error_model="numpy")
def _cost(source, target, x, y, expected, pull, tx, ty, enough):  # type: ignore[no-untyped-def]
    """Patch error of taking target (tx, ty) from source (x, y), and what it costs to leave the expected position."""
    height, width = source.shape[0] - 2 * RADIUS, source.shape[1] // CHANNELS - 2 * RADIUS
    sx = min(max(int(np.floor(x + np.float32(0.5))), 0), width - 1)
    sy = min(max(int(np.floor(y + np.float32(0.5))), 0), height - 1)
    dx, dy = x - expected[ty, tx, 0], y - expected[ty, tx, 1]
    away = dx * dx + dy * dy
    price = pull[ty, tx] * away / (away + _FREE)
    if price >= enough:
        return price
    return price + _patch_error(source, target, sx, sy, tx, ty, enough - price)


@numba.njit(inline="always", error_model="numpy")
def _draw(state):  # type: ignore[no-untyped-def]
    """The next of a pixel's own random numbers (xorshift, Marsaglia 2003)."""
    state = np.uint32(state ^ np.uint32(state << np.uint32(13)))
    state = np.uint32(state ^ np.uint32(state >> np.uint32(17)))
    return np.uint32(state ^ np.uint32(state << np.uint32(5)))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def judge(source, target, field, expected, pull, error):  # type: ignore[no-untyped-def]
    """Write every pixel's cost into `error`, (height, width)."""
    height, width = error.shape
    for y in range(height):
        for x in range(width):
            error[y, x] = _cost(source, target, field[y, x, 0], field[y, x, 1], expected, pull, x, y, np.float32(1e7))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def offer(source, target, field, error, todo, offered, expected, pull):  # type: ignore[no-untyped-def]
    """Take another field's position wherever it costs less. `todo`: (n, 2) rows of y, x."""
    for i in range(todo.shape[0]):
        y, x = todo[i, 0], todo[i, 1]
        cx = min(max(offered[y, x, 0], np.float32(0)), np.float32(source.shape[1] // CHANNELS - 2 * RADIUS - 1))
        cy = min(max(offered[y, x, 1], np.float32(0)), np.float32(source.shape[0] - 2 * RADIUS - 1))
        cost = _cost(source, target, cx, cy, expected, pull, x, y, error[y, x])
        if cost < error[y, x]:
            error[y, x] = cost
            field[y, x, 0], field[y, x, 1] = cx, cy


@numba.njit(cache=True, nogil=True, error_model="numpy")
def search(source, target, field, error, todo, expected, pull, sweeps, reach, seed):  # type: ignore[no-untyped-def]
    """Better `field` at the pixels of `todo`, (n, 2) rows of y, x in reading order: from the neighbours, and at random within
    `reach` pixels, halved until it is 1. Chance hangs on pixel, sweep and seed alone. `error` is kept up to date."""
    height, width = error.shape
    right = np.float32(source.shape[1] // CHANNELS - 2 * RADIUS - 1)
    bottom = np.float32(source.shape[0] - 2 * RADIUS - 1)
    count = todo.shape[0]
    for sweep in range(sweeps):
        step = 1 if sweep % 2 == 0 else -1
        for i in range(count):
            at = i if step == 1 else count - 1 - i
            y, x = todo[at, 0], todo[at, 1]
            best, bx, by = error[y, x], field[y, x, 0], field[y, x, 1]
            for side in range(2):
                qx, qy = (x - step, y) if side == 0 else (x, y - step)
                if 0 <= qx < width and 0 <= qy < height:
                    cx = min(max(field[qy, qx, 0] + np.float32(x - qx), np.float32(0)), right)
                    cy = min(max(field[qy, qx, 1] + np.float32(y - qy), np.float32(0)), bottom)
                    if cx != bx or cy != by:
                        cost = _cost(source, target, cx, cy, expected, pull, x, y, best)
                        if cost < best:
                            best, bx, by = cost, cx, cy
            state = np.uint32(
                (y * 73856093) ^ (x * 19349663) ^ ((sweep + 1) * 83492791) ^ (seed * 2654435761)
            ) | np.uint32(1)
            span = reach
            while span >= 1:
                state = _draw(_draw(state))
                jx = np.float32(int(state >> np.uint32(8)) % (2 * span + 1) - span)
                state = _draw(state)
                jy = np.float32(int(state >> np.uint32(8)) % (2 * span + 1) - span)
                cx, cy = min(max(bx + jx, np.float32(0)), right), min(max(by + jy, np.float32(0)), bottom)
                cost = _cost(source, target, cx, cy, expected, pull, x, y, best)
                if cost < best:
                    best, bx, by = cost, cx, cy
                span //= 2
            error[y, x], field[y, x, 0], field[y, x, 1] = best, bx, by


@numba.njit(cache=True, nogil=True, error_model="numpy")
def vote(picture, field, error, todo, out):  # type: ignore[no-untyped-def]
    """Mean of what the patches over each pixel of `todo` say, the fitting ones louder, into `out`.

    `picture`: (height, width, 3), the painting, and `out` (height, width, 3), of any size: the field is stretched to them, so a
    field found on a small picture places the strokes of the large one. `todo`: (n, 2) rows of y, x in `out`.
    """
    rows, columns = field.shape[:2]
    high, wide = picture.shape[:2]
    down, across = np.float32(out.shape[0] / rows), np.float32(out.shape[1] / columns)
    tall, broad = np.float32(high / rows), np.float32(wide / columns)
    half = np.float32(0.5)
    for i in range(todo.shape[0]):
        ty, tx = todo[i, 0], todo[i, 1]
        y, x = (np.float32(ty) + half) / down - half, (np.float32(tx) + half) / across - half
        cy, cx = int(np.floor(y + half)), int(np.floor(x + half))
        red, green, blue, weight = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for qy in range(max(cy - RADIUS, 0), min(cy + RADIUS, rows - 1) + 1):
            for qx in range(max(cx - RADIUS, 0), min(cx + RADIUS, columns - 1) + 1):
                dy, dx = y - np.float32(qy), x - np.float32(qx)
                say = np.float32(1) / (error[qy, qx] + _EVEN)
                sx = (field[qy, qx, 0] + dx + half) * broad - half
                sy = (field[qy, qx, 1] + dy + half) * tall - half
                sx = min(max(sx, np.float32(0)), np.float32(wide - 1))
                sy = min(max(sy, np.float32(0)), np.float32(high - 1))
                x0, y0 = int(sx), int(sy)
                x1, y1 = min(x0 + 1, wide - 1), min(y0 + 1, high - 1)
                u, v = sx - np.float32(x0), sy - np.float32(y0)
                a, b = (np.float32(1) - u) * (np.float32(1) - v) * say, u * (np.float32(1) - v) * say
                c, d = (np.float32(1) - u) * v * say, u * v * say
                red += a * picture[y0, x0, 0] + b * picture[y0, x1, 0] + c * picture[y1, x0, 0] + d * picture[y1, x1, 0]
                green += (
                    a * picture[y0, x0, 1] + b * picture[y0, x1, 1] + c * picture[y1, x0, 1] + d * picture[y1, x1, 1]
                )
                blue += (
                    a * picture[y0, x0, 2] + b * picture[y0, x1, 2] + c * picture[y1, x0, 2] + d * picture[y1, x1, 2]
                )
                weight += say
        out[ty, tx, 0], out[ty, tx, 1], out[ty, tx, 2] = red / weight, green / weight, blue / weight
