"""A published version is written into a copy of the cut, and plays the same frames there."""

from __future__ import annotations

import json
from pathlib import Path

import opentimelineio as otio
import pytest
from opentimelineio.schema import Clip

from pipeline.edit.context import EditContext
from pipeline.edit.otio_in import edit_context, edit_contexts, read_timeline
from pipeline.edit.otio_out import add_version, write_timeline
from pipeline.errors import EditError, StorageError
from pipeline.frames import FrameRange
from pipeline.shot import Shot
from pipeline.version import Version
from tests.golden.refresh_edits import CASES, cut, files, span

PLAYABLE = [
    name for name in CASES if name not in {"disjoint", "unknown_curve", "zero_length", "collection", "switched_off"}
]


def version(number: int = 1) -> Version:
    name = f"show_sh010_roto_v{number:03d}"
    return Version(Shot("show", "sh010"), "roto", number, name, Path("/publish/show/sh010/roto") / f"v{number:03d}")


def published(timeline: object, before: EditContext, *, frames: FrameRange | None = None, number: int = 1) -> object:
    """The cut with a version of every frame that the clip plays, as a caller does it."""
    frames = frames or FrameRange.span(before.head_in, before.tail_out)
    return add_version(
        timeline, before.address, version=version(number), frames=frames, rate=before.rate, record={"seed": 7}
    )


@pytest.mark.parametrize("name", PLAYABLE)
def test_a_version_plays_the_frames_that_the_clip_played(name: str) -> None:
    timeline = CASES[name]()[0]
    playable = [one for one in edit_contexts(timeline, handles=2) if not one.refusals]
    assert playable
    for before in playable:
        step = 2 if name == "sequence_on_twos" else 1
        frames = FrameRange.of(range(before.head_in, before.tail_out + 1, step))
        after = edit_context(published(timeline, before, frames=frames), before.address, handles=2)
        same = (
            "cut_in",
            "cut_out",
            "source_first",
            "source_last",
            "retime",
            "record_in",
            "record_out",
            "head_in",
            "tail_out",
        )
        assert {key: getattr(after, key) for key in same} == {key: getattr(before, key) for key in same}
        assert after.rate == before.rate
        assert (after.available_first, after.available_last, after.missing) == (frames.first, frames.last, ())
        assert after.media.startswith("/publish/show/sh010/roto/v001/show_sh010_roto_v001.")


def test_nothing_else_of_the_timeline_changes(tmp_path: Path) -> None:
    timeline = CASES["transition"]()[0]
    text = timeline.to_json_string()
    after = published(timeline, edit_context(timeline, "sh010"))
    assert timeline.to_json_string() == text
    old, new = json.loads(text), json.loads(after.to_json_string())
    clip_old = old["tracks"]["children"][0]["children"].pop(0)
    clip_new = new["tracks"]["children"][0]["children"].pop(0)
    assert new == old
    assert {key for key in clip_old if clip_old[key] != clip_new[key]} == {
        "media_references",
        "active_media_reference_key",
        "metadata",
    }
    assert clip_new["media_references"]["DEFAULT_MEDIA"] == clip_old["media_references"]["DEFAULT_MEDIA"]


def test_the_record_is_plain_metadata_that_reads_without_us(tmp_path: Path) -> None:
    timeline = CASES["lone_clip"]()[0]
    path = write_timeline(published(timeline, edit_context(timeline, None)), tmp_path / "cut.otio")
    clip = otio.adapters.read_from_file(str(path))
    reference = clip.media_references()["platewright"]
    assert dict(reference.metadata["platewright"]) == {
        "schema": "platewright.version/1",
        "version": "v001",
        "name": "show_sh010_roto_v001",
        "product": "roto",
        "frames": "1011-1034",
        "address": "show/sh010",
        "seed": 7,
        "replaces": "DEFAULT_MEDIA",
    }
    assert clip.metadata["platewright"]["schema"] == "platewright.version/1"
    assert clip.active_media_reference_key == "platewright"
    assert "SchemaDef" not in path.read_text()


def test_a_second_version_keeps_the_first_under_its_name() -> None:
    timeline = CASES["lone_clip"]()[0]
    before = edit_context(timeline, None, handles=2)
    twice = published(published(timeline, before), before, number=2)
    assert list(twice.media_references()) == ["DEFAULT_MEDIA", "platewright", "show_sh010_roto_v001"]
    assert edit_context(twice, None).media.endswith("v002.####.exr")
    assert twice.media_references()["platewright"].metadata["platewright"]["replaces"] == "show_sh010_roto_v001"
    assert edit_context(twice, None, handles=2).cut_in == before.cut_in


def test_a_named_shot_survives() -> None:
    clip = Clip("sh010", files(), span(1011, 5))
    clip.metadata["platewright"] = {"shot": "kept"}
    assert edit_context(published(clip, edit_context(clip, None)), None).shot == "kept"


def test_the_shot_extension_is_no_longer_missing() -> None:
    timeline = CASES["shot_extension"]()[0]
    before = edit_context(timeline, "sh010")
    assert before.missing == ((996, 1000), (1049, 1058))
    assert edit_context(published(timeline, before), "sh010").missing == ()


@pytest.mark.parametrize("clip", ["nobody", "sh010"])
def test_an_unknown_or_ambiguous_clip_is_refused(clip: str) -> None:
    with pytest.raises(EditError):
        add_version(
            CASES["one_name_twice"]()[0],
            clip,
            version=version(),
            frames=FrameRange.span(1, 2),
            rate=edit_contexts(CASES["lone_clip"]()[0])[0].rate,
            record={},
        )


def test_another_rate_than_the_cuts_is_refused() -> None:
    timeline = CASES["lone_clip"]()[0]
    with pytest.raises(EditError, match="24000/1001"):
        add_version(
            timeline,
            None,
            version=version(),
            frames=FrameRange.span(1011, 1034),
            rate=edit_contexts(CASES["float32_rates"]()[0])[0].rate,
            record={},
        )


def test_a_version_without_frames_and_a_record_that_is_no_json_are_refused() -> None:
    clip = CASES["lone_clip"]()[0]
    rate = edit_context(clip, None).rate
    with pytest.raises(EditError, match="no frames"):
        add_version(clip, None, version=version(), frames=FrameRange(), rate=rate, record={})
    with pytest.raises(EditError, match="plain JSON"):
        add_version(clip, None, version=version(), frames=FrameRange.span(1, 2), rate=rate, record={"path": Path("x")})


def test_what_the_reader_assumed_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "cut.edl"
    path.write_text("TITLE: t\n001  A V C  01:00:00:00 01:00:01:00 00:00:00:00 00:00:01:00\n* FROM CLIP NAME:  a\n")
    timeline = read_timeline(path)
    after = published(timeline, edit_context(timeline, "a"))
    assert "platewright.read" not in after.to_json_string()
    assert edit_context(after, "a").cut_in == 86400


def test_a_timeline_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    timeline = cut(Clip("sh010", files(), span(1011, 5)))
    path = tmp_path / "cut.otio"
    path.write_text("before")
    write_timeline(timeline, path)
    assert edit_context(read_timeline(path), "sh010").cut_in == 1011
    with pytest.raises(EditError, match=r"\.otio"):
        write_timeline(timeline, tmp_path / "cut.edl")
    with pytest.raises(StorageError):
        write_timeline(timeline, tmp_path / "nowhere" / "cut.otio")
    assert [one.name for one in tmp_path.iterdir()] == ["cut.otio"]
