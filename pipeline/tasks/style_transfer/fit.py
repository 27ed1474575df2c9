"""The fit: one walk over the shot for motion and first previews, then the ways into the keys, and paintings out of the mood board."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.motion import FlowEstimator, FlowPair
from pipeline.tasks.contract import ShotContext
from pipeline.tasks.style_transfer.carry import Carried, carry
from pipeline.tasks.style_transfer.definition import StyleParameters
from pipeline.tasks.style_transfer.fitted import Fitted, MotionWriter, save_facts
from pipeline.tasks.style_transfer.mood import Board, Cloud, Palette
from pipeline.tasks.style_transfer.render import sample, stretch

Float = NDArray[np.float32]

WORKING_HEIGHT = 540
"""Lines at which flow and search work."""
_PREVIEW_HEIGHT = 180
_PREVIEW_EVERY = 4
"""While frames arrive, so many are shown at once and then one in so many."""
_MOOD_EVERY = 24
"""Frames between two that are painted out of the mood board."""
_READ_SHARE = 0.6
"""Part of a fit's progress that reading and motion take."""


@dataclass(slots=True)
class _Walk:
    """What the walk over the shot leaves. Indices count the shot's frames from 0."""

    pairs: list[FlowPair | None] = field(default_factory=list)
    plates: dict[int, Float] = field(default_factory=dict)
    """Of frames that were painted or will be: (height, width, 3) at working size."""
    shape: tuple[int, int] = (0, 0)

    @property
    def flow_shape(self) -> tuple[int, int]:
        """(height, width) of the flow."""
        return (self.shape[0] + 1) // 2, (self.shape[1] + 1) // 2


def painted_frames(shot: ShotContext) -> dict[int, str]:
    """Frame → object of its painting. Raises: RunnerError (outside the shot, twice, of another size)."""
    found: dict[int, str] = {}
    size = (shot.plate_window.height, shot.plate_window.width)
    frames = set(shot.frames) & set(shot.available)
    for name, keys in sorted(shot.keys.items()):
        for frame, picture in keys.items():
            if frame not in frames:
                raise RunnerError(f"frame {frame} is painted, outside the shot", "move the key into the range")
            if frame in found:
                raise RunnerError(f"frame {frame} is painted twice", "give one picture for a frame")
            if picture.shape != (3, *size):
                raise RunnerError(
                    f"the painted frame {frame} is {picture.shape[-1]}×{picture.shape[-2]}, the plate {size[1]}×{size[0]}",
                    "paint on a frame of the plate at its own size",
                )
            found[frame] = name
    return dict(sorted(found.items()))


def fit_shot(shot: ShotContext, parameters: StyleParameters, *, patches: bool) -> Fitted:
    """Motion, and with `patches` all that patch synthesis needs, into `shot.folder`. Raises: RunnerError, Cancelled."""
    painted = painted_frames(shot) if patches else {}
    board = shot.pictures("mood") if patches else ()
    if patches and not painted and not board:
        raise RunnerError("there is neither a painted frame nor a mood board", "paint one frame, or name a mood board")
    frames = sorted(set(shot.frames) & set(shot.available))
    index = {frame: i for i, frame in enumerate(frames)}
    breaks = [i for i in sorted({bisect_left(frames, cut) for cut in shot.cuts}) if 0 < i < len(frames)]
    keys = [index[frame] for frame in painted]
    moods = _mood_places(keys, breaks, len(frames)) if board else []
    for frame, name in painted.items():
        shot.preview(frame, {"picture": small_picture(shot.keys[name][frame])})
    with MotionWriter(shot.folder) as writer:
        walk = _read(
            shot, frames, breaks, {i: shot.keys[painted[frames[i]]][frames[i]] for i in keys}, set(moods), writer
        )
        for i in keys:
            writer.plate(frames[i], walk.plates[i])
        if moods:
            _paint_moods(shot, parameters, board, frames, moods, walk, writer)
        ways: dict[int, list[int]] = {}
        reach = carry(sorted([*keys, *moods]), walk.pairs, len(frames), walk.flow_shape)
        for number, (i, key, carried) in enumerate(reach):
            writer.way(frames[i], frames[key], carried)
            ways.setdefault(frames[i], []).append(frames[key])
            if number % 8 == 0:
                shot.progress(min(0.99, 0.9 + 0.1 * number / (2 * len(frames))), "ways into the keys")
    fitted = Fitted(
        height=walk.shape[0],
        width=walk.shape[1],
        keys=dict(sorted({**painted, **{frames[i]: "" for i in moods}}.items())),
        ways={frame: tuple(sorted(found)) for frame, found in sorted(ways.items())},
        breaks=tuple(frames[i] for i in breaks),
    )
    save_facts(shot.folder, fitted)
    shot.progress(1.0, "fit done")
    return fitted


