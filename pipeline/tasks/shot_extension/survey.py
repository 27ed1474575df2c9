"""The fit: what the camera did, what moves, which frames show what, the grain, and what to fill in where none does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.contract import ShotContext
from pipeline.tasks.shot_extension import grain as grain_of
from pipeline.tasks.shot_extension.camera import Matrix, homography, motion_of, scaling, shift
from pipeline.tasks.shot_extension.definition import SOURCE_REACH, in_space
from pipeline.tasks.shot_extension.fitted import Canvas, Fitted
from pipeline.tasks.shot_extension.mosaic import Layout, Source, gather, lay, weigh
from pipeline.tasks.shot_extension.plan import Scene, chain, choose_sources, near, neighbours, split, usable
from pipeline.tasks.shot_extension.reading import Reader

Float = NDArray[np.float32]
Invent = Callable[[Float, NDArray[np.bool_]], Float]
"""(h, w, 3) in model space and which pixels of it are known (h, w), to the whole picture with the known pixels as they were."""

NEAR = 8
"""Plate frames next to a gap that its frames are made from."""
_BEHIND = (0, 1, 2, 4, 7)
"""Which of them, counted from the gap, may show what an object uncovers."""
_CANVAS_EVERY = 12
_MARGIN = 0.1
"""How far a canvas reaches beyond the window, as a part of the plate's sides: the camera moves between canvases."""
_MOVING_PX = 1 / 240
"""Motion against the camera above this part of the height a frame is an object's…"""
_PARALLAX = 0.25
"""… unless it is less than this part of the camera's own motion there."""
_GRAIN_PAIRS = 5


