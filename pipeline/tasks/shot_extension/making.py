"""One frame of an extension: the plate's own or a moved one, what others show round it, what none shows, and grain over what was made."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.motion import grid
from pipeline.quality.seams import Seam, space_seam, time_seam
from pipeline.tasks.contract import FrameResult, ShotContext
from pipeline.tasks.shot_extension import grain as grain_of
from pipeline.tasks.shot_extension.camera import Matrix, apply, scaling
from pipeline.tasks.shot_extension.definition import ExtensionParameters
from pipeline.tasks.shot_extension.fitted import Canvas, Fitted
from pipeline.tasks.shot_extension.mosaic import Layout, Source, gather, lay, left_of_grain, weigh
from pipeline.tasks.shot_extension.moved import Moved, between, extrapolate
from pipeline.tasks.shot_extension.plan import Scene, beyond, neighbours, place, usable
from pipeline.tasks.shot_extension.plan import between as camera_between
from pipeline.tasks.shot_extension.reading import Reader, shrunk
from pipeline.tasks.shot_extension.smooth import push_pull

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]

LAYER = "extension"
_FILL_CONFIDENCE = 0.1
"""Of pixels that no frame shows."""
_STEP_MOST = 0.15
"""Most that a fill's light is moved to meet what lies next to it, in model space."""
_ERROR = 0.15
"""Difference at the overlap, in model space, at which a gathered pixel's confidence is 1/e."""


@dataclass(slots=True)
class _Work:
    """A frame in the making, over the window, (height, width, …): picture, which pixels are the plate's, which are known by motion, and of
    those made: coverage, confidence and the part of the grain's variance that they still have."""

    picture: Float
    plate: Mask
    known: Mask
    cover: Float
    confidence: Float
    kept: Float


