"""Where every clip of a timeline lies, and which of its frames reach the screen through all that encloses it.

Positions are exact seconds; OpenTimelineIO's own transforms aren't used, since they ignore the retimes of parents, round in floats,
and read the record start of a CMX 3600 list as a trim. Spans are half-open: the start of a clip is in, its end is not.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import opentimelineio as otio

from pipeline.edit import dialects
from pipeline.edit.timing import NEAR, TimeMap, exact, exact_near, exact_speed, rate_of, seconds, touched
from pipeline.errors import EditError

Window = tuple[Fraction, Fraction]
"""A span of record time, in seconds from the root's start: its first moment, and the first one after it."""
_ALWAYS = (Fraction(-(1 << 48)), Fraction(1 << 48))
MOST_CLIPS = 100_000
_TimeEffect = otio.schema.TimeEffect
_LinearTimeWarp = otio.schema.LinearTimeWarp


@dataclass(frozen=True, slots=True)
class Speed:
    """What an item's effects do to its time. `unknown` names those whose curve the file doesn't say: the value leaves them out."""

    value: Fraction = Fraction(1)
    unknown: tuple[str, ...] = ()


def speed_of(item: Any) -> Speed:
    """The product of an item's linear retimes, 0 for a freeze. Raises: EditError (a scalar that is no number)."""
    value = Fraction(1)
    unknown: list[str] = []
    for effect in item.effects:
        if not getattr(effect, "enabled", True):
            continue
        if isinstance(effect, otio.schema.FreezeFrame):
            value = Fraction(0)
        elif isinstance(effect, _LinearTimeWarp):
            value *= exact_speed(effect.time_scalar, f"clip {item.name!r}")
        elif isinstance(effect, _TimeEffect):
            unknown.append(effect.effect_name or effect.name or effect.schema_name())
        elif effect.is_unknown_schema:
            if "time" in effect.original_schema_name.lower():
                unknown.append(effect.original_schema_name)
        elif (words := dialects.fcp7_speed(effect)) is not None:
            unknown.append(words)
    return Speed(value, tuple(unknown))


@dataclass(frozen=True, slots=True)
class Trim:
    """An item's own range, in seconds: `start` inside it, `duration` outside it. `placed` moves a track's children right."""

    start: Fraction
    duration: Fraction
    rate: Fraction
    given: bool
    placed: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Place:
    """One clip, and the compositions from the root down to it, each with the index of its child."""

    clip: Any
    chain: tuple[tuple[Any, int], ...]
    timeline: Any = None
    group: int = 0
    """Clips of one group share a timeline."""

    @property
    def track(self) -> str:
        """The name of the nearest track."""
        return next((str(node.name) for node, _ in reversed(self.chain) if isinstance(node, otio.schema.Track)), "")

    @property
    def enabled(self) -> bool:
        """Whether the clip and all that encloses it are switched on."""
        return bool(self.clip.enabled) and all(node.enabled for node, _ in self.chain)

    @property
    def transitions(self) -> tuple[Any | None, Any | None]:
        """The transitions right before and after the clip in its track."""
        if not self.chain or not isinstance(self.chain[-1][0], otio.schema.Track):
            return None, None
        track, index = self.chain[-1]
        before = track[index - 1] if index > 0 else None
        after = track[index + 1] if index + 1 < len(track) else None
        kind = otio.schema.Transition
        return before if isinstance(before, kind) else None, after if isinstance(after, kind) else None


def places(root: Any) -> list[Place]:
    """Every picture clip in cut order: timelines as they stand, tracks from the bottom up, then by time.

    Raises: EditError (more than `MOST_CLIPS`).
    """
    out: list[Place] = []
    for group, (timeline, top) in enumerate(_roots(root)):
        for clip, chain in _clips(top, ()):
            out.append(Place(clip, chain, timeline, group))
            if len(out) > MOST_CLIPS:
                raise EditError(f"more than {MOST_CLIPS} clips", "export one reel or sequence at a time")
    return out


def _roots(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, otio.schema.Timeline):
        yield node, node.tracks
    elif isinstance(node, otio.schema.SerializableCollection):
        for child in node:
            yield from _roots(child)
    elif isinstance(node, (otio.schema.Clip, otio.core.Composition)):
        yield None, node


def _clips(node: Any, chain: tuple[tuple[Any, int], ...]) -> Iterator[tuple[Any, tuple[tuple[Any, int], ...]]]:
    if isinstance(node, otio.schema.Clip):
        yield node, chain
    elif isinstance(node, otio.core.Composition):
        if isinstance(node, otio.schema.Track) and node.kind != otio.schema.TrackKind.Video:
            return
        for index, child in enumerate(node):
            yield from _clips(child, (*chain, (node, index)))