def _read(
    shot: ShotContext,
    frames: Sequence[int],
    breaks: Sequence[int],
    keys: Mapping[int, Float],
    moods: set[int],
    writer: MotionWriter,
) -> _Walk:
    """Read every frame once: flow to the one before, and a small preview of what was painted, moved along."""
    walk, flow = _Walk(), FlowEstimator()
    shot.prefetch(frames, WORKING_HEIGHT)
    before: NDArray[np.uint8] | None = None
    way: Carried | None = None
    small: Float | None = None
    for i, frame in enumerate(frames):
        rgb = shot.display(frame, WORKING_HEIGHT)
        walk.shape = (rgb.shape[1], rgb.shape[2])
        if i in keys or i in moods:
            walk.plates[i] = upright(rgb)
        grey = flow.prepare(rgb)
        pair = None if before is None or i in breaks else flow.pair(before, grey)
        if i > 0:
            walk.pairs.append(pair)
        if pair is not None:
            writer.flow(frames[i - 1], pair)
        if i in keys:
            way, small = Carried.of_key(walk.flow_shape), upright(small_picture(keys[i]))
        elif way is not None and small is not None:
            way = way.step(pair.backward, pair.forward) if pair is not None else None
            if way is not None and (i < _PREVIEW_EVERY or i % _PREVIEW_EVERY == 0):
                shot.preview(frame, {"picture": planar(_moved(small, way))})
        before = grey
        shot.progress(_READ_SHARE * (i + 1) / len(frames), f"motion {i + 1}/{len(frames)}")
    return walk


def _moved(small: Float, way: Carried) -> Float:
    height, width = small.shape[:2]
    lines, across = way.offset.shape[:2]
    return sample(small, stretch(way.offset, (height, width), (height / lines, width / across)))


def _mood_places(keys: Sequence[int], breaks: Sequence[int], count: int) -> list[int]:
    """Frames to paint out of the mood board, evenly, in each shot in which nobody painted."""
    found: list[int] = []
    for first, end in pairwise([0, *breaks, count]):
        if any(first <= key < end for key in keys):
            continue
        number = max(1, round((end - first) / _MOOD_EVERY))
        found += [first + round((end - first - 1) * (2 * k + 1) / (2 * number)) for k in range(number)]
    return found


def _paint_moods(
    shot: ShotContext,
    parameters: StyleParameters,
    pictures: Sequence[Float],
    frames: Sequence[int],
    moods: Sequence[int],
    walk: _Walk,
    writer: MotionWriter,
) -> None:
    """A painting for each of these frames. One map of colours serves them all, so that the shot has one palette."""
    full = (shot.plate_window.height, shot.plate_window.width)
    board = Board(pictures, full, walk.shape)
    palette = Palette.between(Cloud.of([walk.plates[i] for i in moods]), board.cloud)
    for i in moods:  # colours alone are quick: they are the first that is seen
        quick = palette.apply(upright(small_picture(planar(walk.plates[i]))), parameters.palette)
        shot.preview(frames[i], {"picture": planar(quick)})
    for number, i in enumerate(moods):
        painting = board.paint(
            upright(shot.display(frames[i])),
            walk.plates[i],
            palette,
            amount=parameters.palette,
            texture=parameters.texture,
            seed=shot.seed,
        )
        writer.plate(frames[i], walk.plates[i])
        writer.painting(frames[i], painting)
        shot.preview(frames[i], {"picture": small_picture(planar(painting))})
        shot.progress(_READ_SHARE + 0.3 * (number + 1) / len(moods), f"mood {number + 1}/{len(moods)}")


def upright(rgb: Float) -> Float:
    """(3, height, width) to (height, width, 3)."""
    return np.ascontiguousarray(rgb.transpose(1, 2, 0), np.float32)


def planar(rgb: Float) -> Float:
    """(height, width, 3) to (3, height, width)."""
    return np.ascontiguousarray(rgb.transpose(2, 0, 1), np.float32)


def small_picture(rgb: Float) -> Float:
    """(3, height, width) at preview size."""
    _, height, width = rgb.shape
    if height <= _PREVIEW_HEIGHT:
        return rgb
    size = (max(1, round(width * _PREVIEW_HEIGHT / height)), _PREVIEW_HEIGHT)
    return planar(np.asarray(cv2.resize(upright(rgb), size, interpolation=cv2.INTER_AREA), np.float32))
