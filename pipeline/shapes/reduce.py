"""Keys by the exact matte: added where a frame falls below the bar or an outline crosses itself, taken away where nobody would see.

Every trial is drawn: the intersection over union of the whole matte and the crossing test of each frame that it touches decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.shapes.canvas import Canvas, Cut
from pipeline.shapes.crossing import THOROUGH, crosses, uncross
from pipeline.shapes.keys import Moving, Pull, between, settle, shortest
from pipeline.shapes.motion_layer import to_layer
from pipeline.shapes.raster import STEPS, Array

_DENSE = 0.8
"""Share of keyed frames above which a shape is keyed on all: the few that would be left open help nobody."""
_MARGIN = 0.001
"""Above the bar, for what rounding of a file's numbers may cost."""
_ROUNDS = 40
_UNTANGLE = 5
"""Attempts to end crossings by pulling, each twice as strong as the one before, from `_PULL` of a segment's own weight."""
_PULL = 1.0


@dataclass(slots=True)
class Keyed:
    """A shape on its way to few keys. `start`: index of its first frame; `shown`: where it is drawn; `points`: on the layer, at
    the keys; `baked`: it had to stay keyed everywhere."""

    number: int
    start: int
    shown: list[bool]
    motion: Moving
    keys: list[int]
    points: Array
    baked: bool = False
    cuts: dict[int, Cut] = field(default_factory=dict)

    def evaluate(self, frames: Sequence[int]) -> Array:
        """Control points in the picture on frames of its run."""
        return between(self.motion, self.keys, self.points, frames)


