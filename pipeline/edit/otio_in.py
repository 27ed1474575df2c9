"""From a timeline to edit contexts: each clip's place in the cut, in whole frames of its own media.

Ends are exclusive in OpenTimelineIO and inclusive in this product: they are converted here and nowhere else. Which frames a
retimed clip uses stands in `timing.py`, what encloses a clip in `layout.py`, whose frames a number names in `media.py`, what
hosts write differently in `dialects.py`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline.edit import dialects
from pipeline.edit.context import EditContext, Retime, Transition
from pipeline.edit.files import NOTE, read_timeline
from pipeline.edit.layout import Layout, Place, Screen, Seen, Speed, Window, covers, places, seen, speed_of
from pipeline.edit.media import Media, media_of
from pipeline.edit.timing import TimeMap, exact, exact_near, frames, nominal, rate_of, seconds, touched
from pipeline.errors import EditError
from pipeline.frames import MOST_FRAMES
from pipeline.rate import FrameRate
from pipeline.shot import safe_name

__all__ = ["contexts_json", "edit_context", "edit_contexts", "find_place", "read_timeline", "reads_as_labels"]

MOST_HANDLES = 10_000
_MOST_NAMES = 12


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why no job can be made of a clip, and what to do about it."""

    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}"


@dataclass(frozen=True, slots=True)
class _Found:
    place: Place
    context: EditContext
    refusals: tuple[_Refusal, ...]


def edit_contexts(timeline: Any, *, clip: str | None = None, handles: int = 0) -> list[EditContext]:
    """The contexts of every picture clip in cut order, or of those that `clip` names.

    `handles` are record frames on either side, ceil(handles · |speed|) of the media. A clip that no job can be made of is listed
    all the same, with its `refusals`.
    Raises: EditError (no clip, none of that name, or times that are no numbers).
    """
    found = _all(timeline, handles)
    return [one.context for one in (found if clip is None else _named(found, clip))]


def edit_context(timeline: Any, clip: str | None, *, handles: int = 0) -> EditContext:
    """The context of one clip, fit to make a job of. `clip` is its name, or `name#2`; None when the cut has one clip alone.

    Raises: EditError (unknown or ambiguous name; disjoint ranges, an unknown retime curve, no length, trimmed away).
    """
    one = _one(_all(timeline, handles), clip)
    if one.refusals:
        first = one.refusals[0]
        more = f" (and {len(one.refusals) - 1} more)" if len(one.refusals) > 1 else ""
        raise EditError(f"clip {one.context.address!r}: {first.message}{more}", first.hint)
    return one.context


def contexts_json(
    path: Path | str, clip: str | None = None, handles: int = 0, rate: str | None = None
) -> list[dict[str, Any]]:
    """`edit_contexts` of a file as plain JSON, for the child that reads strangers' files.

    `rate`, as `24`, `23.976` or `24000/1001`, is for files that name none. Raises: EditError, RateError.
    """
    timeline = read_timeline(path, rate=None if rate is None else FrameRate.of(rate))
    return [context.as_json() for context in edit_contexts(timeline, clip=clip, handles=handles)]


def find_place(timeline: Any, clip: str | None) -> tuple[Place, EditContext]:
    """Where one clip stands in the timeline's tree, and its context. Raises: EditError (unknown or ambiguous name)."""
    one = _one(_all(timeline, 0), clip)
    return one.place, one.context


def _all(timeline: Any, handles: int) -> list[_Found]:
    if not 0 <= handles <= MOST_HANDLES:
        raise EditError(f"{handles} handles", f"give 0 to {MOST_HANDLES} frames")
    layout = Layout()
    standing = places(timeline)
    if not standing:
        raise EditError("the timeline has no picture clip", "export it with its video tracks")
    note = str(timeline.metadata.get(NOTE, ""))
    addresses = _addresses([str(place.clip.name) for place in standing])
    found = [
        _Builder(place, layout, handles).build(address, note)
        for place, address in zip(standing, addresses, strict=True)
    ]
    return _with_cuts(found)