class Layout:
    """Durations and positions inside one file, each computed once."""

    def __init__(self) -> None:
        self._trims: dict[int, tuple[Any, Trim]] = {}
        self._offsets: dict[int, tuple[Any, list[tuple[Fraction, Fraction]]]] = {}

    def trim(self, item: Any) -> Trim:
        """The range of a clip, gap or composition. A clip without any range has a duration of 0. Raises: EditError."""
        known = self._trims.get(id(item))
        if known is None:
            known = self._trims[id(item)] = (item, self._trim(item))
        return known[1]

    def _trim(self, item: Any) -> Trim:
        what = f"{item.schema_name()} {item.name!r}"
        given = item.source_range
        if given is None and isinstance(item, otio.schema.Clip):
            given = None if item.media_reference is None else item.media_reference.available_range
        if isinstance(item, otio.core.Composition):
            available = self._available(item)
            if given is None:
                return Trim(Fraction(0), available, self._child_rate(item), False)
            trim = _trim_of(given, what)
            if isinstance(item, otio.schema.Track):
                placed = dialects.record_placement(trim.start, trim.duration, available)
                if placed:
                    return Trim(Fraction(0), available + placed, trim.rate, False, placed)
            return trim
        return Trim(Fraction(0), Fraction(0), Fraction(24), False) if given is None else _trim_of(given, what)

    def offsets(self, node: Any) -> list[tuple[Fraction, Fraction]]:
        """Start and end of every child inside a composition; a transition has no length of its own."""
        known = self._offsets.get(id(node))
        if known is None:
            known = self._offsets[id(node)] = (node, self._place_children(node))
        return known[1]

    def _place_children(self, node: Any) -> list[tuple[Fraction, Fraction]]:
        sequential = isinstance(node, otio.schema.Track)
        at = self.trim(node).placed if sequential else Fraction(0)
        out: list[tuple[Fraction, Fraction]] = []
        for child in node:
            length = self.trim(child).duration if isinstance(child, otio.core.Item) else Fraction(0)
            out.append((at, at + length))
            at += length if sequential else 0
        return out

    def _available(self, node: Any) -> Fraction:
        lengths = [self.trim(child).duration for child in node if isinstance(child, otio.core.Item)]
        if isinstance(node, otio.schema.Track):
            return sum(lengths, Fraction(0))
        return max(lengths, default=Fraction(0))

    def _child_rate(self, node: Any) -> Fraction:
        return next((self.trim(child).rate for child in node if isinstance(child, otio.core.Item)), Fraction(24))

    def record_rate(self, place: Place) -> Fraction:
        """Record frames a second for a clip: its range's rate, or the timeline's when Premiere halved it."""
        rate = self.trim(place.clip).rate
        start = None if place.timeline is None else place.timeline.global_start_time
        timeline_rate = None if start is None else rate_of(start.rate, "the timeline's start time")
        return rate * dialects.record_multiple(timeline_rate, rate)


def _trim_of(given: Any, what: str) -> Trim:
    start, duration = given.start_time, given.duration
    rate = rate_of(duration.rate, what)
    return Trim(seconds(start, what), max(Fraction(0), exact(duration.value, what) / rate), rate, True)


@dataclass(frozen=True, slots=True)
class Screen:
    """Follows record time from the root down: T seconds in, an item plays its own second `at(T)`."""

    rate: Fraction
    """Record frames a second."""
    scale: Fraction = Fraction(1)
    """Seconds of the item a second of record time, through the retimes of its parents; negative in reverse, never 0."""
    offset: Fraction = Fraction(0)
    speed: Fraction = Fraction(1)
    """The product of the parents' speeds: `scale`, but 0 when one of them is frozen."""

    def at(self, time: Fraction) -> Fraction:
        """Seconds inside the item reached so far."""
        return time * self.scale + self.offset

    def moved(self, by: Fraction) -> Screen:
        """Later by so many seconds."""
        return replace(self, offset=self.offset + by)

    def inside(self, trim: Trim, speed: Fraction) -> Screen:
        """Inside a parent with a range and a speed. What is frozen plays its one frame, stretched over the whole length."""
        if speed:
            time = TimeMap(trim.start, trim.duration, abs(speed), speed < 0)
        else:
            frame = 1 / trim.rate
            held = math.floor(exact_near(trim.start * trim.rate)) * frame
            time = TimeMap(held, trim.duration, frame / (trim.duration or frame))
        return replace(self, scale=self.scale * time.slope, offset=time.position(self.offset), speed=self.speed * speed)

    def within(self, window: Window, first: Fraction, end: Fraction) -> Window:
        """The part of `window` at which first ≤ at(T) < end; it ends where it begins, or before, when there is none."""
        begin, stop = sorted(((first - self.offset) / self.scale, (end - self.offset) / self.scale))
        return max(window[0], begin), min(window[1], stop)

    def frames(self, window: Window) -> tuple[int, int]:
        """The record frames of a window that has a length, inclusive.

        A frame that two clips share belongs to the one that a player without frame blending shows: the one at its start or,
        in reverse, at its end. A window that has no such frame gets the one in which it lies.
        """
        begin, end = (exact_near(time * self.rate) for time in window)
        first, last = touched(begin, end)
        return (first, max(first, math.floor(end) - 1)) if self.scale < 0 else (min(math.ceil(begin), last), last)


