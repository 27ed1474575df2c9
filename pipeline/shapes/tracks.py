"""Outlines through time: which outline of a frame is which of the next; holes that flicker; small ones behind something for a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.shapes.contours import Ring
from pipeline.shapes.flow import Flow
from pipeline.shapes.raster import Array

_SAME, _SAME_HOLE = 0.5, 0.25
"""Least overlap of an outline, moved along the flow, with the one that continues it."""
_LONGEST_GAP = 3
"""Frames that an outline may be away and still be itself."""
_SHORT_LIFE = 3
"""An outline of fewer frames is noise, unless it is large."""
_LARGE, _LARGE_HOLE = 0.004, 0.015
"""Shares of the matte's area above which even one frame counts."""


@dataclass(slots=True)
class Track:
    """One outline over an unbroken run of frames, indices from `start`. `shown[i]` is false where it is only carried along."""

    start: int
    hole: bool
    rings: list[Array] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    shown: list[bool] = field(default_factory=list)

    @property
    def end(self) -> int:
        """First index after it."""
        return self.start + len(self.rings)

    def pieces(self, longest: int) -> list[Track]:
        """Itself in even runs of at most `longest` frames."""
        count = -(-len(self.rings) // longest)
        edges = [round(k * len(self.rings) / count) for k in range(count + 1)]
        return [
            Track(self.start + a, self.hole, self.rings[a:b], self.areas[a:b], self.shown[a:b])
            for a, b in pairwise(edges)
        ]

    def add(self, ring: Ring) -> None:
        """It goes on."""
        self.rings.append(ring.points)
        self.areas.append(ring.area)
        self.shown.append(True)


@dataclass(frozen=True, slots=True)
class Tracks:
    """What was followed, what was left out, and why."""

    kept: list[Track]
    dropped: list[tuple[Track, str]]
    holes_closed: int
    holes_joined: int


def follow(found: Sequence[Sequence[Ring]], flow: Flow) -> Tracks:
    """Link the outlines of every frame, bridge short absences, leave out what only flickers."""
    tracks, joined = _bridge(_link(found, flow), flow)
    total = [sum(-r.area if r.hole else r.area for r in frame) for frame in found]
    kept, dropped, closed = [], [], 0
    for track in tracks:
        share = max(a / max(total[track.start + i], 1.0) for i, a in enumerate(track.areas))
        if (
            sum(track.shown) >= _SHORT_LIFE
            or share > (_LARGE_HOLE if track.hole else _LARGE)
            or len(found) < _SHORT_LIFE
        ):
            kept.append(track)
        else:
            closed += track.hole
            reason = "a hole that flickers, closed" if track.hole else "small and gone within two frames"
            dropped.append((track, reason))
    return Tracks(kept, dropped, closed, joined)


def _link(found: Sequence[Sequence[Ring]], flow: Flow) -> list[Track]:
    tracks: list[Track] = []
    for index, frame in enumerate(found):
        pairs = []
        for number, track in enumerate(tracks):
            if track.end != index:
                continue
            moved = flow.advect(track.rings[-1], index - 1, index)
            for k, ring in enumerate(frame):
                if ring.hole == track.hole:
                    overlap = polygon_overlap(moved, ring.points)
                    if overlap >= (_SAME_HOLE if ring.hole else _SAME):
                        pairs.append((overlap, number, k))
        taken: set[int] = set()
        grown: set[int] = set()
        for _, number, k in sorted(pairs, reverse=True):
            if k not in taken and number not in grown:
                taken.add(k)
                grown.add(number)
                tracks[number].add(frame[k])
        for k, ring in enumerate(frame):
            if k not in taken:
                track = Track(index, ring.hole)
                track.add(ring)
                tracks.append(track)
    return tracks


def _bridge(tracks: list[Track], flow: Flow) -> tuple[list[Track], int]:
    """Tracks that end and start again within `_LONGEST_GAP` frames become one, carried along the flow where they are away."""
    tracks = sorted(tracks, key=lambda t: t.start)
    joined = 0
    number = 0
    while number < len(tracks):
        early = tracks[number]
        options = []
        for later in tracks:
            gap = later.start - early.end
            if later.hole == early.hole and 1 <= gap <= _LONGEST_GAP:
                # Where it vanishes the flow may be lost: then it goes on as it went.
                moved = flow.carry(early.rings[-1], early.end - 1, later.start)
                coasting = early.rings[-1] + _velocity(early) * (gap + 1)
                overlap = max(polygon_overlap(guess, later.rings[0]) for guess in (moved, coasting))
                if overlap >= _SAME_HOLE:
                    options.append((overlap, id(later), later))
        if not options:
            number += 1
            continue
        later = max(options)[2]
        gap = later.start - early.end
        last, way = early.rings[-1], later.rings[0].mean(0) - early.rings[-1].mean(0)
        for number_away in range(1, gap + 1):
            early.rings.append(last + way * (number_away / (gap + 1)))
            early.areas.append(0.0)
            early.shown.append(False)
        early.rings += later.rings
        early.areas += later.areas
        early.shown += later.shown
        tracks = [track for track in tracks if track is not later]
        joined += early.hole
    return tracks, joined


def _velocity(track: Track) -> Array:
    """Pixels a frame that its middle moved over its last few frames."""
    back = min(3, len(track.rings) - 1)
    if back == 0:
        return np.zeros(2)
    return np.asarray((track.rings[-1].mean(0) - track.rings[-1 - back].mean(0)) / back)


def polygon_overlap(a: Array, b: Array) -> float:
    """Intersection over union of two closed polylines, on whole pixels."""
    low = np.floor(np.minimum(a.min(0), b.min(0))).astype(int) - 1
    high = np.ceil(np.maximum(a.max(0), b.max(0))).astype(int) + 2
    apart = (a.max(0) < b.min(0)) | (b.max(0) < a.min(0))
    if apart.any():
        return 0.0
    size = (int(high[1] - low[1]), int(high[0] - low[0]))
    one, two = fill(a - low, size), fill(b - low, size)
    union = int(np.count_nonzero(one | two))
    return int(np.count_nonzero(one & two)) / union if union else 0.0


def fill(polygon: Array, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(height, width) of 0 and 1: pixels whose centre lies inside, to a sixteenth of a pixel."""
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.round((polygon - 0.5) * 16).astype(np.int32)], 1, shift=4)
    return mask
