"""Ask a fitted net for one frame: only round the objects where motion still knows where they are, else everywhere.

Its decoder is asked twice, led by the priors and without them. Led by a poor prior the net misses what the prior misses: the less
is expected of the prior, the more the other answer may add. It may not take away: what a net of few keys hasn't seen it calls
background, and a plain mix lost limbs by that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.tasks.roto.fused import FusedNet
from pipeline.tasks.roto.net import STRIDE

Float = NDArray[np.float32]

_MARGIN = 0.2
"""Room round the priors' box, as a part of its sides."""
_LEAST_MARGIN = 64 / 480
"""The same, at least, as a part of the picture's height."""
_SEEN = 0.2
"""A prior counts from here."""
_LOST_QUALITY = 0.7
_LOST_AREA = 0.2
"""Motion has lost an object below this expected overlap, or below this part of its smallest key's area. With less overlap most
mattes run out of the box, and looking twice costs more than looking everywhere at once."""

_SURE = 0.955
"""A prior of this expected overlap leads alone; the net is then asked once."""
_BELIEF = 10.0
"""The led answer's share, against the union of both, falls with this power of the overlap: .9 gives 55 %, .8 gives 17 %."""


@dataclass(frozen=True, slots=True)
class Box:
    """Pixels y0 … y1 and x0 … x1 of a frame, ends excluded."""

    y0: int
    x0: int
    y1: int
    x1: int


def search_box(priors: Float, quality: Sequence[float], key_area: Sequence[float]) -> Box | None:
    """Where to look, given `priors` (objects, height, width); None for the whole frame, when an object is lost."""
    _, height, width = priors.shape
    for prior, sure, least in zip(priors, quality, key_area, strict=True):
        if sure < _LOST_QUALITY or float((prior > 0.5).mean()) < _LOST_AREA * least:
            return None
    x, y, w, h = cv2.boundingRect((priors.max(0) > _SEEN).astype(np.uint8))
    if w == 0:
        return None
    least_margin = round(_LEAST_MARGIN * height)
    dx, dy = max(least_margin, round(_MARGIN * w)), max(least_margin, round(_MARGIN * h))
    return Box(max(0, y - dy), max(0, x - dx), min(height, y + h + dy), min(width, x + w + dx))


def predict(net: FusedNet, rgb: Float, priors: Float, quality: Sequence[float], key_area: Sequence[float]) -> Float:
    """(objects, height, width) 0 … 1 from `rgb` (3, height, width) in model space. `quality`: overlap expected of each prior.

    When a matte runs into the side of the searched box, the whole frame is searched after all.
    """
    whole = Box(0, 0, rgb.shape[1], rgb.shape[2])
    box = search_box(priors, quality, key_area) or whole
    found = _inside(net, rgb, priors, quality, box)
    if box != whole and _runs_out(found, box, whole):
        found = _inside(net, rgb, priors, quality, whole)
    return found


def _inside(net: FusedNet, rgb: Float, priors: Float, quality: Sequence[float], box: Box) -> Float:
    cut = np.s_[:, box.y0 : box.y1, box.x0 : box.x1]
    picture, mattes = rgb[cut], priors[cut]
    credit = np.array([q if matte.any() else 0.0 for q, matte in zip(quality, mattes, strict=True)], np.float32)
    below, right = -picture.shape[1] % STRIDE, -picture.shape[2] % STRIDE
    x = np.pad(picture, ((0, 0), (0, below), (0, right)), mode="reflect" if min(picture.shape[1:]) > STRIDE else "edge")
    moved = np.pad(mattes * (credit > 0)[:, None, None], ((0, 0), (0, below), (0, right)))
    with torch.inference_mode():
        share = torch.from_numpy(np.minimum(1, (credit / _SURE) ** _BELIEF, dtype=np.float32))[:, None, None]
        led, unled = net.answers(_tensor(x), _tensor(moved), torch.from_numpy(credit), unled=bool((share < 1).any()))
        answer = led if unled is None else share * led + (1 - share) * torch.maximum(led, unled)
        probability = torch.sigmoid(answer).numpy()
    out = np.zeros_like(priors)
    out[cut] = probability[:, : picture.shape[1], : picture.shape[2]]
    return out


def _runs_out(found: Float, box: Box, whole: Box) -> bool:
    """Whether an object goes on beyond a side of the box that isn't the frame's own."""
    solid = found.max(0) > 0.5
    sides = (
        (box.y0 > whole.y0, solid[box.y0, :]),
        (box.y1 < whole.y1, solid[box.y1 - 1, :]),
        (box.x0 > whole.x0, solid[:, box.x0]),
        (box.x1 < whole.x1, solid[:, box.x1 - 1]),
    )
    return any(inner and bool(line.any()) for inner, line in sides)


def _tensor(array: Float) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)[None]).contiguous(memory_format=torch.channels_last)
