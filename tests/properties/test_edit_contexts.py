"""Retimes count exactly, handles stay inside the media, nothing that is there is called missing."""

from __future__ import annotations

import copy
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentimelineio.opentime import RationalTime
from opentimelineio.schema import Clip, Gap, LinearTimeWarp, Stack, Track, Transition

from pipeline.edit.context import EditContext
from pipeline.edit.otio_in import edit_context, edit_contexts, read_timeline
from pipeline.edit.otio_out import add_version
from pipeline.edit.timing import exact_speed
from pipeline.errors import EditError
from pipeline.frames import FrameRange
from pipeline.shot import Shot
from pipeline.version import Version
from tests.golden.refresh_edits import CASES, cut, files, movie, span, warped

RATES = st.sampled_from([24.0, 25.0, 30.0, 23.976, 24000 / 1001, 29.97, 30000 / 1001, 59.94, 23.976024627685547])
SPEEDS = st.fractions(min_value=-8, max_value=8, max_denominator=120)
QUICK = SPEEDS.filter(bool)
PARTS = st.sampled_from([Fraction(0), Fraction(0), Fraction(1, 4), Fraction(1, 2), Fraction(3, 4), Fraction(24, 25)])
"""Where in a media frame a source range begins."""
FEW = settings(max_examples=80, deadline=None)


def intervals(start: Fraction | int, count: int, speed: Fraction) -> list[tuple[Fraction, Fraction]]:
    """The rule, one record frame at a time: the media time that goes by in each."""
    order = range(count - 1, -1, -1) if speed < 0 else range(count)
    return [(start + k * abs(speed), start + (k + 1) * abs(speed)) for k in order]


def shown(start: Fraction | int, count: int, speed: Fraction) -> set[int]:
    """What a player without frame blending shows: the frame at the lower end of each record frame's media time."""
    return {math.floor(low) for low, _ in intervals(start, count, speed)}


@given(speed=st.fractions(min_value=-100, max_value=100, max_denominator=1000))
def test_a_speed_written_as_a_float_is_the_fraction_it_was(speed: Fraction) -> None:
    assert exact_speed(float(speed), "speed") == speed


@FEW
@given(start=st.integers(-500, 200_000), part=PARTS, count=st.integers(1, 400), speed=SPEEDS, rate=RATES)
def test_a_retimed_clip_uses_exactly_the_frames_that_its_media_time_touches(
    start: int, part: Fraction, count: int, speed: Fraction, rate: float
) -> None:
    clip = warped(Clip("a", movie(start - 5000, 100_000, rate), span(float(start + part), count, rate)))
    clip.effects.append(LinearTimeWarp(time_scalar=float(speed)))
    only = edit_context(cut(clip), "a")
    used = range(only.cut_in, only.cut_out + 1)
    assert only.cut_in == start
    assert len(used) == max(1, math.ceil(part + count * abs(speed)))
    assert shown(start + part, count, speed) <= set(used)
    assert only.retime.speed == speed
    assert only.record_out - only.record_in + 1 == count


@FEW
@given(count=st.integers(1, 300), speed=QUICK, handles=st.integers(0, 60))
def test_a_reverse_uses_the_frames_of_its_forward_and_handles_are_rounded_up(
    count: int, speed: Fraction, handles: int
) -> None:
    there, back = (
        edit_context(
            cut(warped(Clip("a", movie(0, 20_000), span(9000, count)), LinearTimeWarp(time_scalar=float(way * speed)))),
            "a",
            handles=handles,
        )
        for way in (1, -1)
    )
    ends = ("head_in", "source_first", "cut_in", "cut_out", "source_last", "tail_out", "record_in", "record_out")
    assert {end: getattr(there, end) for end in ends} == {end: getattr(back, end) for end in ends}
    reach = math.ceil(handles * abs(speed))
    assert (there.source_first - there.head_in, there.tail_out - there.source_last) == (reach, reach)