def _addresses(names: Sequence[str]) -> list[str]:
    """What names each clip alone: its name, or `name#2` for the second of one name."""
    total = Counter(names)
    met: Counter[str] = Counter()
    out: list[str] = []
    for name in names:
        met[name] += 1
        out.append(name if total[name] == 1 else f"{name}#{met[name]}")
    return out


def _named(found: Sequence[_Found], clip: str) -> list[_Found]:
    """The clips of a name or address. Raises: EditError (none)."""
    out = [one for one in found if one.context.clip == clip] or [one for one in found if one.context.address == clip]
    if not out:
        names = list(dict.fromkeys(one.context.clip for one in found))
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        raise EditError(
            f"no picture clip is called {clip!r}", f"the cut has {', '.join(map(repr, names[:_MOST_NAMES]))}{more}"
        )
    return out


def _one(found: Sequence[_Found], clip: str | None) -> _Found:
    if clip is not None:
        named = _named(found, clip)
        if len(named) == 1:
            return named[0]
        where = ", ".join(f"{one.context.address!r} at record frame {one.context.record_in}" for one in named[:6])
        raise EditError(f"{len(named)} clips are called {clip!r}", f"name one by its order in the cut: {where}")
    if len(found) == 1:
        return found[0]
    names = ", ".join(repr(one.context.address) for one in found[:_MOST_NAMES])
    raise EditError(f"the cut has {len(found)} clips", f"name one of {names}")


