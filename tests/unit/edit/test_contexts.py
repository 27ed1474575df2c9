"""Contexts of clips: names, refusals for jobs, what the golden edits don't say."""

from __future__ import annotations

from fractions import Fraction

import opentimelineio as otio
import pytest
from opentimelineio.schema import Clip, LinearTimeWarp, Stack, TimeEffect, Timeline, Track, Transition

from pipeline.edit.context import EditContext
from pipeline.edit.otio_in import edit_context, edit_contexts
from pipeline.errors import EditError
from tests.golden.refresh_edits import CASES, cut, files, movie, span, warped


def refused(timeline: object, clip: str | None = None, **options: int) -> EditError:
    with pytest.raises(EditError) as caught:
        edit_context(timeline, clip, **options)
    assert caught.value.hint
    return caught.value


def test_an_unknown_clip_is_refused_with_the_names_there_are() -> None:
    timeline = cut(Clip("sh010", files(), span(1011, 5)), Clip("sh020", files(), span(1031, 5)))
    error = refused(timeline, "sh030")
    assert "'sh030'" in error.message
    assert "'sh010', 'sh020'" in error.hint


def test_two_clips_of_one_name_are_refused_with_how_to_tell_them_apart() -> None:
    timeline = CASES["one_name_twice"]()[0]
    error = refused(timeline, "sh010")
    assert "2 clips" in error.message
    assert "'sh010#2' at record frame 10" in error.hint
    assert edit_context(timeline, "sh010#2").cut_in == 1031
    assert [one.cut_in for one in edit_contexts(timeline, clip="sh010")] == [1001, 1031]


def test_a_clip_that_is_really_called_so_goes_before_an_address() -> None:
    timeline = cut(
        Clip("a", files(), span(1001, 5)), Clip("a", files(), span(1011, 5)), Clip("a#2", files(), span(1021, 5))
    )
    assert edit_context(timeline, "a#2").cut_in == 1021


def test_a_cut_of_one_clip_needs_no_name_and_one_of_two_does() -> None:
    assert edit_context(CASES["lone_clip"]()[0], None).cut_in == 1011
    assert "2 clips" in refused(CASES["one_name_twice"]()[0]).message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("disjoint", "never meet"),
        ("unknown_curve", "'TimeWarp'"),
        ("zero_length", "no length"),
    ],
)
def test_a_job_is_refused_where_the_list_only_warns(name: str, words: str) -> None:
    timeline = CASES[name]()[0]
    assert words in refused(timeline, "sh010").message
    listed = edit_contexts(timeline)[0]
    assert words in listed.refusals[0]
    assert listed.refusals[0] in listed.warnings


def test_a_clip_trimmed_away_is_refused() -> None:
    assert "trims it away" in refused(CASES["nested_trim"]()[0], "c").message


def test_an_unknown_curve_on_an_enclosing_sequence_is_refused_too() -> None:
    stack = warped(Stack("inner", children=[Clip("sh010", files(), span(1011, 24))]), TimeEffect(effect_name="curve"))
    assert "'curve on 'inner''" in refused(cut(stack), "sh010").message.replace('"', "'")


def test_a_switched_off_effect_changes_nothing() -> None:
    effect = LinearTimeWarp(time_scalar=2.0)
    effect.enabled = False
    assert edit_context(cut(warped(Clip("sh010", files(), span(1011, 24)), effect)), "sh010").cut_out == 1034


def test_two_warps_multiply() -> None:
    clip = warped(Clip("a", files(), span(1011, 8)), LinearTimeWarp(time_scalar=3.0), LinearTimeWarp(time_scalar=-0.5))
    only = edit_context(cut(clip), "a")
    assert (only.retime.speed, only.cut_in, only.cut_out) == (Fraction(-3, 2), 1011, 1022)


@pytest.mark.parametrize(
    ("count", "speed", "last"),
    [
        (24, 2.0, 47),
        (24, -2.0, 47),
        (24, 0.5, 11),
        (24, -0.5, 11),
        (25, 0.5, 12),
        (25, 1.5, 37),
        (3, 1 / 3, 0),
        (4, 1 / 3, 1),
        (24, 1.0, 23),
        (24, -1.0, 23),
        (24, 0.0, 0),
        (2000, 1.2345, 2468),  # 2469 exactly, were it not for the float
    ],
)
def test_a_clip_uses_its_length_times_its_speed(count: int, speed: float, last: int) -> None:
    only = edit_context(warped(Clip("a", movie(0, 5000), span(0, count)), LinearTimeWarp(time_scalar=speed)), None)
    assert (only.source_first, only.source_last) == (0, last)


def test_rounding_of_a_rescaled_length_adds_no_frame() -> None:
    clip = Clip("a", movie(86400, 500), span(90000, 44 * 25 / 24 + 1e-9, 25))  # 44 frames of 24, written at 25
    only = edit_context(cut(clip), "a")
    assert (only.source_first, only.source_last) == (86400, 86443)


