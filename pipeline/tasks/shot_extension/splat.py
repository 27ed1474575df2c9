"""Forward splatting: values carried along a flow to where they land (softmax splatting's linear form, Niklaus and Liu 2020)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


def splat(values: Float, flow: Float, weight: Float) -> tuple[Float, Float]:
    """Where `values` (h, w, c) land when each moves by `flow` (h, w, 2), shared bilinearly between four pixels.

    Where several land they are averaged by `weight` (h, w). Returns the values and the sum of shares that landed (h, w), weights left
    out: about 1 where the picture stays as dense as it was, 0 in holes.
    """
    h, w, channels = values.shape
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    to_x, to_y = x + flow[..., 0], y + flow[..., 1]
    left, top = np.floor(to_x), np.floor(to_y)
    fx, fy = to_x - left, to_y - top
    ix, iy = left.astype(np.int64), top.astype(np.int64)
    total = np.zeros((channels + 2, h * w))
    for dy in (0, 1):
        for dx in (0, 1):
            share = (fx if dx else 1 - fx) * (fy if dy else 1 - fy)
            tx, ty = ix + dx, iy + dy
            inside = (tx >= 0) & (tx < w) & (ty >= 0) & (ty < h) & (share > 0)
            index = (ty * w + tx)[inside]
            part = share[inside]
            weighted = part * weight[inside]
            total[channels] += np.bincount(index, weighted, h * w)
            total[channels + 1] += np.bincount(index, part, h * w)
            for c in range(channels):
                total[c] += np.bincount(index, weighted * values[..., c][inside], h * w)
    mean = total[:channels] / np.maximum(total[channels], 1e-9)
    carried = np.moveaxis(mean.reshape(channels, h, w), 0, -1).astype(np.float32)
    return np.ascontiguousarray(carried), total[channels + 1].reshape(h, w).astype(np.float32)
