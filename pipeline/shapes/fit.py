"""Mattes to shapes: every outline of a shot followed through time, cut into parts, fitted, and keyed on as few frames as the bar allows.

The way: contours → tracks → vertices → parts → a fit on every frame → the motion of each part as its layer → fewest keys → shapes.
Works on at most `WORK_LINES` lines; what comes out is in the pixels of the mattes that went in.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.frames import FrameRange
from pipeline.rate import FrameRate
from pipeline.shapes.canvas import Canvas
from pipeline.shapes.contours import Float, Ring, rings
from pipeline.shapes.crossing import THOROUGH, crosses, uncross
from pipeline.shapes.emit import Fitted, emit, summarise
from pipeline.shapes.feather import feather_px
from pipeline.shapes.flow import Flow, flow_size
from pipeline.shapes.keys import moving
from pipeline.shapes.motion_layer import body_motion
from pipeline.shapes.parts import Part, split
from pipeline.shapes.raster import Array, outline_at, rasterise
from pipeline.shapes.reduce import Keyed, Reducer
from pipeline.shapes.solve import first_guess, fit_frame, samples_of
from pipeline.shapes.tracks import Track, Tracks, fill, follow
from pipeline.shapes.values import Dropped, ShapeError, ShapeReport, ShapeSet
from pipeline.shapes.vertices import place

WORK_LINES = 960
MOST_POINTS = 60
"""Of one shape: what an artist can still handle."""
_LEAST_AREA = 30.0
"""Square pixels on 480 lines below which an outline is dust."""
_SEARCH_POINTS = 40
"""Vertices among which pinches are looked for."""
_PIECE = 16
"""Frames of the runs that an outline is cut into when one run needs too many keys."""
_KEYED_ENOUGH = 0.35
_CLOSE = 0.8
"""With a key on every frame: the share of what the bar leaves that the worst frame may miss."""
_SPENT = 0.5
"""Of what the fits themselves miss, how much counts against the room that the bar leaves to in-betweens."""


@dataclass(slots=True)
class _Section:
    """An unbroken run of frames at work size."""

    frames: list[int]
    mattes: list[NDArray[np.uint8]] = field(default_factory=list)
    outlines: list[list[Ring]] = field(default_factory=list)
    small: list[Float] = field(default_factory=list)
    greys: list[Float] = field(default_factory=list)


def shapes_of(
    mattes: Mapping[int, NDArray[np.float32]],
    *,
    name: str,
    frames: Iterable[int] | None = None,
    rate: FrameRate | None = None,
    pictures: Mapping[int, NDArray[np.float32]] | None = None,
    bar: float = 0.95,
    cuts: Sequence[int] = (),
    most_points: int = MOST_POINTS,
    few_keys: bool = True,
) -> tuple[ShapeSet, ShapeReport]:
    """Shapes of one object. `mattes`: frame → (height, width) 0 … 1; `pictures`: frame → (height, width) or (3, height, width).

    Every frame's matte is stood for with an intersection over union of at least `bar`, where the fits can; the report names the
    frames below. `cuts`: first frames of other shots, which nothing crosses. `few_keys` false keys every frame. The mattes are
    read once, in order, one at a time.
    Raises: ShapeError (no mattes, of different sizes, NaN).
    """
    began = time.process_time()
    wanted = sorted(mattes if frames is None else frames)
    if not wanted:
        raise ShapeError("there are no mattes to make shapes of", "give at least one frame")
    size: tuple[int, int] | None = None
    fitted: list[Fitted] = []
    dropped: list[Dropped] = []
    closed = joined = 0
    truths: dict[int, NDArray[np.uint8]] = {}
    scale = 1.0
    for run in _sections(wanted, cuts):
        section = _Section(run)
        for frame in run:
            matte = _checked(mattes[frame], frame, size)
            size = matte.shape
            scale = _read(section, matte, None if pictures is None else pictures[frame])
        truths.update(zip(run, section.mattes, strict=True))
        found, tracks = _fit_section(section, pictures is not None, name, bar, most_points, few_keys)
        fitted += found
        dropped += [_dropped(track, reason, run, scale) for track, reason in tracks.dropped]
        closed, joined = closed + tracks.holes_closed, joined + tracks.holes_joined
    assert size is not None
    fitted.sort(key=lambda one: one.subtract)  # holes cut what lies below, of every section
    shapes = emit(fitted, name, FrameRange.of(wanted), size, scale, rate)
    iou, crossing = _verify(shapes, truths)
    return shapes, ShapeReport(
        bar=bar,
        shapes=tuple(summarise(one, shape) for one, shape in zip(fitted, shapes.shapes, strict=True)),
        dropped=tuple(dropped),
        iou=iou,
        below_bar=tuple(frame for frame, value in iou.items() if value < bar),
        holes_closed=closed,
        holes_joined=joined,
        crossing_frames=crossing,
        seconds=time.process_time() - began,
    )


def _sections(frames: Sequence[int], cuts: Sequence[int]) -> list[list[int]]:
    """Runs of evenly spaced frames with no cut inside: only there do in-betweens mean something."""
    if len(frames) < 2:
        return [list(frames)]
    step = Counter(b - a for a, b in pairwise(frames)).most_common(1)[0][0]
    found = [[frames[0]]]
    for a, b in pairwise(frames):
        if b - a != step or any(a < cut <= b for cut in cuts):
            found.append([])
        found[-1].append(b)
    return found


def _checked(matte: NDArray[np.float32], frame: int, size: tuple[int, int] | None) -> NDArray[np.float32]:
    if matte.ndim != 2 or (size is not None and matte.shape != size):
        raise ShapeError(f"the matte of frame {frame} is {matte.shape}, not {size}", "give mattes of one size")
    if not np.isfinite(matte).all():
        raise ShapeError(f"the matte of frame {frame} holds NaN or infinity", "make it again")
    return matte


def _read(section: _Section, matte: Float, picture: Float | None) -> float:
    """Take what is needed of one frame; returns the work size over the whole."""
    height, width = matte.shape
    scale = min(1.0, WORK_LINES / height)
    work = np.clip(matte, 0, 1).astype(np.float32)
    if scale < 1:
        work = cv2.resize(work, (round(width * scale), WORK_LINES), interpolation=cv2.INTER_AREA)
    least = _LEAST_AREA * (work.shape[0] / 480) ** 2
    section.outlines.append(rings(work, least_area=least))
    section.mattes.append(np.asarray(work * 255 + 0.5, np.uint8))
    small = flow_size(*work.shape)
    section.small.append(cv2.resize(work, small, interpolation=cv2.INTER_AREA))
    if picture is not None:
        grey = picture if picture.ndim == 2 else np.tensordot(np.array((0.299, 0.587, 0.114), np.float32), picture, 1)
        section.greys.append(cv2.resize(grey.astype(np.float32), small, interpolation=cv2.INTER_AREA))
    return float(scale)


def _dropped(track: Track, reason: str, frames: Sequence[int], scale: float) -> Dropped:
    return Dropped(
        first=frames[track.start],
        last=frames[track.end - 1],
        area_px=max(track.areas) / scale**2,
        subtract=track.hole,
        reason=reason,
    )


def _fit_section(
    section: _Section, has_pictures: bool, name: str, bar: float, most_points: int, few_keys: bool
) -> tuple[list[Fitted], Tracks]:
    """Shapes of one run of frames, with its tracks."""
    size = section.mattes[0].shape
    flow = Flow(section.small, section.greys if has_pictures else None, lines=size[0])
    tracks = follow(section.outlines, flow)
    best: _Attempt | None = None
    for longest in (len(section.frames), _PIECE):
        if longest < len(section.frames) or best is None:
            attempt = _attempt(section, tracks, flow, longest, bar, most_points, few_keys)
            if best is None or attempt.better_than(best):
                best = attempt
        if best.good(bar):
            break
    assert best is not None
    for one in best.found:
        one.frames = section.frames
    return best.found, tracks


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Shapes of a section with how they do: frames below the bar, share of keys, the worst frame."""

    found: list[Fitted]
    below: int
    keyed: float
    worst: float
    few_keys: bool

    def good(self, bar: float) -> bool:
        """Whether a second way need not be tried."""
        if self.few_keys:
            return self.below == 0 and self.keyed <= _KEYED_ENOUGH
        return self.worst >= 1 - _CLOSE * (1 - bar)

    def better_than(self, other: _Attempt) -> bool:
        """Fewer frames below the bar; then clearly fewer keys, or a better worst frame."""
        if self.below != other.below:
            return self.below < other.below
        return self.keyed < 0.9 * other.keyed if self.few_keys else self.worst > other.worst


