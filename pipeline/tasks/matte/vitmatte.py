"""ViTMatte (Yao et al. 2023) from a transformers folder: a picture and a trimap in, α out.

The picture goes through in tiles on a fixed grid, since the attention's memory grows with the square of their size; only tiles that
hold unknown pixels are looked at, and where they overlap they are blended.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.models.transformers_folder import open_transformers

Float = NDArray[np.float32]
Bools = NDArray[np.bool_]

_TILE = 768
_OVERLAP = 128
_MULTIPLE = 32
"""Sides that the network takes."""


class VitMatte:
    """A loaded model."""

    def __init__(self, path: Path, sha256: str) -> None:
        """Raises: ModelError."""
        self._model: Any = open_transformers(path, "VitMatteForImageMatting", sha256=sha256)

    def matte(self, picture: Float, known: Float, unknown: Bools) -> Float:
        """(height, width) 0 … 1. `picture` (3, height, width) in model space; `known` 0 or 1, used and kept outside `unknown`."""
        height, width = known.shape
        trimap = np.where(unknown, np.float32(0.5), known)
        total, weight = np.zeros(known.shape, np.float32), np.zeros(known.shape, np.float32)
        for y in _starts(height):
            for x in _starts(width):
                part = np.s_[y : y + _TILE, x : x + _TILE]
                if not unknown[part].any():
                    continue
                alpha = self._tile(picture[:, part[0], part[1]], trimap[part])
                heed = np.minimum(_ramp(alpha.shape[0])[:, None], _ramp(alpha.shape[1])[None])
                total[part] += heed * alpha
                weight[part] += heed
        found = total / np.maximum(weight, 1e-6)
        return np.where(unknown, np.clip(found, 0, 1), known).astype(np.float32)

    def _tile(self, picture: Float, trimap: Float) -> Float:
        import torch

        height, width = trimap.shape
        down, across = -height % _MULTIPLE, -width % _MULTIPLE
        stacked = np.concatenate([np.clip(picture, 0, 1), trimap[None]])
        # Means and deviations of .5 for the picture; the trimap goes in as it is.
        stacked[:3] = stacked[:3] * 2 - 1
        padded = np.pad(stacked, ((0, 0), (0, down), (0, across)), mode="edge")
        with torch.inference_mode():
            alphas = self._model(pixel_values=torch.from_numpy(padded[None])).alphas
        return np.asarray(alphas[0, 0, :height, :width].float().numpy(), np.float32)


def _starts(length: int) -> list[int]:
    """Where tiles begin, so that they overlap and the last ends with the picture."""
    if length <= _TILE:
        return [0]
    step = _TILE - _OVERLAP
    return [*range(0, length - _TILE, step), length - _TILE]


def _ramp(length: int) -> Float:
    """Weight along a tile's side: full in the middle, little at its ends."""
    place = np.arange(length, dtype=np.float32)
    return np.clip((np.minimum(place, length - 1 - place) + 1) / _OVERLAP, 0, 1)
