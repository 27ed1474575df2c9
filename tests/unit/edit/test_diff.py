"""A new cut says exactly which frames it needs anew, per shot and media."""

from __future__ import annotations

from opentimelineio.schema import Clip, MissingReference

from pipeline.edit.diff import cut_diff, needed_frames
from pipeline.edit.otio_in import edit_contexts
from tests.golden.refresh_edits import CASES, cut, files, span


def test_a_moved_cut_needs_its_new_frames_and_drops_its_old() -> None:
    old = edit_contexts(
        cut(Clip("sh010", files(), span(1011, 24)), Clip("sh020", files(2001), span(2011, 10))), handles=4
    )
    new = edit_contexts(cut(Clip("sh010", files(), span(1015, 30))), handles=4)
    first, second = cut_diff(old, new)
    assert (first.shot, str(first.new), str(first.dropped), str(first.kept)) == (
        "sh010",
        "1039-1048",
        "1007-1010",
        "1011-1038",
    )
    assert (second.shot, str(second.new), str(second.dropped), str(second.kept)) == ("sh020", "", "2007-2024", "")
    assert second.changed


def test_the_same_cut_changes_nothing() -> None:
    contexts = edit_contexts(CASES["two_uses"]()[0], handles=8)
    assert not any(one.changed for one in cut_diff(contexts, contexts))


def test_a_reel_alone_does_not_merge_two_shots() -> None:
    clips = [Clip(name, MissingReference("A001"), span(start, 10)) for name, start in (("sh010", 0), ("sh020", 100))]
    assert len(needed_frames(edit_contexts(cut(*clips)))) == 2


def test_clips_that_do_not_play_or_were_refused_need_nothing() -> None:
    for name in ("disjoint", "unknown_curve", "zero_length"):
        assert needed_frames(edit_contexts(CASES[name]()[0])) == {}
    assert [shot for shot, _ in needed_frames(edit_contexts(CASES["switched_off"]()[0]))] == ["b"]


def test_a_change_is_plain_json() -> None:
    contexts = edit_contexts(CASES["lone_clip"]()[0])
    assert cut_diff([], contexts)[0].as_json() == {
        "shot": "sh010",
        "media": "/show/sh010/plate/sh010.####.exr",
        "new": "1011-1034",
        "dropped": "",
        "kept": "",
    }