def test_a_clip_that_goes_by_inside_one_record_frame_of_a_fast_nest_is_used() -> None:
    inner = Track("inner", kind="Video")
    inner.extend(
        [
            Clip(name, movie(0, 100), span(10 * i, length))
            for i, (name, length) in enumerate([("a", 1), ("b", 1), ("c", 6)])
        ]
    )
    nest = warped(Stack("s", children=[inner], source_range=span(0, 2)), LinearTimeWarp(time_scalar=4.0))
    found = edit_contexts(cut(nest))
    assert [(one.plays, one.cut_in, one.cut_out, one.record_in, one.record_out) for one in found] == [
        (True, 0, 0, 0, 0),
        (True, 10, 10, 0, 0),
        (True, 20, 25, 1, 1),
    ]


def test_audio_is_no_picture() -> None:
    timeline = Timeline("cut")
    timeline.tracks.append(Track("A1", children=[Clip("sound", movie(), span(0, 10))], kind="Audio"))
    assert "no picture clip" in refused(timeline, "sound").message


def test_a_clip_without_any_range_is_refused() -> None:
    assert "neither" in refused(cut(Clip("sh010", otio.schema.MissingReference("x"))), "sh010").message


def test_an_active_key_that_names_no_media_is_a_warning() -> None:
    text = otio.adapters.write_to_string(Clip("sh010", files(), span(1011, 5)), "otio_json")
    clip = otio.adapters.read_from_string(text.replace('_key": "DEFAULT_MEDIA"', '_key": "gone"'), "otio_json")
    only = edit_context(clip, None)
    assert only.media == ""
    assert any("'gone' names no media" in warning for warning in only.warnings)


@pytest.mark.parametrize("handles", [-1, 10_001])
def test_handles_that_nobody_means_are_refused(handles: int) -> None:
    assert str(handles) in refused(CASES["lone_clip"]()[0], None, handles=handles).message


def test_a_clip_of_more_frames_than_a_shot_has_is_refused() -> None:
    assert "more than" in refused(cut(Clip("a", movie(0, 1e9), span(0, 2e6))), "a").message


def test_the_shot_comes_from_metadata_before_the_name() -> None:
    clip = Clip("A001_C002 (graded)", files(), span(1011, 5))
    assert edit_context(clip, None).shot == "A001-C002-graded"
    clip.metadata["shot"] = "sh 010"
    assert edit_context(clip, None).shot == "sh-010"
    clip.metadata["platewright"] = {"shot": "sh020"}
    assert edit_context(clip, None).shot == "sh020"


@pytest.mark.parametrize(
    ("url", "media"),
    [
        ("file:///show/a%20b%23.mov", "/show/a b#.mov"),
        ("file://localhost/show/a.mov", "/show/a.mov"),
        ("file:///D:/show/a.mov", "D:/show/a.mov"),
        ("file://server/share/a.mov", "//server/share/a.mov"),
        ("/show/50%25 grey.mov", "/show/50%25 grey.mov"),
        ("S:\\show\\a.mov", "S:\\show\\a.mov"),
        ("../../etc/passwd", "../../etc/passwd"),
        ("/show/sh010.%04d.exr", "/show/sh010.####.exr"),
        ("https://host/a%20b.mov", "https://host/a%20b.mov"),
    ],
)
def test_an_address_is_reported_as_a_path_and_trusted_for_nothing(url: str, media: str) -> None:
    assert edit_context(Clip("a", movie(url=url), span(86400, 5)), None).media == media


def test_frames_rescaled_with_float32_rates_come_back_whole() -> None:
    clip = Clip("a", movie(948674, 301, 25), span(909990.8339241028, 5, 23.976024627685547))
    assert edit_context(clip, None).cut_in == 948855


def test_a_transition_at_a_trimmed_end_of_a_nest_adds_no_frame() -> None:
    inner = Track("inner", kind="Video")
    dissolve = Transition("d", "SMPTE_Dissolve", otio.opentime.RationalTime(4, 24), otio.opentime.RationalTime(4, 24))
    inner.extend([Clip("a", files(), span(1001, 20)), dissolve, Clip("b", movie(), span(86410, 20))])
    inside = edit_context(cut(Stack("s", children=[inner], source_range=span(0, 22))), "a")
    assert (inside.cut_out, inside.source_last) == (1020, 1022)


def test_context_fields_are_in_order_and_round_trip() -> None:
    for build in CASES.values():
        for one in edit_contexts(build()[0], handles=8):
            assert one.head_in <= one.source_first <= one.cut_in <= one.cut_out <= one.source_last <= one.tail_out
            assert EditContext.from_json(one.as_json()) == one
