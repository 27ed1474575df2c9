"""How well one matte covers another: region similarity J and contour accuracy F of DAVIS (Perazzi et al. 2016).

Mattes are (height, width); anything above 0.5 (a bool: True) belongs to the object.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

TOLERANCE = 0.008
"""How far apart two contours may lie and still match, as a part of the picture's diagonal."""


@dataclass(frozen=True, slots=True)
class FrameScore:
    """Of one frame; 1 is perfect."""

    j: float
    f: float


@dataclass(frozen=True, slots=True)
class Score:
    """Of the frames that no key gave away. `worst` is the frame of the lowest J."""

    frames: Mapping[int, FrameScore]

    @property
    def j(self) -> float:
        """Mean region similarity."""
        return float(np.mean([s.j for s in self.frames.values()]))

    @property
    def f(self) -> float:
        """Mean contour accuracy."""
        return float(np.mean([s.f for s in self.frames.values()]))

    @property
    def jf(self) -> float:
        """Mean of the two, DAVIS's headline number."""
        return (self.j + self.f) / 2

    @property
    def worst(self) -> int:
        """The frame of the lowest J."""
        return min(self.frames, key=lambda frame: (self.frames[frame].j, frame))


def region_similarity(found: NDArray[Any], truth: NDArray[Any]) -> float:
    """J: intersection over union; 1 when both are empty."""
    a, b = _mask(found), _mask(truth)
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def contour_accuracy(found: NDArray[Any], truth: NDArray[Any], *, tolerance: float = TOLERANCE) -> float:
    """F: harmonic mean of the contour's precision and recall, matched by dilating each by `tolerance` of the diagonal.

    1 when neither has a contour, 0 when only one has.
    """
    a, b = contour(found), contour(truth)
    count_a, count_b = int(a.sum()), int(b.sum())
    if count_a == 0 or count_b == 0:
        return 1.0 if count_a == count_b else 0.0
    reach = int(np.ceil(tolerance * np.hypot(*a.shape)))
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    precision = int((a & _dilate(b, disk)).sum()) / count_a
    recall = int((b & _dilate(a, disk)).sum()) / count_b
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def contour(matte: NDArray[Any]) -> Mask:
    """One-pixel contour: pixels that differ from their neighbour on the right, below, or both."""
    inside = _mask(matte)
    padded = np.pad(inside, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    return np.asarray((here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:]))


def score_mattes(pred: Mapping[int, NDArray[Any]], truth: Mapping[int, NDArray[Any]], keys: Collection[int]) -> Score:
    """Score every frame of `pred` that has a truth and is no key, by frame number.

    Raises: ValueError (no such frame, or sizes differ).
    """
    scores: dict[int, FrameScore] = {}
    for frame in sorted(set(pred) & set(truth) - set(keys)):
        a, b = pred[frame], truth[frame]
        if a.shape != b.shape:
            raise ValueError(f"frame {frame}: matte {a.shape} against truth {b.shape}")
        scores[frame] = FrameScore(region_similarity(a, b), contour_accuracy(a, b))
    if not scores:
        raise ValueError("no frame has both a matte and a truth")
    return Score(scores)


def _mask(matte: NDArray[Any]) -> Mask:
    return matte if matte.dtype == np.bool_ else np.asarray(matte > 0.5)


def _dilate(mask: Mask, element: NDArray[Any]) -> Mask:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), element) > 0)
