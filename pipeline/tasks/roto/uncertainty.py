"""How sure a matte is, frame by frame.

Two witnesses: the net's own entropy, and how far it disagrees with what motion alone made of the keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

_FEWEST = 50
"""Pixels that an object counts as having at least, so that a vanishing one doesn't divide by nothing."""


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Of one object on one frame. `entropy`: doubtful area over sure area. `disagreement`: 1 − IoU of net and flow.
    `coverage`: part of the picture that the matte fills. All 0 … 1."""

    entropy: float
    disagreement: float
    coverage: float

    @property
    def worst(self) -> float:
        """The stronger of the two witnesses."""
        return max(self.entropy, self.disagreement)

    def credited(self, credit: float) -> Uncertainty:
        """The same where what it rests on is to be believed only so far, 0 … 1."""
        return replace(self, disagreement=max(self.disagreement, 1 - credit))


def uncertainty(matte: Float, prior: Float) -> Uncertainty:
    """Judge a net's `matte` against the flow's `prior`, both (height, width) 0 … 1."""
    solid, moved = matte > 0.5, prior > 0.5
    area = int(solid.sum())
    entropy = float((4 * matte * (1 - matte)).sum()) / max(area, _FEWEST)
    union = int((solid | moved).sum())
    disagreement = 1 - int((solid & moved).sum()) / union if union else 0.0
    return Uncertainty(min(entropy, 1.0), disagreement, area / matte.size)


@dataclass(frozen=True, slots=True)
class Credit:
    """How far to believe flow on this shot: doubt in a propagated matte times `error_per_doubt` is the overlap it loses."""

    error_per_doubt: float = 0.7
    """Without a second key to check by: what shots showed on average."""

    @classmethod
    def from_keys(cls, checks: Iterable[tuple[float, float]]) -> Credit:
        """From (trust, overlap with the truth) of keys that were propagated from the other keys."""
        doubt = error = 0.0
        for trust, overlap in checks:
            doubt, error = doubt + 1 - trust, error + 1 - overlap
        return cls(error / doubt) if doubt > 0 else cls()

    def quality(self, trust: float) -> float:
        """The overlap to expect of a matte that flow trusts that much; 0 when nothing reached the frame."""
        return min(1.0, max(0.05, 1 - self.error_per_doubt * (1 - trust))) if trust > 0 else 0.0