def reads_as_labels(clip: Any, media: Media) -> bool:
    """Whether a clip's source range names frame *numbers* though it is written at another rate than the media's.

    Both readings are tried where the rates differ; the one that the media has more frames of is meant. A version of ours says which
    it was made for. Raises: EditError.
    """
    source = clip.source_range
    what = f"clip {clip.name!r}"
    if source is None or rate_of(source.start_time.rate, what) == media.rate:
        return False
    if media.labels:
        return True
    rate = rate_of(source.duration.rate, what)
    count = exact(source.duration.value, what)
    speed = abs(speed_of(clip).value)
    step = speed * media.rate / rate
    by_seconds = media.held(frames(source.start_time, media.written_rate, what), count, step)
    by_label = media.held(exact(source.start_time.value, what), count, speed)
    return dialects.labels_fit_better(by_seconds, by_label)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Frame numbers of the media, as `EditContext` has them."""

    cut_in: int
    cut_out: int
    source_first: int
    source_last: int
    head_in: int
    tail_out: int


class _Builder:
    """Makes one clip's context, gathering what to warn of and what forbids a job."""

    def __init__(self, place: Place, layout: Layout, handles: int) -> None:
        self.place = place
        self.clip = place.clip
        self.layout = layout
        self.handles = handles
        self.what = f"clip {place.clip.name!r}"
        self.warnings: list[str] = []
        self.refusals: list[_Refusal] = []

    def build(self, address: str, note: str) -> _Found:
        """The context. Raises: EditError (times or rates that are no numbers)."""
        media = media_of(self.clip)
        found = seen(self.place, self.layout)
        speed = self._speed(found, media)
        time, conform = self._time_map(media, speed, found.screen.rate)
        plays = self._reaches_screen(found, time)
        if found.ever and time.count > 0:
            record = found.screen.frames(found.cut)
        else:
            base = self._record_start(found)
            record = (base, base + max(math.ceil(time.count), 1) - 1)
            # What never plays is told whole, as if nothing enclosed it.
            rate = found.screen.rate
            whole = (Fraction(0), time.count / rate)
            found = Seen(Screen(rate), whole, whole)
        total = speed.value * found.screen.speed
        numbers = self._numbers(media, time, found, self.handles * abs(total) * conform)
        if plays:
            self.warnings += [f"it is covered by {name} while it plays" for name in covers(found, self.layout)[:3]]
        context = self._context(media, numbers, Retime(total), record, found, address)
        everything = (*([note] if note else []), *media.warnings, *self.warnings, *map(str, self.refusals))
        context = replace(
            context,
            plays=plays,
            warnings=tuple(dict.fromkeys(everything)),
            refusals=tuple(map(str, self.refusals)),
        )
        return _Found(self.place, context, tuple(self.refusals))

    def _speed(self, found: Seen, media: Media) -> Speed:
        speed = speed_of(self.clip)
        for name in (*speed.unknown, *found.unknown):
            self._refuse(
                f"the speed change {name!r} has a curve that the file doesn't say", "bake it into new media and relink"
            )
        if media.still:
            self.warnings.append("its media is one still picture, held")
            return Speed(Fraction(0), speed.unknown)
        if found.screen.speed != 1:
            self.warnings.append("a sequence that encloses it is retimed: its speed is in these frames")
        return speed

    def _time_map(self, media: Media, speed: Speed, record_rate: Fraction) -> tuple[TimeMap, Fraction]:
        """How the clip's record frames play its media; with it, media frames per record frame at speed 1."""
        source = self.clip.source_range
        count = self.layout.trim(self.clip).duration * record_rate
        conform = media.rate / record_rate
        if media.still:
            return TimeMap(media.origin, count, Fraction(0)), conform
        if source is None:
            return TimeMap(media.origin, count, abs(speed.value) * conform, speed.value < 0), conform
        start = frames(source.start_time, media.written_rate, self.what)
        own = rate_of(source.start_time.rate, self.what)
        if own != media.rate:
            said = f"its range is at {FrameRate(own)} frames a second, its media at {FrameRate(media.rate)}"
            label = exact(source.start_time.value, self.what)
            if reads_as_labels(self.clip, media):
                self.warnings.append(f"{said}: read as frame numbers, since the media has those")
                start, conform = label, own / record_rate
            else:
                other = "" if label == start else f", not at frame number {media.number(label)}"
                self.warnings.append(f"{said}: rescaled by seconds, so it starts at {media.number(start)}{other}")
        return TimeMap(start, count, abs(speed.value) * conform, speed.value < 0), conform

    def _reaches_screen(self, found: Seen, time: TimeMap) -> bool:
        """Whether anything of the clip plays; what has no length or is trimmed away is refused."""
        if not self.place.enabled:
            self.warnings.append("it is switched off in the cut")
        if self.clip.source_range is None and not self.layout.trim(self.clip).given:
            self._refuse("it has neither a source range nor an available range", "relink its media and export again")
            return False
        if time.count <= 0:
            self._refuse("it has no length", "trim it to at least one frame")
            return False
        if not found.ever:
            self._refuse("what encloses it trims it away", "extend the nested sequence, or name another clip")
            return False
        return self.place.enabled

    def _record_start(self, found: Seen) -> int:
        """Where a clip that never plays stands, as far as that can be said."""
        return math.floor(-found.screen.offset * found.screen.rate) if found.screen.scale == 1 else 0

    def _numbers(self, media: Media, time: TimeMap, found: Seen, reach: Fraction) -> _Numbers:
        """Cut, source and handles as frame numbers of the media; handles reach so many media frames, rounded up."""

        def used(window: Window) -> tuple[int, int]:
            screen = found.screen
            low, high = time.span(*(screen.at(moment) * screen.rate for moment in window))
            first, last = touched(low - media.origin, high - media.origin)
            return first, last if screen.speed else first  # of a fast clip, too, a frozen parent holds one frame

        cut, source, more = used(found.cut), used(found.overlapped), math.ceil(exact_near(reach))
        first, last = (media.number_at(index) for index in source)
        head, tail = media.number_at(source[0] - more), media.number_at(source[1] + more)
        if tail - head >= MOST_FRAMES:
            self._refuse(f"it plays more than {MOST_FRAMES} frames", "check its range, its speed and the handles")
        if media.first is not None and media.last is not None:
            head = min(first, max(media.first, head))
            tail = max(last, min(media.last, tail))
            if last < media.first or first > media.last:
                head, tail = first, last
                self._refuse(
                    f"it plays {first}-{last}, but its media is {media.first}-{media.last}: the two never meet, one is likely "
                    "timecode and the other file numbers",
                    "relink the media so that both count alike",
                )
        return _Numbers(media.number_at(cut[0]), media.number_at(cut[1]), first, last, head, tail)

    def _missing(self, media: Media, first: int, last: int) -> tuple[tuple[int, int], ...]:
        """What the cut plays and the media hasn't; nothing when a job is refused: no frame is made on a guess."""
        if media.first is None or media.last is None or self.refusals:
            return ()
        before = (first, min(last, media.first - media.step))
        after = (max(first, media.last + media.step), last)
        return tuple((a, b) for a, b in (before, after) if a <= b)

    def _context(
        self, media: Media, numbers: _Numbers, retime: Retime, record: tuple[int, int], found: Seen, address: str
    ) -> EditContext:
        before, after = self.place.transitions
        rate = found.screen.rate
        start = self._timeline_start(rate)
        name = str(self.clip.name)
        return EditContext(
            clip=name,
            shot=safe_name(dialects.shot_name(self.clip.metadata) or name),
            media=media.address,
            rate=FrameRate(media.rate),
            available_first=media.first,
            available_last=media.last,
            missing=self._missing(media, numbers.source_first, numbers.source_last),
            retime=retime,
            transition_in=_transition(before, rate),
            transition_out=_transition(after, rate),
            record_in=record[0] + start,
            record_out=record[1] + start,
            track=self.place.track,
            enabled=self.place.enabled,
            address=address,
            cut_in=numbers.cut_in,
            cut_out=numbers.cut_out,
            head_in=numbers.head_in,
            tail_out=numbers.tail_out,
            source_first=numbers.source_first,
            source_last=numbers.source_last,
        )

    def _timeline_start(self, rate: Fraction) -> int:
        """The timeline's first frame number: its timecode's label, when its rate differs only by 1000/1001."""
        timeline = self.place.timeline
        time = None if timeline is None else timeline.global_start_time
        if time is None:
            return 0
        what = "the timeline's start time"
        if nominal(rate_of(time.rate, what)) == nominal(rate):
            return round(exact(time.value, what))
        return round(seconds(time, what) * rate)

    def _refuse(self, message: str, hint: str) -> None:
        self.refusals.append(_Refusal(message, hint))


