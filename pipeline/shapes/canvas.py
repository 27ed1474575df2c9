"""The whole matte of every frame, kept as one cut-out per shape, so that what a change to one shape does is known exactly and soon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.shapes.raster import Array, flatten, polygon_coverage

Half = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Cut:
    """A shape's coverage inside the box it fills, with the box's left and top pixel."""

    area: Half
    left: int
    top: int


class Canvas:
    """`truth[frame]`: (height, width) bool. Shapes have numbers; those that subtract are drawn after the others."""

    def __init__(self, truth: Sequence[NDArray[np.bool_]], subtracts: Sequence[bool]) -> None:
        self._truth = list(truth)
        self._subtracts = list(subtracts)
        self._order = sorted(range(len(subtracts)), key=lambda number: subtracts[number])
        self._cuts: list[dict[int, Cut]] = [{} for _ in truth]
        self.height, self.width = truth[0].shape
        self._boxes = [_box(mask) for mask in truth]

    def draw(self, control: Array) -> Cut:
        """A hard outline's cut-out."""
        area, left, top = polygon_coverage(flatten(control), self.width, self.height)
        return Cut(area.astype(np.float16), left, top)

    def put(self, frame: int, number: int, cut: Cut | None) -> None:
        """Set a shape's cut-out on a frame, or take it away."""
        if cut is None:
            self._cuts[frame].pop(number, None)
        else:
            self._cuts[frame][number] = cut

    def iou(self, frame: int, number: int | None = None, cut: Cut | None = None) -> float:
        """Intersection over union of the matte at 0.5 with the truth; with `number`, as if that shape were `cut`."""
        cuts = self._cuts[frame] if number is None or cut is None else {**self._cuts[frame], number: cut}
        box = self._boxes[frame]
        for one in cuts.values():
            if one.area.size:
                box = _join(box, (one.top, one.top + one.area.shape[0], one.left, one.left + one.area.shape[1]))
        if box is None:
            return 1.0
        top, bottom, left, right = box
        matte = np.zeros((bottom - top, right - left), np.float32)
        for key in self._order:
            held = cuts.get(key)
            if held is None or held.area.size == 0:
                continue
            area = held.area.astype(np.float32)
            part = matte[held.top - top :, held.left - left :][: area.shape[0], : area.shape[1]]
            if self._subtracts[key]:
                part *= 1 - area
            else:
                part += area - part * area
        drawn = matte >= 0.5
        truth = self._truth[frame][top:bottom, left:right]
        union = int(np.count_nonzero(drawn | truth))
        return int(np.count_nonzero(drawn & truth)) / union if union else 1.0


Box = tuple[int, int, int, int]


def _box(mask: NDArray[np.bool_]) -> Box | None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1) if len(rows) else None


def _join(a: Box | None, b: Box) -> Box:
    return b if a is None else (min(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), max(a[3], b[3]))
