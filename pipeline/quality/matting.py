"""How far a soft matte lies from the true one: the field's own measures, in the units that papers print.

SAD, MSE, Grad and Conn after Rhemann et al. 2009 (A Perceptually Motivated Online Benchmark for Image Matting), dtSSD after
Erofeev et al. 2015 (Perceptually Motivated Benchmark for Video Matting). All are of the whole frame unless said. Lower is better.
Mattes are (height, width) float32, 0 … 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.media.transform import HybridCurve

Float = NDArray[np.float32]

_GRADIENT_SIGMA = 1.4
_LEVELS = 10
"""Thresholds of Conn: steps of .1."""
_CONNECTED = 0.15
"""A pixel counts as cut off from the body by no more than this for free."""
_SOFT = (0.05, 0.95)
_DISPLAY = HybridCurve(peak=1.0)


@dataclass(frozen=True, slots=True)
class MatteScore:
    """One frame's. `sad`: Σ|α − truth| / 1000. `mse`: mean squared × 1000. `grad`: Σ of squared differences of the gradients'
    lengths. `conn`: Σ of differences of connectedness / 1000."""

    sad: float
    mse: float
    grad: float
    conn: float


def score_matte(matte: Float, truth: Float) -> MatteScore:
    """All four of one frame."""
    off = matte - truth
    return MatteScore(
        sad=float(np.abs(off).sum(dtype=np.float64)) / 1000,
        mse=float(np.square(off).mean(dtype=np.float64)) * 1000,
        grad=float(np.square(_slope(matte) - _slope(truth)).sum(dtype=np.float64)),
        conn=_connectivity(matte, truth),
    )


def mean_score(scores: list[MatteScore]) -> MatteScore:
    """The mean over frames. Raises: ValueError (none)."""
    if not scores:
        raise ValueError("no frame to take the mean of")
    return MatteScore(*(float(np.mean([getattr(s, n) for s in scores])) for n in ("sad", "mse", "grad", "conn")))


def dtssd(mattes: Mapping[int, Float], truth: Mapping[int, Float]) -> float:
    """How far the matte's change from frame to frame is from the truth's: mean over pairs of neighbouring frames of the root mean
    square, × 100. 0 when no two neighbours are given."""
    jumps = []
    for frame in sorted(mattes):
        if frame - 1 not in mattes:
            continue
        off = (mattes[frame] - mattes[frame - 1]) - (truth[frame] - truth[frame - 1])
        jumps.append(float(np.sqrt(np.square(off).mean(dtype=np.float64))) * 100)
    return float(np.mean(jumps)) if jumps else 0.0


def recomposite_error(
    foreground: Float, matte: Float, true_foreground: Float, truth: Float, ground: tuple[float, float, float]
) -> float:
    """How wrong the subject looks on another ground: mean absolute difference in the true soft edge, of 255, as displayed (sRGB).

    Foregrounds are (3, height, width) scene-linear and not premultiplied; `ground` is one scene-linear colour. The composites are
    made in scene-linear. With `matte` = `truth` the foreground alone is judged. 0 where nothing is soft.
    """
    soft = (truth > _SOFT[0]) & (truth < _SOFT[1])
    if not soft.any():
        return 0.0
    behind = np.asarray(ground, np.float32)[:, None]

    def over(colour: Float, alpha: Float) -> Float:
        a = alpha[soft]
        return _DISPLAY.forward(np.asarray(colour[:, soft] * a + behind * (1 - a), np.float32))

    return float(np.abs(over(foreground, matte) - over(true_foreground, truth)).mean(dtype=np.float64)) * 255


def _slope(matte: Float) -> Float:
    """Length of the gradient, smoothed by a Gaussian."""
    smooth = cv2.GaussianBlur(np.ascontiguousarray(matte, np.float32), (0, 0), _GRADIENT_SIGMA)
    across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    return np.asarray(cv2.magnitude(across, down), np.float32)


def _connectivity(matte: Float, truth: Float) -> float:
    """A pixel is as connected as the highest threshold at which it hangs together with the body that both mattes agree on."""
    level = np.full(matte.shape, -1.0, np.float32)
    for step in range(1, _LEVELS + 1):
        threshold = step / _LEVELS
        both = ((matte >= threshold) & (truth >= threshold)).astype(np.uint8)
        body = _largest(both)
        level[(level < 0) & ~body] = (step - 1) / _LEVELS
    level[level < 0] = 1

    def connected(alpha: Float) -> Float:
        gap = alpha - level
        return np.asarray(1 - gap * (gap >= _CONNECTED), np.float32)

    return float(np.abs(connected(matte) - connected(truth)).sum(dtype=np.float64)) / 1000


def _largest(solid: NDArray[np.uint8]) -> NDArray[np.bool_]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=4)
    if count < 2:
        return np.zeros(solid.shape, np.bool_)
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))