def _transition(transition: Any | None, rate: Fraction) -> Transition | None:
    if transition is None:
        return None
    lengths = (exact_near(seconds(t, "a transition") * rate) for t in (transition.in_offset, transition.out_offset))
    kind = str(transition.transition_type or transition.name or "transition")
    return Transition(kind, *(math.ceil(length) for length in lengths))


def _with_cuts(found: Sequence[_Found]) -> list[_Found]:
    """Add, to each context, where other clips' uses of the same media begin or end inside its frames.

    Only media with an address count: a reel or a name is no identity.
    """
    edges: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    for index, one in enumerate(found):
        context = one.context
        if context.plays and not context.refusals and ("/" in context.media or "\\" in context.media):
            key = (one.place.group, context.media)
            edges[key] += [(context.cut_in, index), (context.cut_out + 1, index)]
    for every in edges.values():
        every.sort()
    out: list[_Found] = []
    for index, one in enumerate(found):
        context = one.context
        every = edges.get((one.place.group, context.media), [])
        low = bisect_right(every, context.head_in, key=lambda edge: edge[0])
        high = bisect_left(every, context.tail_out, key=lambda edge: edge[0])
        inside = {frame for frame, owner in every[low:high] if owner != index}
        out.append(replace(one, context=replace(context, cuts=tuple(sorted(inside)))) if inside else one)
    return out