def _attempt(
    section: _Section, tracks: Tracks, flow: Flow, longest: int, bar: float, most_points: int, few_keys: bool
) -> _Attempt:
    """All tracks fitted and keyed, in runs of at most `longest` frames: what turns or folds keeps its limbs for a while only."""
    found: list[Fitted] = []
    for whole in tracks.kept:
        for track in whole.pieces(longest):
            for part in _parts(track, flow, section.mattes[0].shape, most_points):
                found.append(_fit_part(section, track, part, flow, most_points, len(found)))
    if not found:
        return _Attempt([], 0, 0.0, 1.0, few_keys)
    canvas = Canvas([matte > 127 for matte in section.mattes], [one.subtract for one in found])
    reducer = Reducer(canvas, [one.keyed for one in found], bar)
    if few_keys:
        reducer.run(_room(reducer, section, found, bar))
    iou = [canvas.iou(index) for index in range(len(section.frames))]
    spent = sum(one.keyed.motion.frames for one in found)
    keyed = sum(len(one.keyed.keys) for one in found) / spent
    return _Attempt(found, sum(value < bar for value in iou), keyed, min(iou), few_keys)


def _parts(track: Track, flow: Flow, size: tuple[int, int], most_points: int) -> list[Part]:
    index = None
    if not track.hole and len(track.rings) > 2:
        index = place(track.rings, flow, track.start, most=min(_SEARCH_POINTS, most_points), sweeps=1)
        kernel = np.ones((3, 3), np.uint8)
        inside = [cv2.dilate(fill(ring, size), kernel) > 0 for ring in track.rings]
        parts = split(track.rings, index, flow, track.start, inside)
        if len(parts) > 1:
            return parts
    whole = place(track.rings, flow, track.start, most=most_points, sweeps=0)
    return [Part(track.rings, [np.ones(len(ring)) for ring in track.rings], whole, limb=False)]