@FEW
@given(start=st.integers(0, 5000), part=PARTS, counts=st.lists(st.integers(1, 50), min_size=2, max_size=6), speed=QUICK)
def test_clips_cut_one_after_another_leave_no_frame_unused_between_them(
    start: int, part: Fraction, counts: list[int], speed: Fraction
) -> None:
    clips: list[Any] = []
    at = start + part
    for count in counts:
        clips.append(warped(Clip("a", movie(0, 100_000), span(float(at), count))))
        clips[-1].effects.append(LinearTimeWarp(time_scalar=float(speed)))
        at += count * abs(speed)
    found = edit_contexts(cut(*clips))
    for one, after in pairwise(found):
        assert one.source_last <= after.source_first <= one.source_last + 1 or one.source_first == after.source_first
    used = {frame for one in found for frame in range(one.source_first, one.source_last + 1)}
    assert used == set(range(start, math.ceil(at)))


@FEW
@given(count=st.integers(1, 60), speed=QUICK, before=st.integers(0, 20), after=st.integers(0, 20), part=PARTS)
def test_the_overlaps_of_transitions_move_the_ends_of_the_span(
    count: int, speed: Fraction, before: int, after: int, part: Fraction
) -> None:
    clip = warped(Clip("a", movie(0, 20_000), span(float(9000 + part), count)))
    clip.effects.append(LinearTimeWarp(time_scalar=float(speed)))
    fades = (
        Transition("d", "SMPTE_Dissolve", RationalTime(before, 24), RationalTime(0, 24)),
        Transition("d", "SMPTE_Dissolve", RationalTime(0, 24), RationalTime(after, 24)),
    )
    ends = (Clip(name, movie(), span(86400, 30)) for name in "xy")
    only = edit_context(cut(next(ends), fades[0], clip, fades[1], next(ends)), "a")
    below, above = (after, before) if speed < 0 else (before, after)
    assert only.source_first == math.floor(9000 + part - below * abs(speed))
    assert only.source_last == math.ceil(9000 + part + (count + above) * abs(speed)) - 1
    assert (only.cut_in, only.cut_out) == (9000, math.ceil(9000 + part + count * abs(speed)) - 1)


@FEW
@given(
    gap=st.integers(0, 30),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    first=st.integers(0, 20),
    count=st.integers(1, 60),
    speed=QUICK,
)
def test_clips_in_a_retimed_nest_use_what_each_record_frame_touches(
    gap: int, lengths: list[int], first: int, count: int, speed: Fraction
) -> None:
    inner = Track("inner", kind="Video")
    inner.extend([Clip(str(i), movie(0, 10_000), span(1000 * i, length)) for i, length in enumerate(lengths)])
    nest = warped(Stack("nest", children=[inner], source_range=span(first, count)))
    nest.effects.append(LinearTimeWarp(time_scalar=float(speed)))
    used: dict[int, set[int]] = {i: set() for i in range(len(lengths))}
    around: dict[int, list[int]] = {i: [] for i in used}
    on_screen: dict[int, list[int]] = {i: [] for i in used}
    for record, (low, high) in enumerate(intervals(first, count, speed)):
        at = 0
        for i, length in enumerate(lengths):
            begin, end = max(low, Fraction(at)), min(high, Fraction(at + length))
            if begin < end:
                used[i] |= {1000 * i + f - at for f in range(math.floor(begin), math.ceil(end))}
                around[i].append(gap + record)
            if at <= low < at + length:
                on_screen[i].append(gap + record)
            at += length
    for i, one in enumerate(edit_contexts(cut(Gap(source_range=span(0, gap)), nest))):
        assert one.plays == bool(used[i])
        if used[i]:
            assert set(range(one.cut_in, one.cut_out + 1)) == used[i]
            records = on_screen[i] or around[i]
            assert (one.record_in, one.record_out) == (records[0], records[-1])


