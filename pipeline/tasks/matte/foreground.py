"""The subject's own colours in a soft edge: multi-level foreground estimation (Germer, Uelwer, Conrad & Harmeling 2020).

A soft pixel is αF + (1−α)B. F and B are the smoothest that explain the picture, the smoother the less α changes between neighbours;
solved from a pixel's size of picture up, a few sweeps a level. From a level of some size on only soft pixels are swept: elsewhere F is
the picture or isn't seen. Scene-linear, (height, width, 3). Nothing is clipped above: a highlight stays one.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Bools = NDArray[np.bool_]

_REGULAR = 1e-3
_GRADIENT = 0.1
_SWEEPS = 6
_SMALL_SWEEPS = 10
_SMALL = 64
"""Levels up to this long are swept whole and more often."""
_PARTNERS = ((-1, 0), (1, 0), (0, -1), (0, 1))


def estimate_foreground(rgb: Float, matte: Float) -> Float:
    """F, (height, width, 3). Where `matte`, (height, width), is 1 it is `rgb` itself, bit for bit; where 0, colours that run on."""
    height, width = matte.shape
    solid, empty = matte >= 1, matte <= 0
    if not (matte > 0.5).any() or (solid | empty).all():
        return np.where(solid[..., None], rgb, np.float32(0))
    fore = back = np.zeros((1, 1, 3), np.float32)
    steps = int(np.ceil(np.log2(max(height, width))))
    for level in range(steps + 1):
        size = (max(1, round(width ** (level / steps))), max(1, round(height ** (level / steps))))
        picture = _scaled(rgb, size)
        alpha = _scaled(matte, size)
        fore = cv2.resize(fore, size, interpolation=cv2.INTER_NEAREST).reshape(size[1], size[0], 3)
        back = cv2.resize(back, size, interpolation=cv2.INTER_NEAREST).reshape(size[1], size[0], 3)
        if max(size) <= _SMALL:
            everywhere = np.ones(alpha.shape, np.bool_)
            _sweep(fore, back, picture, alpha, everywhere, _SMALL_SWEEPS)
        else:
            opaque, clear = alpha >= 1, alpha <= 0
            fore[opaque], back[clear] = picture[opaque], picture[clear]
            _sweep(fore, back, picture, alpha, ~(opaque | clear), _SWEEPS)
    fore[solid] = rgb[solid]
    return fore


def _scaled(plane: Float, size: tuple[int, int]) -> Float:
    if plane.shape[1::-1] == size:
        return plane
    shape = (size[1], size[0], *plane.shape[2:])
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32).reshape(shape)


def _sweep(fore: Float, back: Float, picture: Float, alpha: Float, where: Bools, sweeps: int) -> None:
    """Jacobi sweeps over the pixels of `where`; `fore` and `back` are changed in place. The order of pixels doesn't matter."""
    height, width = alpha.shape
    rows, columns = np.nonzero(where)
    if not len(rows):
        return
    flat_f, flat_b = fore.reshape(-1, 3), back.reshape(-1, 3)
    here = rows * width + columns
    a = alpha.ravel()[here]
    beside, weights = [], []
    for dy, dx in _PARTNERS:
        partner = np.clip(rows + dy, 0, height - 1) * width + np.clip(columns + dx, 0, width - 1)
        beside.append(partner)
        weights.append((_REGULAR + _GRADIENT * np.abs(a - alpha.ravel()[partner]))[:, None])
    total = sum(weights[1:], weights[0])[:, 0]
    b = 1 - a
    aa, ab, bb = a * a + total, a * b, b * b + total
    scale = 1 / (aa * bb - ab * ab)
    own = picture.reshape(-1, 3)[here]
    own_f, own_b = own * a[:, None], own * b[:, None]
    to_f = ((bb * scale)[:, None], (ab * scale)[:, None])
    to_b = ((aa * scale)[:, None], (ab * scale)[:, None])
    for _ in range(sweeps):
        pull_f, pull_b = own_f.copy(), own_b.copy()
        for partner, weight in zip(beside, weights, strict=True):
            pull_f += weight * flat_f[partner]
            pull_b += weight * flat_b[partner]
        flat_f[here] = np.maximum(to_f[0] * pull_f - to_f[1] * pull_b, 0)
        flat_b[here] = np.maximum(to_b[0] * pull_b - to_b[1] * pull_f, 0)
