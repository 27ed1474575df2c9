"""A soft matte from a prior and the picture: local colours say what α is, the matting Laplacian says how it runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.matte import closed_form
from pipeline.tasks.matte.likelihood import opinion, side_of
from pipeline.tasks.matte.prior import Prior

Float = NDArray[np.float32]

_DOUBT = 0.002
"""Variance of a colour's opinion at best: hair of another shade, a ground that changes."""
_ROUNDS = 2
_DOUBTFUL = 0.05
"""A colour's opinion with this variance leaves a pixel half in doubt."""
_UNSURE = 0.25
"""And a frame whose soft edge has this on average is half sure: neighbours and outline say the rest."""
_GUIDED_RADIUS = 4.0
"""Of the guided filter, of the edge's width."""
_SNAP = 1 / 512
"""α this near to 0 or 1 is 0 or 1: no film of subject over the ground, no pinholes in the subject."""


@dataclass(frozen=True, slots=True)
class Refined:
    """`matte` (height, width) 0 … 1. `doubt` (height, width) 0 … 1: how little a pixel's own colour says of it; 0 outside the band.
    `sure`: how well the two sides' colours differ in the soft edge, 0 … 1; None when colours weren't asked."""

    matte: Float
    doubt: Float
    sure: float | None


def refine(rgb: Float, prior: Prior) -> Refined:
    """The matte that prior, colours and Laplacian agree on. `rgb` (height, width, 3) scene-linear."""
    return _in_bounds(rgb, prior, _solved)


def refine_guided(picture: Float, prior: Prior, edge_px: float) -> Refined:
    """The matte as a guided filter makes it of the prior. `picture` (height, width, 3) in model space, without
    highlights: beside one every other colour looks the same."""

    def filtered(part: Float, inner: Prior) -> Refined:
        rough = np.where(inner.unknown, inner.mean, inner.known)
        soft = guided(part, rough, max(2, round(_GUIDED_RADIUS * edge_px)))
        return Refined(snap(np.where(inner.unknown, soft, inner.known)), inner.unknown.astype(np.float32), None)

    return _in_bounds(picture, prior, filtered, margin_px=round(2 * _GUIDED_RADIUS * edge_px) + 4)


def _in_bounds(
    rgb: Float, prior: Prior, work: Callable[[Float, Prior], Refined], margin_px: int | None = None
) -> Refined:
    """Work on the band's bounding box alone, with room for what lies around it."""
    band = prior.unknown
    if not band.any():
        return Refined(prior.known.copy(), np.zeros(band.shape, np.float32), 1.0)
    margin = round(3 * prior.reach_px) + 4 if margin_px is None else margin_px
    x, y, width, height = cv2.boundingRect(band.astype(np.uint8))
    part = np.s_[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]
    found = work(np.ascontiguousarray(rgb[part]), prior.cropped(part))
    matte, doubt = prior.known.copy(), np.zeros(band.shape, np.float32)
    matte[part], doubt[part] = found.matte, found.doubt
    return Refined(matte, doubt, found.sure)


def _solved(rgb: Float, prior: Prior) -> Refined:
    band = prior.unknown
    mean, trust = prior.mean[band], 1 / prior.variance[band]
    target, weight, sure = mean, trust, None
    doubt = band.astype(np.float32)
    if prior.fore.any() and prior.back.any():
        fore, back = (side_of(rgb, side, band, prior.reach_px) for side in (prior.fore, prior.back))
        colours, guess = rgb[band], mean
        for _ in range(_ROUNDS):
            seen = opinion(colours, fore, back, guess)
            heed = 1 / (seen.variance + np.float32(_DOUBT))
            weight = np.asarray(trust + heed, np.float32)
            target = np.asarray((trust * mean + heed * seen.alpha) / weight, np.float32)
            guess = np.clip(target, 0, 1)
        doubt[band] = seen.variance / (seen.variance + np.float32(_DOUBTFUL))
        softness = guess * (1 - guess) + np.float32(1e-6)
        sure = float(np.average(_UNSURE / (_UNSURE + seen.variance), weights=softness))
    goal, pull = np.zeros(band.shape, np.float32), np.zeros(band.shape, np.float32)
    goal[band], pull[band] = target, weight
    noise = closed_form.FINE_NOISE if sure is None else closed_form.NOISE
    problem = closed_form.Problem(rgb, prior.known, band, goal, pull, noise)
    return Refined(snap(closed_form.solve(problem)), doubt, sure)


def snap(matte: Float) -> Float:
    """`matte` with what is nearly 0 or 1 made so."""
    matte = np.where(matte < _SNAP, np.float32(0), matte)
    return np.where(matte > 1 - _SNAP, np.float32(1), matte)


def guided(rgb: Float, matte: Float, radius: int, epsilon: float = 1e-5) -> Float:
    """The guided filter (He, Sun & Tang 2010) with a colour guide: `matte` as the locally linear function of `rgb` nearest to it.

    `rgb` (height, width, 3), `matte` (height, width); the result is 0 … 1.
    """
    guide = rgb.astype(np.float64)

    def mean(plane: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(cv2.blur(plane, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT))

    p = matte.astype(np.float64)
    centre, level = mean(guide), mean(p)
    cross = mean(guide * p[..., None]) - centre * level[..., None]
    spread = np.empty((*matte.shape, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            spread[..., i, j] = spread[..., j, i] = (
                mean(guide[..., i] * guide[..., j]) - centre[..., i] * centre[..., j]
            )
    spread += epsilon * np.eye(3)
    slope = np.linalg.solve(spread, cross[..., None])[..., 0]
    offset = level - (slope * centre).sum(-1)
    found = (mean(slope) * guide).sum(-1) + mean(offset)
    return np.asarray(np.clip(found, 0, 1), np.float32)