@FEW
@given(count=st.integers(1, 200), part=PARTS, speed=SPEEDS, handles=st.integers(0, 20))
def test_a_version_of_a_retimed_clip_reads_back_as_the_clip(
    count: int, part: Fraction, speed: Fraction, handles: int
) -> None:
    clip = warped(Clip("a", files(1001, 2000), span(float(1500 + part), count)), LinearTimeWarp())
    clip.effects[0].time_scalar = float(speed)
    before = edit_context(cut(clip), "a", handles=handles)
    version = Version(Shot("show", "a"), "roto", 1, "show_a_roto_v001", Path("/publish/v001"))
    frames = FrameRange.span(before.head_in, before.tail_out)
    written = add_version(cut(clip), "a", version=version, frames=frames, rate=before.rate, record={})
    after = edit_context(written, "a", handles=handles)
    assert after == replace(
        before,
        media=after.media,
        missing=(),
        available_first=before.head_in,
        available_last=before.tail_out,
        warnings=after.warnings,
    )
    assert after.media == "/publish/v001/show_a_roto_v001.####.exr"


@FEW
@given(
    have=st.tuples(st.integers(900, 1100), st.integers(1, 200)),
    play=st.tuples(st.integers(800, 1300), st.integers(1, 200)),
    speed=SPEEDS,
    handles=st.integers(0, 50),
)
def test_handles_stay_inside_the_media_and_missing_is_what_it_lacks(
    have: tuple[int, int], play: tuple[int, int], speed: Fraction, handles: int
) -> None:
    clip = warped(Clip("a", files(*have), span(*play)), LinearTimeWarp(time_scalar=float(speed)))
    one = edit_contexts(cut(clip), handles=handles)[0]
    available = FrameRange.span(have[0], have[0] + have[1] - 1)
    source = FrameRange.span(one.source_first, one.source_last)
    missing = FrameRange.of(f for a, b in one.missing for f in range(a, b + 1))
    assert (one.available_first, one.available_last) == (available.first, available.last)
    assert one.head_in <= one.source_first <= one.cut_in <= one.cut_out <= one.source_last <= one.tail_out
    assert FrameRange.span(one.head_in, one.tail_out) - source - available == FrameRange()
    assert missing & available == FrameRange()
    assert missing == (FrameRange() if one.refusals else source - available)
    assert bool(one.refusals) == (not (source & available))
    reach = math.ceil(handles * abs(speed))
    assert one.source_first - one.head_in <= reach and one.tail_out - one.source_last <= reach


@FEW
@given(
    uses=st.lists(st.tuples(st.integers(86400, 86600), st.integers(1, 60)), min_size=1, max_size=6),
    handles=st.integers(0, 30),
)
def test_cuts_are_where_other_uses_begin_or_end(uses: list[tuple[int, int]], handles: int) -> None:
    found = edit_contexts(
        cut(*(Clip(f"c{i}", movie(86400, 400), span(*use)) for i, use in enumerate(uses))), handles=handles
    )
    for i, one in enumerate(found):
        edges = {edge for j, (start, length) in enumerate(uses) if j != i for edge in (start, start + length)}
        assert one.cuts == tuple(sorted(edge for edge in edges if one.head_in < edge < one.tail_out))
        assert EditContext.from_json(one.as_json()) == one


SPOILT = st.sampled_from(
    [
        0.0,
        -1.0,
        1.0,
        2.0,
        0.5,
        23.976,
        1001.0,
        1010.5,
        1e4,
        1e9,
        -1e12,
        1e308,
        math.nan,
        math.inf,
        True,
        "",
        "x",
        None,
        [],
        {},
    ]
)


def slots(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in parsed JSON that can be overwritten."""
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from slots(node[key])


@settings(max_examples=120, deadline=None)
@given(
    name=st.sampled_from(sorted(CASES)),
    spoil=st.lists(st.tuples(st.integers(0, 10**6), SPOILT), min_size=1, max_size=3),
)
def test_a_damaged_timeline_gives_contexts_in_order_or_an_edit_error(name: str, spoil: list[tuple[int, Any]]) -> None:
    root = json.loads(CASES[name]()[0].to_json_string())
    for where, value in spoil:
        places = list(slots(root))
        node, key = places[where % len(places)]
        node[key] = copy.deepcopy(value)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cut.otio"
        path.write_text(json.dumps(root))
        try:
            found = edit_contexts(read_timeline(path), handles=8)
        except EditError as error:
            assert error.hint
            return
    for one in found:
        assert one.head_in <= one.source_first <= one.cut_in <= one.cut_out <= one.source_last <= one.tail_out
        assert EditContext.from_json(json.loads(json.dumps(one.as_json()))) == one
