"""Two keys' versions of a frame made one, and a frame steadied by its neighbours.

Two keys are blended in two bands (Burt & Adelson 1983): colours change over softly, strokes are taken from one side almost
alone, so that no stroke is seen twice. Along time a frame is averaged with its neighbours moved onto it, where motion is sure
and the plate itself agrees: a window around the frame, not a recursion, so that a frame looks the same in every chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.motion import FlowPair, Warp, grid
from pipeline.tasks.style_transfer.render import sample, stretch

Float = NDArray[np.float32]

_BAND = 1 / 45
"""Strokes are what is finer than this part of the height."""
_SOFT = 1 / 90
"""The weights' blur, as a part of the height."""
_SHARP = 4
"""Power of the weights for strokes."""
_ALIKE = 0.1
"""Mean difference of plate colours at which a neighbour's weight has fallen to 1/e."""


@dataclass(frozen=True, slots=True)
class Side:
    """One key's version: `picture` (height, width, 3) at full size; `worth` (height, width) at working size; `distance` in frames."""

    picture: Float
    worth: Float
    distance: int


def blend_sides(sides: Sequence[Side]) -> Float:
    """One picture of one or two sides."""
    if len(sides) == 1:
        return sides[0].picture
    left, right = sides
    a, b = left.worth * right.distance, right.worth * left.distance
    height, width = left.picture.shape[:2]
    share = cv2.GaussianBlur(a / (a + b + np.float32(1e-6)), (0, 0), max(0.5, left.worth.shape[0] * _SOFT))
    sharp = share**_SHARP / (share**_SHARP + (1 - share) ** _SHARP)
    low = cv2.resize(share, (width, height))[..., None]
    high = cv2.resize(sharp, (width, height))[..., None]
    low_left, low_right = low_band(left.picture), low_band(right.picture)
    colours = low_right + low * (low_left - low_right)
    strokes_right = right.picture - low_right
    strokes_left = left.picture - low_left
    return np.asarray(colours + strokes_right + high * (strokes_left - strokes_right), np.float32)


def low_band(picture: Float) -> Float:
    """The colours without the strokes."""
    height, width = picture.shape[:2]
    step = max(1.0, height * _BAND)
    size = (max(1, round(width / step)), max(1, round(height / step)))
    small = cv2.GaussianBlur(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), (0, 0), 0.7)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


@dataclass(frozen=True, slots=True)
class Path:
    """From a frame to one near it: `offset` (height, width, 2) and `confidence` at the flow's resolution."""

    offset: Float
    confidence: Float


def walk(pairs: Sequence[FlowPair], *, ahead: bool) -> list[Path]:
    """Ways from a frame to the next ones (`ahead`) or the ones before, the nearest first; `pairs` in walking order."""
    found: list[Path] = []
    for pair in pairs:
        out, back = (pair.forward, pair.backward) if ahead else (pair.backward, pair.forward)
        height, width = out.shape[:2]
        flow = out.astype(np.float32)
        sure = Warp(out, back, (height, width)).confidence(np.ones((height, width), np.float32))
        if found:
            at = grid(height, width) + found[-1].offset
            found.append(Path(found[-1].offset + sample(flow, at), found[-1].confidence * sample(sure, at)))
        else:
            found.append(Path(flow, sure))
    return found


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A frame near the one that is steadied: its picture at full size, its plate (height, width, 3) at working size."""

    path: Path
    picture: Float
    plate: Float


def steady(picture: Float, plate: Float, neighbours: Sequence[Neighbour], amount: float) -> tuple[Float, float]:
    """The frame averaged with its neighbours, and its flicker: their mean difference before, where motion is sure."""
    height, width = picture.shape[:2]
    rows, columns = plate.shape[:2]
    total, weight = picture.copy(), np.ones((height, width, 1), np.float32)
    flicker: list[float] = []
    for near in neighbours:
        lines, across = near.path.offset.shape[:2]
        small = stretch(near.path.offset, (rows, columns), (rows / lines, columns / across))
        alike = np.abs(sample(near.plate, small) - plate).mean(-1)
        sure = cv2.resize(np.clip(near.path.confidence * 2 - 1, 0, 1), (columns, rows))
        say = sure * np.exp(-np.square(alike / np.float32(_ALIKE)))
        moved = sample(near.picture, stretch(near.path.offset, (height, width), (height / lines, width / across)))
        full = cv2.resize(say, (width, height))[..., None]
        part = np.abs(moved - picture).mean(-1)[full[..., 0] > 0.5]
        flicker.append(float(part.mean()) if part.size else 0.0)
        full *= np.float32(amount)
        total += moved * full
        weight += full
    total /= weight
    return total, float(np.mean(flicker)) if flicker else 0.0