def _fit_part(section: _Section, track: Track, part: Part, flow: Flow, most_points: int, number: int) -> Fitted:
    """A part fitted on every frame of its track, and the motion of its layer."""
    index = place(part.rings, flow, track.start, most=most_points, first=part.index)
    samples = [samples_of(ring, row, mark) for ring, row, mark in zip(part.rings, index, part.weight, strict=True)]
    fits = []
    for ring, row, one in zip(part.rings, index, samples, strict=True):
        control = fit_frame(one, first_guess(ring, row))
        fits.append(uncross(control) if crosses(control, THOROUGH) else control)
    controls: Array = np.array(fits)
    motion = moving(samples, controls, body_motion(controls[:, :, 0]))
    keyed = Keyed(number, track.start, track.shown, motion, list(range(len(controls))), motion.own.copy())
    seen = [i for i, shown in enumerate(track.shown) if shown]
    soft = feather_px([section.mattes[track.start + i] for i in seen], controls[seen])
    return Fitted(keyed=keyed, subtract=track.hole, limb=part.limb, feather=soft)


def _room(reducer: Reducer, section: _Section, found: Sequence[Fitted], bar: float) -> Array:
    """(frames,) mean distance, px, that every outline of a frame may be off before the bar is met."""
    best = np.array([reducer.best.get(i, 1.0) for i in range(len(section.frames))])
    area = np.array([np.count_nonzero(matte > 127) for matte in section.mattes])
    length = np.full(len(section.frames), 1e-6)
    for one in found:
        length[one.keyed.start : one.keyed.start + one.keyed.motion.frames] += one.keyed.motion.length_px
    return np.asarray(np.maximum(0.0, (1 - bar) - _SPENT * (1 - best)) * area / length)


def _verify(shapes: ShapeSet, truths: Mapping[int, NDArray[np.uint8]]) -> tuple[dict[int, float], tuple[int, ...]]:
    """The finished shapes against the mattes: intersection over union by frame, and frames with an outline that crosses itself."""
    iou, crossing = {}, []
    for frame, truth in truths.items():
        height, width = truth.shape
        drawn = rasterise(shapes, frame, size=(height, width)) >= 0.5
        mask = truth > 127
        union = int(np.count_nonzero(drawn | mask))
        iou[frame] = int(np.count_nonzero(drawn & mask)) / union if union else 1.0
        if any(crosses(outline_at(shapes, s, frame), THOROUGH) for s in shapes.shapes if s.drawn_at(frame)):
            crossing.append(frame)
    return iou, tuple(crossing)
