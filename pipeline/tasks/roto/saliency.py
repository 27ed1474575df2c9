"""Any ONNX saliency model as the one that finds the object, each frame by itself: U²-Net, ISNet, BiRefNet, MODNet layouts.

Such a file says nothing of how its picture is to be normalised, and its mattes may be logits. The first is found out on the
keys where there are any, else taken from the file's notes or its shape; the second shows in the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.models.onnx import OnnxModel
from pipeline.quality.overlap import region_similarity

Float = NDArray[np.float32]

_SIDE = 1024
"""For a model whose sides are free, the longer side of what it sees."""
_STEP = 32
"""Free sides are multiples of this."""
_NARROW, _WIDE = 1e-4, 1e-3
_REACH = 0.06
"""How far beyond the keys' motion a matte may reach, as a part of the picture's height."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture is normalised: (x − mean) / std, after dividing by its brightest value when `by_peak`."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    by_peak: bool = False


LOOKS: dict[str, Look] = {
    "imagenet": Look((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "u2net": Look((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), by_peak=True),
    "isnet": Look((0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
    "modnet": Look((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "plain": Look((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Normalisations by name, as the layouts' own code has them."""
NOTE = "platewright.look"
"""Note of an ONNX file (metadata_props) that names its look."""


class Saliency:
    """A loaded model, and how it wants its pictures."""

    def __init__(self, model: OnnxModel, look: str = "") -> None:
        """Raises: ModelError (the file's note names no look that is known)."""
        self._model = model
        noted = look or model.notes.get(NOTE, "")
        if noted and noted not in LOOKS:
            raise ModelError(f"the model asks for the look {noted!r}", f"known are {', '.join(LOOKS)}")
        self.noted = bool(noted)
        self.look = noted or _guess(model)

    def matte(self, rgb: Float, look: str = "") -> Float:
        """(height, width) 0 … 1 of `rgb` (3, height, width) in model space: the model's first output, at the picture's size."""
        height, width = rgb.shape[1:]
        port = self._model.inputs[0]
        size = _size(port.shape[2:], height, width)
        small = cv2.resize(np.clip(rgb, 0, 1).transpose(1, 2, 0), size, interpolation=cv2.INTER_AREA)
        found = self._model.run({port.name: normalised(small, LOOKS[look or self.look])})
        raw = np.asarray(found[self._model.outputs[0].name], np.float32).reshape(-1, *_last_two(found, self._model))[0]
        logits = bool(raw.min() < -_WIDE or raw.max() > 1 + _WIDE)
        if not logits:  # interpolated as logits, an edge keeps its steepness
            p = np.clip(raw, _NARROW, 1 - _NARROW)
            raw = np.log(p / (1 - p))
        large = cv2.resize(raw, (width, height), interpolation=cv2.INTER_LINEAR)
        soft = 1 / (1 + np.exp(-large))
        return np.asarray(np.clip((soft - 2 * _NARROW) / (1 - 4 * _NARROW), 0, 1), np.float32)

    def choose(self, samples: Mapping[int, tuple[Float, Float]]) -> dict[str, float]:
        """Take the look that finds the keys best: frame → (picture, matte). Returns each look's mean J; none when the file says
        which it wants, or there is nothing to judge by."""
        if self.noted or not samples:
            return {}
        scores = {
            name: float(np.mean([region_similarity(self.matte(rgb, name), key) for rgb, key in samples.values()]))
            for name in LOOKS
        }
        best = max(scores, key=lambda name: (scores[name], name == self.look))
        if scores[best] > scores[self.look]:
            self.look = best
        return scores


def gate(matte: Float, prior: Float) -> Float:
    """What of `matte` the keys' motion allows: all of it inside `prior` and near it, nothing far away. Both (height, width) 0 … 1."""
    reach = max(1, round(_REACH * matte.shape[0]))
    near = cv2.dilate(
        (prior > 0.3).astype(np.float32), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
    )
    return np.asarray(matte * cv2.blur(near, (reach | 1, reach | 1)), np.float32)


def normalised(rgb: Float, look: Look) -> Float:
    """(height, width, 3) 0 … 1 to (1, 3, height, width)."""
    if look.by_peak:
        rgb = rgb / max(float(rgb.max()), 1e-6)
    planes = (rgb - np.array(look.mean, np.float32)) / np.array(look.std, np.float32)
    return np.ascontiguousarray(planes.transpose(2, 0, 1)[None], np.float32)


def _size(sides: tuple[int | None, ...], height: int, width: int) -> tuple[int, int]:
    """(width, height) that the model sees: its own sides, or the picture's, scaled down where they are free."""
    scale = min(1.0, _SIDE / max(height, width))
    free = [max(_STEP, round(n * scale / _STEP) * _STEP) for n in (height, width)]
    lines, columns = (own or other for own, other in zip(sides, free, strict=True))
    return columns, lines


def _last_two(found: Mapping[str, NDArray[np.float32]], model: OnnxModel) -> tuple[int, int]:
    shape = found[model.outputs[0].name].shape
    return shape[-2], shape[-1]


def _guess(model: OnnxModel) -> str:
    """By shape: U²-Net's 320 × 320; ISNet's many outputs at 1024; else as most are trained."""
    side = model.inputs[0].shape[-1]
    if side == 320:
        return "u2net"
    return "isnet" if side == 1024 and len(model.outputs) > 1 else "imagenet"