class Survey:
    """Looks through a shot once. Reads only what the mode needs: the frames next to gaps in time, all of them in space."""

    def __init__(self, shot: ShotContext, reader: Reader, invent: Invent) -> None:
        """`invent` makes up what no frame shows."""
        self._shot = shot
        self._invent = invent
        self._reader = reader
        self._wide = in_space(shot.parameters)
        self.size = reader.size
        plate, window = shot.plate_window, shot.window
        self._window = (
            plate.x_min - window.x_min,
            plate.y_min - window.y_min,
            window.width,
            window.height,
        )

    def run(self, progress: Callable[[float, str], None]) -> Fitted:
        """Everything, in the order in which it depends on each other."""
        scenes, asked = self._scenes(lambda part, note: progress(0.6 * part, note))
        moving = {}
        if self._wide:
            moving = {frame: self._moving(scene, frame) for scene in scenes for frame in scene.frames}
        sources = {
            frame: self._sources(scene, frame)
            for scene, wanted in zip(scenes, asked, strict=True)
            for frame in sorted(wanted)
        }
        fitted = Fitted(tuple(scenes), tuple(asked), sources, moving, (), self._grain(scenes))
        canvases: list[Canvas] = []
        work = [(s, f) for s, wanted in zip(scenes, asked, strict=True) for f in self._canvas_frames(s, wanted)]
        before: Canvas | None = None
        for number, (scene, frame) in enumerate(work):
            if before is not None and before.frame not in scene.camera:
                before = None
            before = self._canvas(fitted, scene, frame, before)
            canvases.append(before)
            self._shot.preview(frame, {"picture": np.ascontiguousarray(before.picture.transpose(2, 0, 1))})
            progress(0.6 + 0.4 * (number + 1) / len(work), f"surroundings {number + 1}/{len(work)}")
        return replace(fitted, canvases=tuple(canvases))

    def _scenes(self, progress: Callable[[float, str], None]) -> tuple[list[Scene], list[frozenset[int]]]:
        shot = self._shot
        have = frozenset(shot.available)
        scenes, asked = [], []
        parts = split(shot.available, shot.frames, shot.cuts)
        needed = [self._needed(own, [f for f in wanted if f not in have]) for own, wanted in parts]
        total, done = sum(map(len, needed)), 0
        shot.prefetch([frame for frames in needed for frame in frames])
        for frames, (_, wanted) in zip(needed, parts, strict=True):

            def step(a: int, b: int) -> Matrix:
                nonlocal done
                done += 1
                progress(done / max(1, total), f"camera {done}/{total}")
                if b - a > 1 and not any(a < f < b and f not in have for f in shot.frames):
                    return np.eye(3)  # two ends of a long shot that are looked at on their own
                return homography(self._reader.flow(a, b), self.size)[0]

            scenes.append(chain(frames, step))
            asked.append(frozenset(wanted))
        return scenes, asked

    def _needed(self, own: Sequence[int], missing: Sequence[int]) -> list[int]:
        """The plate's frames that a scene must be looked at on."""
        if self._wide:
            return list(own)
        return sorted({other for frame in missing for other in near(own, frame, NEAR)})

    def _moving(self, scene: Scene, frame: int) -> Float:
        """(h, w) 0 … 1 on the flow's grid: what doesn't follow the camera from this frame to the next, or from the one before."""
        h, w = self._reader.grey(frame).shape
        at = scene.frames.index(frame)
        if len(scene.frames) < 2:
            return np.zeros((h, w), np.float32)
        other = scene.frames[at + 1] if at + 1 < len(scene.frames) else scene.frames[at - 1]
        matrix = np.linalg.inv(scene.camera[other]) @ scene.camera[frame]
        camera = motion_of(matrix, (h, w), self.size)
        apart = np.linalg.norm(self._reader.flow(frame, other) - camera, axis=-1)
        own = _MOVING_PX * h * abs(other - frame)
        away = apart > np.maximum(own, _PARALLAX * np.linalg.norm(camera, axis=-1))
        reach = max(3, round(h / 60)) | 1
        away = cv2.morphologyEx(away.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        away = cv2.dilate(away, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
        return np.asarray(cv2.blur(away.astype(np.float32), (reach, reach)), np.float32)

    def _sources(self, scene: Scene, frame: int) -> tuple[int, ...]:
        missing = frame not in scene.camera
        if not missing and not self._wide:
            return ()
        others = near(scene.frames, frame, SOURCE_REACH if self._wide else NEAR)
        fits = usable(scene, frame, others, self.size)
        x, y, width, height = self._window
        own = None if missing else (0.0, 0.0, self.size[1] - 1.0, self.size[0] - 1.0)
        chosen = choose_sources(fits, frame, self.size, (-x, -y, width - x, height - y), own)
        if missing:
            allowed = {other for other, _ in fits}
            by_distance = sorted(allowed, key=lambda other: (abs(other - frame), other))
            chosen += [by_distance[n] for n in _BEHIND if n < len(by_distance) and by_distance[n] not in chosen]
        return tuple(chosen)

    def _grain(self, scenes: Iterable[Scene]) -> grain_of.Grain:
        """From a few pairs of neighbours over the shot, whole."""
        pairs = [pair for scene in scenes for pair in zip(scene.frames, scene.frames[1:], strict=False)]
        step = max(1, -(-len(pairs) // _GRAIN_PAIRS))
        reader = self._reader
        return grain_of.measure(
            [(reader.picture(a), reader.picture(b), reader.flow(a, b)) for a, b in pairs[::step][:_GRAIN_PAIRS]]
        )

    def _canvas_frames(self, scene: Scene, wanted: frozenset[int]) -> list[int]:
        """The plate's frames whose surroundings are made: those next to gaps, and in space some all along."""
        frames = {f for m in wanted if m not in scene.camera for f in neighbours(scene.frames, m) if f is not None}
        if self._wide:
            own = [f for f in scene.frames if f in wanted]
            frames |= {*own[::_CANVAS_EVERY], *own[-1:]}
        return sorted(frames)

    def _canvas(self, fitted: Fitted, scene: Scene, frame: int, before: Canvas | None) -> Canvas:
        """A frame's surroundings: gathered from others, then what the canvas before made up, then patches."""
        reader = self._reader
        shape = reader.tiny(frame).shape[:2]
        layout = self._canvas_layout((shape[0], shape[1]))
        to_full = scaling(layout.size, self.size)
        x, y = layout.offset
        matrix = to_full @ shift(-x, -y)
        height, width = layout.window
        corner = to_full @ np.array([[-x, width - x], [-y, height - y], [1.0, 1.0]])
        rectangle = (corner[0, 0], corner[1, 0], corner[0, 1], corner[1, 1])
        others = usable(scene, frame, near(scene.frames, frame, SOURCE_REACH), self.size)
        own = (0.0, 0.0, self.size[1] - 1.0, self.size[0] - 1.0)
        chosen = choose_sources(others, frame, self.size, rectangle, own)
        back = np.linalg.inv(to_full)
        still = np.zeros(layout.shape, np.float32)
        laid = []
        for other, camera in others:
            if other in chosen:
                moving = fitted.moving.get(other)
                source = Source(
                    other,
                    back @ camera @ to_full,
                    reader.tiny(other),
                    still if moving is None else cv2.resize(moving, layout.shape[::-1], interpolation=cv2.INTER_AREA),
                    abs(other - frame),
                )
                laid.append(lay(source, reader.tiny(frame), np.ones(layout.shape, np.float32), still, layout))
        wanted = np.ones(layout.window, bool)
        wanted[layout.inner()] = False
        found = gather(weigh(laid), {other: reader.tiny(other) for other in chosen}, wanted, layout)
        picture = found.picture
        picture[layout.inner()] = reader.tiny(frame)
        known = ~wanted | (found.cover > 0.5)
        if before is not None:
            camera = np.linalg.inv(scene.camera[frame]) @ scene.camera[before.frame]
            carry = np.linalg.inv(matrix) @ camera @ before.matrix
            size = (width, height)
            moved = cv2.warpPerspective(before.picture, carry, size, flags=cv2.INTER_LINEAR)
            valid = cv2.warpPerspective(np.ones(before.picture.shape[:2], np.float32), carry, size) > 0.99
            use = valid & ~known
            picture = np.where(use[..., None], moved, picture).astype(np.float32)
            known |= use
        return Canvas(frame, self._invent(picture, known), matrix)

    def _canvas_layout(self, tiny: tuple[int, int]) -> Layout:
        """The canvas round a tiny frame: the window and a margin, in tiny pixels."""
        sy, sx = tiny[0] / self.size[0], tiny[1] / self.size[1]
        x, y, width, height = self._window
        across, down = round(_MARGIN * tiny[1]), round(_MARGIN * tiny[0])
        left, top = int(np.ceil(x * sx)) + across, int(np.ceil(y * sy)) + down
        right = int(np.ceil((width - x - self.size[1]) * sx)) + across
        bottom = int(np.ceil((height - y - self.size[0]) * sy)) + down
        return Layout(tiny, (tiny[0] + top + bottom, tiny[1] + left + right), (left, top), tiny)
