"""A painting for a frame that nobody painted, out of a mood board: its colours first, then its brushwork.

Colours: the linear map of Monge and Kantorovich between the two clouds of colours in CIE Lab (Pitié & Kokaram 2007), which moves
them least. Brushwork: patches of the board's pictures that fit the recoloured frame, by the same search that carries a
painted key (image analogies with the picture as its own guide; Hertzmann et al. 2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.motion import grid
from pipeline.tasks.style_transfer.blend import low_band
from pipeline.tasks.style_transfer.guides import Painted, plate_guide, pyramid
from pipeline.tasks.style_transfer.render import render
from pipeline.tasks.style_transfer.synthesis import Effort, synthesise

Float = NDArray[np.float32]

_SAMPLES = 60_000
"""Colours that a cloud is measured by, at most."""
_BOARD = 4
"""Pictures that brushwork is taken from, evenly out of the board; colours are of all."""
_SOFT_PX = 1.5
"""Blur of the guides: the frame says what is where, not how it is drawn."""
_LEAST = 1e-2
"""Variance, in squared Lab units, that a cloud is taken to have at least in each direction."""
_KEPT_COLOUR = 0.5
"""How much of the broad colours stays with the recoloured frame where the brushwork is laid on in full."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """Colours in CIE Lab: mean (3,) and covariance (3, 3)."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def of(cls, pictures: Sequence[Float]) -> Cloud:
        """Of pictures (height, width, 3) in model space, each of the same weight."""
        share = max(1, _SAMPLES // len(pictures))
        parts = []
        for picture in pictures:
            lab = _lab(picture).reshape(-1, 3)
            parts.append(lab[np.linspace(0, len(lab) - 1, share).astype(np.intp)])
        colours = np.concatenate(parts).astype(np.float64)
        return cls(colours.mean(0), np.cov(colours.T) + np.eye(3) * _LEAST)


@dataclass(frozen=True, slots=True)
class Palette:
    """The map from one cloud of colours to another: lab' = matrix · (lab − from) + to."""

    matrix: NDArray[np.float64]
    source: NDArray[np.float64]
    target: NDArray[np.float64]

    @classmethod
    def between(cls, source: Cloud, target: Cloud) -> Palette:
        """The least motion that gives `source` the mean and covariance of `target`."""
        root = _power(source.covariance, 0.5)
        inverse = _power(source.covariance, -0.5)
        matrix = inverse @ _power(root @ target.covariance @ root, 0.5) @ inverse
        return cls(matrix, source.mean, target.mean)

    def apply(self, picture: Float, amount: float) -> Float:
        """(height, width, 3) in model space, held to 0 … 1, with that part of the way gone."""
        if amount == 0:
            return np.clip(picture, 0, 1)
        lab = _lab(picture)
        moved = (lab - self.source.astype(np.float32)) @ self.matrix.T.astype(np.float32) + self.target.astype(
            np.float32
        )
        rgb = cv2.cvtColor(np.asarray(lab + np.float32(amount) * (moved - lab), np.float32), cv2.COLOR_LAB2RGB)
        return np.asarray(np.clip(rgb, 0, 1), np.float32)


class Board:
    """A mood board, ready to paint frames of one plate."""

    def __init__(self, pictures: Sequence[Float], full: tuple[int, int], working: tuple[int, int]) -> None:
        """`pictures`: (3, height, width) in model space; `full`, `working`: (height, width) of the plate and of the search."""
        upright = [np.ascontiguousarray(np.clip(p, 0, 1).transpose(1, 2, 0)) for p in pictures]
        self.cloud = Cloud.of(upright)
        chosen = [upright[i] for i in sorted({round(i) for i in np.linspace(0, len(upright) - 1, _BOARD)})]
        self._canvas = _stack([_held_to(p, full) for p in chosen])
        self._full = full
        rows = max(8, round(self._canvas.shape[0] * working[0] / full[0]))
        columns = max(8, round(self._canvas.shape[1] * working[0] / full[0]))
        small = cv2.resize(self._canvas, (columns, rows), interpolation=cv2.INTER_AREA)
        self._painted = Painted.of(_soft(small), small)

    def paint(self, plate: Float, small: Float, palette: Palette, *, amount: float, texture: float, seed: int) -> Float:
        """A frame, (height, width, 3) in model space at full and at working size, as the board would have it, at full size."""
        coloured = palette.apply(plate, amount)
        if texture == 0:
            return coloured
        guide = _soft(palette.apply(small, amount))
        rows, columns = guide.shape[:2]
        source = self._painted.paintings[0]
        spread = np.array((source.shape[1] / columns, source.shape[0] / rows), np.float32)
        found = synthesise(
            self._painted,
            [plate_guide(level) for level in pyramid(guide)],
            np.asarray(grid(rows, columns) * spread, np.float32),
            np.zeros((rows, columns), np.float32),
            seed=seed,
            effort=Effort(sweeps=4, reach=16),
        )
        brushed = render(self._canvas, found, self._full)
        broad = low_band(brushed)
        brushed += np.float32(_KEPT_COLOUR) * (low_band(coloured) - broad)
        return np.asarray(np.clip(coloured + np.float32(texture) * (brushed - coloured), 0, 1), np.float32)


def _lab(picture: Float) -> Float:
    return np.asarray(cv2.cvtColor(np.clip(picture, 0, 1), cv2.COLOR_RGB2LAB), np.float32)


def _power(matrix: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Of a symmetric positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.maximum(values, 1e-12) ** exponent) @ vectors.T)


def _soft(picture: Float) -> Float:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), _SOFT_PX), np.float32)


def _held_to(picture: Float, full: tuple[int, int]) -> Float:
    """At most the plate's lines and columns: strokes keep their own pixels, a poster doesn't fill the memory."""
    height, width = picture.shape[:2]
    factor = min(1.0, full[0] / height, full[1] / width)
    if factor == 1.0:
        return picture
    size = (max(8, round(width * factor)), max(8, round(height * factor)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)


def _stack(pictures: Sequence[Float]) -> Float:
    """One under the other; narrow ones are mirrored out to the widest."""
    width = max(p.shape[1] for p in pictures)
    wide = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), mode="symmetric") for p in pictures]
    return np.ascontiguousarray(np.concatenate(wide))
