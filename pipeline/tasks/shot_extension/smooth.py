"""Sparse values spread smoothly over a whole plane: push-pull interpolation (Gortler et al. 1996, the Lumigraph)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


def push_pull(values: Float, weight: Float) -> Float:
    """`values` (h, w) or (h, w, c) where `weight` (h, w) is above 0, and their smooth continuation where it is 0.

    Weights above 1 count as 1. With no weight anywhere: zeros.
    """
    planes = values if values.ndim == 3 else values[..., None]
    out = _level(np.ascontiguousarray(planes, np.float32), np.clip(weight, 0, 1).astype(np.float32))
    return out if values.ndim == 3 else np.ascontiguousarray(out[..., 0])


def _level(values: Float, weight: Float) -> Float:
    h, w, channels = values.shape
    if weight.min() >= 1:
        return values
    held = weight[..., None]
    if h <= 2 and w <= 2:
        total = float(weight.sum())
        mean = (values * held).reshape(-1, channels).sum(0) / total if total > 0 else np.zeros(channels, np.float32)
        return np.asarray(values * held + mean * (1 - held), np.float32)
    size = (max(1, (w + 1) // 2), max(1, (h + 1) // 2))
    small_weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(values * held, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], channels)
    mean = small / np.maximum(small_weight, 1e-9)[..., None]
    # Four children with a weight of 1 between them already speak for their parent.
    coarse = _level(np.asarray(mean, np.float32), np.minimum(small_weight * 4, 1).astype(np.float32))
    coarse = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_LINEAR).reshape(h, w, channels)
    return np.asarray(values * held + coarse * (1 - held), np.float32)
