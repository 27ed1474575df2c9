"""Frames as the extension works on them: whole in model space, and small and grey for flow, each read once while it is near."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.dense_flow import DenseFlow
from pipeline.tasks.contract import ShotContext

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]
K = TypeVar("K")
V = TypeVar("V")

WORKING_HEIGHT = 540
"""Lines at which flow is estimated, at most."""
_PICTURE_BYTES = 700_000_000
"""Whole pictures that are kept, at most; two always are."""
TINY_HEIGHT = 270
"""Lines of the pictures that canvases are made of, at most, unless a model paints them."""
_SMALL = 16
"""Pictures and flows on the flow's grid that are kept."""
_LOOKS = 80
"""Frames whose grey and tiny pictures are kept: more than a canvas reaches to both sides."""


class Reader:
    """A shot's frames on demand. Pictures are (height, width, 3) in model space: the curve is odd and invertible, so that highlights
    and negatives survive, and a step in it is about as visible in the shadows as in the lights. Blending in scene-linear would let
    one highlight outweigh all that lies beside it; grain is about equally strong over model space."""

    def __init__(self, shot: ShotContext, *, tiny_lines: int = TINY_HEIGHT) -> None:
        self._tiny_lines = tiny_lines
        self._shot = shot
        self._flow = DenseFlow()
        self._pictures: OrderedDict[int, Float] = OrderedDict()
        self._smalls: OrderedDict[int, Float] = OrderedDict()
        self._looks: OrderedDict[int, tuple[Bytes, Float]] = OrderedDict()
        self._flows: OrderedDict[tuple[int, int], Float] = OrderedDict()
        self.size = (shot.plate_window.height, shot.plate_window.width)
        """(height, width) of the plate."""

    def picture(self, frame: int) -> Float:
        """A plate frame, whole, in model space; not to be written to."""
        most = max(2, _PICTURE_BYTES // (self.size[0] * self.size[1] * 12))
        return _kept(self._pictures, frame, most, lambda: self._read(frame))

    def _read(self, frame: int) -> Float:
        picture = np.ascontiguousarray(self._shot.display(frame).transpose(1, 2, 0))
        if not np.isfinite(picture).all():
            picture = np.nan_to_num(picture, nan=0.0, posinf=0.0, neginf=0.0)
        return picture

    def small(self, frame: int) -> Float:
        """A plate frame, (h, w, 3) in model space, on the flow's grid."""
        h, w = self.grey(frame).shape
        return _kept(self._smalls, frame, _SMALL, lambda: shrunk(self.picture(frame), (h, w)))

    def grey(self, frame: int) -> Bytes:
        """A plate frame as flow takes it."""
        return self._look(frame)[0]

    def tiny(self, frame: int) -> Float:
        """A plate frame, (h, w, 3) in model space, of few lines: what canvases are made of."""
        return self._look(frame)[1]

    def _look(self, frame: int) -> tuple[Bytes, Float]:
        return _kept(self._looks, frame, _LOOKS, lambda: self._prepare(frame))

    def _prepare(self, frame: int) -> tuple[Bytes, Float]:
        rgb = np.nan_to_num(self._shot.display(frame, WORKING_HEIGHT), nan=0.0, posinf=0.0, neginf=0.0)
        picture = np.ascontiguousarray(rgb.transpose(1, 2, 0))
        return grey_of(picture), shrunk(picture, tiny_shape(self.size, self._tiny_lines))

    def flow(self, a: int, b: int) -> Float:
        """(h, w, 2) from frame a to b, at the working resolution."""
        return _kept(self._flows, (a, b), _SMALL, lambda: self._estimate(a, b))

    def _estimate(self, a: int, b: int) -> Float:
        return self._flow.between(self.grey(a), self.grey(b))


def tiny_shape(size: tuple[int, int], most: int) -> tuple[int, int]:
    """(height, width) of the tiny pictures, of at most so many lines, of a plate of that `size`."""
    height, width = size
    lines = min(height, most)
    return lines, max(1, round(width * lines / height))


def shrunk(picture: Float, shape: tuple[int, int]) -> Float:
    """A picture (height, width, 3) by area at (h, w) = `shape`."""
    if picture.shape[:2] == shape:
        return picture
    return np.asarray(cv2.resize(picture, (shape[1], shape[0]), interpolation=cv2.INTER_AREA), np.float32)


def grey_of(small: Float) -> Bytes:
    """(h, w, 3) in model space as 8-bit grey, highlights clipped."""
    grey = small @ np.array((0.299, 0.587, 0.114), np.float32)
    return np.asarray(np.clip(grey * 255 + 0.5, 0, 255), np.uint8)


def _kept(store: OrderedDict[K, V], key: K, most: int, make: Callable[[], V]) -> V:
    if key in store:
        store.move_to_end(key)
        return store[key]
    made = store[key] = make()
    while len(store) > most:
        store.popitem(last=False)
    return made