class Reducer:
    """Holds all shapes of an object against its mattes."""

    def __init__(self, canvas: Canvas, shapes: Sequence[Keyed], bar: float) -> None:
        self._canvas = canvas
        self._shapes = list(shapes)
        frames = range(max((s.start + s.motion.frames for s in shapes), default=0))
        for shape in shapes:  # a key on every frame: the best there is
            for frame in range(shape.motion.frames):
                self._put(shape, frame, shape.motion.fits[frame])
        self.best = {frame: canvas.iou(frame) for frame in frames}
        # Where even every key can't reach the bar, nothing may be lost.
        self._bar = {frame: min(bar + _MARGIN, iou - 0.002) for frame, iou in self.best.items()}

    def _put(self, shape: Keyed, frame: int, control: Array) -> None:
        if shape.shown[frame]:
            self._canvas.put(shape.start + frame, shape.number, self._canvas.draw(control))

    def redraw(self, shape: Keyed, frames: Sequence[int] | None = None) -> None:
        """Put what the keys give on the canvas."""
        wanted = list(range(shape.motion.frames)) if frames is None else list(frames)
        for frame, control in zip(wanted, shape.evaluate(wanted), strict=True):
            self._put(shape, frame, control)

    def run(self, allowed_px: Array) -> None:
        """From a first choice of keys to the last: `allowed_px` (frames,) mean distance that the bar leaves to each outline."""
        for shape in self._shapes:
            span = slice(shape.start, shape.start + shape.motion.frames)
            shape.keys = shortest(shape.motion, allowed_px[span])
            shape.points = settle(shape.motion, shape.keys, shape.motion.own[shape.keys])
            self.uncrossed(shape)
            self.redraw(shape)
        self._repair()
        for shape in self._shapes:
            self._thin(shape)
        self._repair()
        for shape in self._shapes:
            if len(shape.keys) > _DENSE * shape.motion.frames and shape.motion.frames > 2:
                self.bake(shape)
            shape.baked = shape.motion.frames > 2 and len(shape.keys) == shape.motion.frames

    def bake(self, shape: Keyed) -> None:
        """A key on every frame, with the frame's own fit."""
        shape.keys = list(range(shape.motion.frames))
        shape.points = shape.motion.own.copy()
        self.redraw(shape)

    def uncrossed(self, shape: Keyed) -> None:
        """Key every frame on which the outline crosses itself, with the frame's own fit, which never does."""
        for _ in range(_ROUNDS):
            frames = range(shape.motion.frames)
            bad = [f for f, control in zip(frames, shape.evaluate(frames), strict=True) if crosses(control, THOROUGH)]
            if not bad:
                return
            for run in _runs(bad):
                self._key(shape, run[len(run) // 2])
        self.bake(shape)

    def _key(self, shape: Keyed, frame: int) -> None:
        """Key a frame with its own fit; an old key there is set to it."""
        if frame in shape.keys:
            shape.points[shape.keys.index(frame)] = shape.motion.own[frame]
            return
        at = int(np.searchsorted(shape.keys, frame))
        shape.keys.insert(at, frame)
        shape.points = np.insert(shape.points, at, shape.motion.own[frame], axis=0)

    def _repair(self) -> None:
        """Key frames below the bar, each in the shape that loses most there, until none is left that a key could help."""
        for _ in range(_ROUNDS):
            low = [f for f, bar in self._bar.items() if self._canvas.iou(f) < bar]
            touched: dict[int, Keyed] = {}
            for run in _runs(low):
                frame = min(run, key=self._canvas.iou)
                gains = []
                for shape in self._shapes:
                    local = frame - shape.start
                    if 0 <= local < shape.motion.frames and shape.shown[local]:
                        cut = self._canvas.draw(shape.motion.fits[local])
                        gains.append((self._canvas.iou(frame, shape.number, cut), shape.number, shape, local))
                if gains and max(gains)[0] > self._canvas.iou(frame) + 1e-6:
                    _, number, shape, local = max(gains)
                    self._key(shape, local)
                    touched[number] = shape
            if not touched:
                return
            for shape in touched.values():
                self.uncrossed(shape)
                self.redraw(shape)

    def _thin(self, shape: Keyed) -> None:
        """Take keys away, the one between the nearest neighbours first, and keep what stays above the bar and simple."""
        tried: set[int] = set()
        while len(shape.keys) > 1:
            open_ = [k for k in range(len(shape.keys)) if shape.keys[k] not in tried]
            if not open_:
                break
            k = min(open_, key=lambda k: self._span(shape, k))
            tried.add(shape.keys[k])
            if self._without(shape, k):
                tried -= set(shape.keys[max(0, k - 1) : k + 1])
        k = 0
        while k + 2 < len(shape.keys):
            k += not self._merged(shape, k)

    @staticmethod
    def _span(shape: Keyed, k: int) -> int:
        last = shape.motion.frames - 1
        low = shape.keys[k - 1] if k else -last
        high = shape.keys[k + 1] if k + 1 < len(shape.keys) else 2 * last
        return high - low

    def _without(self, shape: Keyed, k: int) -> bool:
        """Try without a key; keep it so when every frame that changes holds."""
        keys = shape.keys[:k] + shape.keys[k + 1 :]
        near = [n for n in (k - 1, k) if 0 <= n < len(keys)]
        return self._try(shape, keys, np.delete(shape.points, k, axis=0), near)

    def _merged(self, shape: Keyed, k: int) -> bool:
        """Try with one key in place of two neighbours, between them."""
        a, b = shape.keys[k], shape.keys[k + 1]
        for middle in sorted({(a + b) // 2, (a + b + 1) // 2}):
            keys = [*shape.keys[:k], middle, *shape.keys[k + 2 :]]
            points = np.delete(shape.points, k + 1, axis=0)
            points[k] = shape.motion.own[middle]
            near = [n for n in (k - 1, k, k + 1) if 0 <= n < len(keys)]
            if self._try(shape, keys, points, near):
                return True
        return False

    def _try(self, shape: Keyed, keys: list[int], points: Array, near: Sequence[int]) -> bool:
        """Take over these keys, those of `near` solved anew, if all frames that they reach stay above the bar and simple."""
        low = keys[near[0] - 1] + 1 if near[0] > 0 else 0
        high = keys[near[-1] + 1] if near[-1] + 1 < len(keys) else shape.motion.frames
        middle = (low + high) / 2
        frames = sorted(range(low, high), key=lambda f: abs(f - middle))
        pulls: dict[int, Pull] = {}
        for attempt in range(_UNTANGLE):
            points = settle(shape.motion, keys, points, only=near, rounds=2, pulls=pulls)
            controls = between(shape.motion, keys, points, frames)
            drawn = self._drawn(shape, frames, controls, 0.01 if attempt == 0 else 0.004)
            if drawn is None:
                return False
            if not self._pull(shape, frames, controls, pulls, attempt) and not self._pull(
                shape, frames, controls, pulls, attempt, THOROUGH
            ):
                drawn = self._drawn(shape, frames, controls, 0.0)
                if drawn is None:
                    return False
                shape.keys, shape.points = keys, points
                for at, cut in drawn:
                    self._canvas.put(at, shape.number, cut)
                return True
        return False

    def _drawn(
        self, shape: Keyed, frames: Sequence[int], controls: Array, leeway: float
    ) -> list[tuple[int, Cut]] | None:
        """Cut-outs of the frames, or None as soon as one lies below the bar by more than `leeway`."""
        drawn = []
        for frame, control in zip(frames, controls, strict=True):
            at = shape.start + frame
            if shape.shown[frame]:
                cut = self._canvas.draw(control)
                if self._canvas.iou(at, shape.number, cut) < self._bar[at] - leeway:
                    return None
                drawn.append((at, cut))
        return drawn

    @staticmethod
    def _pull(
        shape: Keyed,
        frames: Sequence[int],
        controls: Array,
        pulls: dict[int, Pull],
        attempt: int,
        flattenings: tuple[int, ...] = (STEPS,),
    ) -> bool:
        """Where outlines cross themselves, note what would end it, stronger each time. False when none does."""
        found = False
        for frame, control in zip(frames, controls, strict=True):
            if not crosses(control, flattenings):
                continue
            found = True
            simple = uncross(control, flattenings)
            moved = np.linalg.norm(simple - control, axis=-1) > 1e-6
            strength = shape.motion.length_px[frame] / len(control) * _PULL * 2.0**attempt
            goal = to_layer(shape.motion.maps[frame : frame + 1], simple[None])[0]
            pulls[frame] = Pull(goal, moved * strength)
        return found


def _runs(frames: Sequence[int]) -> list[list[int]]:
    """Neighbouring frames together."""
    found: list[list[int]] = []
    for frame in frames:
        if found and found[-1][-1] == frame - 1:
            found[-1].append(frame)
        else:
            found.append([frame])
    return found