class Maker:
    """Makes frames of a shot, each from its own sources alone."""

    def __init__(self, shot: ShotContext, fitted: Fitted, reader: Reader) -> None:
        self._shot, self._fitted, self._reader = shot, fitted, reader
        self._have = frozenset(shot.available)
        some = next(iter(shot.available))
        h, w = reader.grey(some).shape
        plate, window = shot.plate_window, shot.window
        self.layout = Layout(
            reader.size,
            (window.height, window.width),
            (plate.x_min - window.x_min, plate.y_min - window.y_min),
            (h, w),
        )

    def make(self, frame: int) -> FrameResult:
        """A delivered frame. Raises: RunnerError."""
        scene = self._fitted.scene_of(frame)
        work = self._clean(scene, frame)
        parameters = self._shot.at(frame)
        assert isinstance(parameters, ExtensionParameters)
        made = ~work.plate
        if made.any():
            grained = grain_of.add(
                work.picture,
                self._fitted.grain,
                work.kept,
                strength=parameters.grain,
                seed=self._shot.seed,
                frame=frame,
            )
            work.picture = np.where(made[..., None], grained, work.picture)
        return self._result(scene, frame, work, made)

    def clean(self, frame: int) -> Float:
        """A delivered frame without new grain, (height, width, 3) in model space, over the window. Raises: RunnerError."""
        return self._clean(self._fitted.scene_of(frame), frame).picture

    def _clean(self, scene: Scene, frame: int) -> _Work:
        work = self._start(scene, frame)
        unknown = ~work.known
        if unknown.any():
            self._gather(scene, frame, work, unknown)
        if frame in self._fitted.changes:
            size = self.layout.window[::-1]
            work.picture += cv2.resize(self._fitted.changes[frame], size, interpolation=cv2.INTER_LINEAR)
        return work

    def _start(self, scene: Scene, frame: int) -> _Work:
        """The window with what the plate, or motion, puts into it."""
        shape, inner = self.layout.window, self.layout.inner()
        plate, seen = (np.zeros(shape, bool) for _ in range(2))
        cover, confidence, kept = (np.zeros(shape, np.float32) for _ in range(3))
        work = _Work(np.zeros((*shape, 3), np.float32), plate, seen, cover, confidence, kept)
        if frame in self._have:
            work.picture[inner] = self._picture(frame)
            work.plate[inner] = work.known[inner] = True
            work.cover[inner] = work.confidence[inner] = work.kept[inner] = 1
            return work
        picture, known, sure, left = self._moved(scene, frame)
        work.picture[inner], work.known[inner] = picture, known
        work.cover[inner], work.confidence[inner], work.kept[inner] = known, sure * known, left * known
        return work

    def _moved(self, scene: Scene, frame: int) -> tuple[Float, Mask, Float, Float]:
        """A frame that the plate hasn't, in the plate's window: picture, what is known of it, confidence, what is left of the grain."""
        moved = self._motion(scene, frame)
        height, width = self.layout.size
        own = grid(height, width)
        at = apply(_inverse(scaling(self.layout.shape, self.layout.size)), own)
        scale = np.array((width / self.layout.shape[1], height / self.layout.shape[0]), np.float32)
        picture = np.zeros((height, width, 3), np.float32)
        total, kept = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
        for other, vectors, part in moved.fields:
            there = own + _sample(vectors, at) * scale
            inside = (there >= 0).all(-1) & (there[..., 0] <= width - 1) & (there[..., 1] <= height - 1)
            share = _sample(part, at) * inside
            taken = cv2.remap(self._picture(other), there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            clean, held = grain_of.degrained(taken, self._fitted.grain)
            picture += share[..., None] * clean
            kept += np.square(share) * held * left_of_grain(there)
            total += share
        known = (_sample(moved.known, at) > 0.5) & (total > 0.02)
        picture /= np.maximum(total, 1e-6)[..., None]
        kept /= np.maximum(np.square(total), 1e-6)
        return picture, known, _sample(moved.confidence, at), kept

    def _motion(self, scene: Scene, frame: int) -> Moved:
        before, after = neighbours(scene.frames, frame)
        reader = self._reader
        if before is not None and after is not None:
            self._check(before, after)
            t = (frame - before) / (after - before)
            return between(before, after, reader.flow(before, after), reader.flow(after, before), t)
        last = before if before is not None else after
        assert last is not None
        shape = self.layout.shape
        parameters = self._shot.parameters
        assert isinstance(parameters, ExtensionParameters)
        if len(scene.frames) < 2:  # one frame alone doesn't move
            still, ones = np.zeros((*shape, 2), np.float32), np.ones(shape, np.float32)
            return Moved(((last, still, ones),), ones, ones * np.float32(0.5 ** abs(frame - last)))
        other = scene.frames[-2] if before is not None else scene.frames[1]
        self._check(last, other)
        return extrapolate(
            last,
            reader.flow(last, other),
            reader.flow(other, last),
            camera_between(scene, last, other),
            beyond(scene, last, frame, self.layout.size),
            steps=abs(frame - last),
            span=abs(other - last),
            decay=parameters.motion_decay,
            size=self.layout.size,
        )

    def _gather(self, scene: Scene, frame: int, work: _Work, unknown: Mask) -> None:
        """Fill the unknown from other frames, and what they don't show from the canvases."""
        layout, reader = self.layout, self._reader
        inner = layout.inner()
        if frame in self._have:
            target, known = reader.small(frame), np.ones(layout.shape, np.float32)
            moving = self._moving(frame)
        else:
            known_full = work.known[inner].astype(np.float32)
            known = np.asarray(cv2.resize(known_full, layout.shape[::-1], interpolation=cv2.INTER_AREA), np.float32)
            small = shrunk(work.picture[inner] * known_full[..., None], layout.shape)
            target = push_pull(np.asarray(small / np.maximum(known, 1e-3)[..., None], np.float32), known)
            moving = np.zeros(layout.shape, np.float32)
        chosen = self._fitted.sources.get(frame, ())
        self._check(*chosen)
        laid = [
            lay(
                Source(other, matrix, reader.small(other), self._moving(other), abs(other - frame)),
                target,
                known,
                moving,
                layout,
            )
            for other, matrix in usable(scene, frame, chosen, layout.size)
        ]
        found = gather(weigh(laid), {one.frame: self._picture(one.frame) for one in laid}, unknown, layout)
        rest = unknown & (found.cover < 1)
        picture = found.picture
        if rest.any():
            filled = self._fill(scene, frame, work, found.picture, found.cover, unknown)
            picture = found.cover[..., None] * found.picture + (1 - found.cover[..., None]) * filled
        sure = np.exp(-found.error / _ERROR)
        work.picture = np.where(unknown[..., None], picture, work.picture).astype(np.float32)
        work.cover = np.where(unknown, found.cover > 0.5, work.cover).astype(np.float32)
        sure = found.cover * sure + (1 - found.cover) * _FILL_CONFIDENCE
        work.confidence = np.where(unknown, sure, work.confidence).astype(np.float32)
        work.kept = np.where(unknown, np.square(found.cover) * found.kept, work.kept).astype(np.float32)

    def _fill(self, scene: Scene, frame: int, work: _Work, mosaic: Float, cover: Float, unknown: Mask) -> Float:
        """(height, width, 3) over the window: the canvases' surroundings, fitted in light to what is known round them."""
        layout = self.layout
        shape = layout.padded
        to_plate = scaling(layout.shape, layout.size)
        left, top, _, _ = layout.pads
        carried = np.zeros((*shape, 3), np.float32)
        total = np.zeros(shape, np.float32)
        for canvas, weight in self._canvases(scene, frame):
            camera = np.linalg.inv(place(scene, frame, layout.size)) @ scene.camera[canvas.frame] @ canvas.matrix
            onto = np.array([[1, 0, left], [0, 1, top], [0, 0, 1.0]]) @ np.linalg.inv(to_plate) @ camera
            size = shape[::-1]
            laid = cv2.warpPerspective(canvas.picture, onto, size, flags=cv2.INTER_LINEAR)
            inside = cv2.warpPerspective(np.ones(canvas.picture.shape[:2], np.float32), onto, size)
            inside = (inside > 0.99) * np.float32(weight)
            carried += laid * inside[..., None]
            total += inside
        carried /= np.maximum(total, 1e-6)[..., None]
        # What is known, small: the plate, moved pixels and the mosaic's own.
        here = np.where(unknown[..., None], mosaic, work.picture)
        held = np.where(unknown, cover, 1).astype(np.float32)
        grid_at = _grid_in_window(layout)
        near = _sample(_blurred(here * held[..., None], layout), grid_at)
        held = _sample(_blurred(held, layout), grid_at)
        known = (held > 0.9).astype(np.float32) * _within(grid_at, layout.window)
        near = np.asarray(near / np.maximum(held, 1e-3)[..., None], np.float32)
        carried = np.where((total > 0)[..., None], carried, push_pull(near, known)).astype(np.float32)
        step = np.clip(near - carried, -_STEP_MOST, _STEP_MOST)
        carried = carried + push_pull(step, known * (total > 0))
        y, x = np.mgrid[0 : layout.window[0], 0 : layout.window[1]].astype(np.float32)
        return _sample(np.asarray(carried, np.float32), layout.to_grid(np.dstack([x, y])))

    def _canvases(self, scene: Scene, frame: int) -> list[tuple[Canvas, float]]:
        """The canvases next to a frame on either side in its scene, by how near they are."""
        own = sorted((c for c in self._fitted.canvases if c.frame in scene.camera), key=lambda c: c.frame)
        below = [c for c in own if c.frame <= frame][-1:]
        above = [c for c in own if c.frame > frame][:1]
        if below and above and below[0].frame != frame:
            part = (frame - below[0].frame) / (above[0].frame - below[0].frame)
            return [(below[0], 1 - part), (above[0], part)]
        return [(c, 1.0) for c in (below or above)]

    def _result(self, scene: Scene, frame: int, work: _Work, made: Mask) -> FrameResult:
        seam = self._seam(scene, frame, work)
        rgb = self._shot.from_display(np.ascontiguousarray(work.picture.transpose(2, 0, 1)))
        if frame in self._have:
            rows, columns = self.layout.inner()
            rgb[:, rows, columns] = self._shot.linear(frame)
        anything = bool(made.any())
        quality = {
            "confidence": float(work.confidence[made].mean()) if anything else 1.0,
            "coverage": float(work.cover[made].mean()) if anything else 1.0,
            "seam": seam.score,
            "seam_light": seam.light,
            "seam_shift": seam.shift,
            "seam_grain": seam.grain,
            "made": float(made.mean()),
        }
        layers = {LAYER: {"coverage": work.cover, "confidence": work.confidence}}
        return FrameResult(frame=frame, layers=layers, quality=quality, rgb=rgb, changed=made)

    def _seam(self, scene: Scene, frame: int, work: _Work) -> Seam:
        """The joins of a frame with the plate: round it where it is the plate's, with the nearest of the plate's where it is made."""
        x, y = self.layout.offset
        height, width = self.layout.size
        if frame in self._have:
            return space_seam(work.picture, (x, y, width, height)) if (~work.plate).any() else Seam()
        made = np.ascontiguousarray(work.picture[self.layout.inner()])
        before, after = neighbours(scene.frames, frame)
        worst = Seam()
        for near, step in ((before, -1), (after, 1)):
            if near is None or (before is not None and after is not None and abs(near - frame) > 1):
                continue
            at = scene.frames.index(near)
            line = scene.frames[: at + 1][::-1] if step < 0 else scene.frames[at:]
            originals = [self._picture(other) for other in line[:3] if other in self._have]
            if len(originals) < 2:
                continue
            spans = [abs(line[1] - line[0]), abs(line[min(2, len(line) - 1)] - line[1]) or 1]
            other = after if near == before else before
            across = None if other is None else (self._picture(other), abs(other - near))
            found = time_seam(made, originals, steps=abs(near - frame), spans=spans, across=across)
            worst = worst.worst(found)
        return worst

    def _moving(self, frame: int) -> Float:
        found = self._fitted.moving.get(frame)
        return np.zeros(self.layout.shape, np.float32) if found is None else found

    def _picture(self, frame: int) -> Float:
        self._check(frame)
        return self._reader.picture(frame)

    def _check(self, *frames: int) -> None:
        for frame in frames:
            if frame not in self._have:
                raise RunnerError(
                    f"plate frame {frame} is needed beside the chunk and was not given",
                    "submit the job again: its chunks were cut for other parameters",
                )


def _inverse(matrix: Matrix) -> Matrix:
    return np.asarray(np.linalg.inv(matrix), np.float64)


def _sample(plane: Float, at: Float) -> Float:
    return np.asarray(cv2.remap(plane, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _blurred(plane: Float, layout: Layout) -> Float:
    """Averaged over a grid pixel, full size: so that it can be sampled sparsely."""
    side = max(1, round(layout.size[0] / layout.shape[0]))
    return np.asarray(cv2.blur(plane, (side, side)) if side > 1 else plane, np.float32)


def _grid_in_window(layout: Layout) -> Float:
    """The padded grid's pixels in pixels of the window, (h, w, 2)."""
    return layout.grid_points() + np.array(layout.offset, np.float32)


def _within(points: Float, window: tuple[int, int]) -> Float:
    height, width = window
    inside = (points >= 0).all(-1) & (points[..., 0] <= width - 1) & (points[..., 1] <= height - 1)
    return np.asarray(inside, np.float32)