@dataclass(frozen=True, slots=True)
class Seen:
    """When a clip is on the screen: between its cuts, and with its transitions' overlaps.

    `screen` leads to the clip's own outside time. `levels` keeps, for each enclosing stack, how to get there.
    """

    screen: Screen
    cut: Window
    overlapped: Window
    unknown: tuple[str, ...] = ()
    levels: tuple[tuple[Any, int, Screen], ...] = field(default=())

    @property
    def ever(self) -> bool:
        """Whether anything of it is left between the trims of what encloses it, beyond the rounding of floats."""
        return (self.cut[1] - self.cut[0]) * self.screen.rate * max(Fraction(1), abs(self.screen.scale)) > NEAR


def seen(place: Place, layout: Layout) -> Seen:
    """Follow a clip from the root down through trims, nesting and the retimes of its parents. Raises: EditError."""
    screen = Screen(layout.record_rate(place))
    cut = overlapped = _ALWAYS
    unknown: list[str] = []
    levels: list[tuple[Any, int, Screen]] = []
    for node, index in place.chain:
        trim = layout.trim(node)
        speed = speed_of(node)
        unknown += [f"{name} on {node.name!r}" for name in speed.unknown]
        if trim.given or speed.value != 1:
            cut = screen.within(cut, Fraction(0), trim.duration)
            overlapped = screen.within(overlapped, Fraction(0), trim.duration)
        screen = screen.inside(trim, speed.value)
        if isinstance(node, otio.schema.Stack):
            levels.append((node, index, screen))
        first, end = layout.offsets(node)[index]
        cut = screen.within(cut, first, end)
        before, after = place.transitions if node is place.chain[-1][0] else (None, None)
        head = Fraction(0) if before is None else max(Fraction(0), seconds(before.in_offset, "a transition"))
        tail = Fraction(0) if after is None else max(Fraction(0), seconds(after.out_offset, "a transition"))
        overlapped = screen.within(overlapped, first - head, end + tail)
        screen = screen.moved(-first)
    if not place.chain:
        cut = overlapped = screen.within(_ALWAYS, Fraction(0), layout.trim(place.clip).duration)
    return Seen(screen, cut, overlapped, tuple(unknown), tuple(levels))


def covers(found: Seen, layout: Layout) -> list[str]:
    """What lies over the clip on higher tracks while it plays, as words; transparency isn't known to a timeline."""
    out: list[str] = []
    for stack, index, screen in found.levels:
        start, end = sorted(map(screen.at, found.cut))
        for other in list(stack)[index + 1 :]:
            if other.enabled and getattr(other, "kind", "Video") == otio.schema.TrackKind.Video:
                out += [f"{name!r} on {str(other.name)!r}" for name in _over(other, layout, start, end)]
    return out


def _over(other: Any, layout: Layout, start: Fraction, end: Fraction) -> list[str]:
    """Names of the items of a track, or the item itself, that show between two times of its parent."""
    if not isinstance(other, otio.schema.Track):
        hit = isinstance(other, otio.core.Item) and not isinstance(other, otio.schema.Gap)
        return [str(other.name)] if hit and layout.trim(other).duration > start else []
    trim = layout.trim(other)
    if trim.given and (start >= trim.duration or end <= 0):
        return []
    start, end = start + trim.start, end + trim.start
    offsets = layout.offsets(other)
    at = max(0, bisect_right(offsets, start, key=lambda pair: pair[0]) - 1)
    out: list[str] = []
    while at < len(offsets) and offsets[at][0] < end:
        child = other[at]
        plays = isinstance(child, otio.core.Item) and not isinstance(child, otio.schema.Gap) and child.enabled
        if plays and offsets[at][1] > start:
            out.append(str(child.name))
        at += 1
    return out
