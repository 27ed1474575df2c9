"""Files that are no timeline, or a hostile one, are refused with what, where and what to do, and crash nothing."""

from __future__ import annotations

import zipfile
from pathlib import Path

import opentimelineio as otio
import pytest

from pipeline.edit import files
from pipeline.edit.otio_in import edit_contexts, read_timeline
from pipeline.errors import EditError
from pipeline.rate import FrameRate
from tests.golden.refresh_edits import CASES

TIMELINE = otio.adapters.write_to_string(CASES["lone_clip"]()[0], "otio_json")


def refusal(path: Path) -> EditError:
    with pytest.raises(EditError) as caught:
        read_timeline(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("suffix", files.SUFFIXES)
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".otiod":
        path.mkdir()
        (path / "content.otio").touch()
    else:
        path.touch()
    assert "0 bytes" in refusal(path).message


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "gone.otio").message


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.otio").mkdir()
    assert "is a folder" in refusal(tmp_path / "cut.otio").message


def test_an_ending_that_no_timeline_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.mov"
    path.write_bytes(b"x")
    assert ".otio" in refusal(path).hint


@pytest.mark.parametrize(
    "text", ["not json", "{", '{"OTIO_SCHEMA": "Timeline.1"', '{"a": "open', "{}", "[]", "3", '"text"']
)
def test_json_that_is_no_timeline_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cut.otio"
    path.write_text(text)
    refusal(path)


def test_an_object_that_is_no_timeline_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cut.otio"
    path.write_text('{"OTIO_SCHEMA": "MissingReference.1", "name": "", "metadata": {}, "available_range": null}')
    assert "a MissingReference" in refusal(path).message


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"OTIO_SCHEMA":"Stack.1","children":['])
def test_hostile_nesting_is_refused_before_the_parser_sees_it(tmp_path: Path, opening: str) -> None:
    path = tmp_path / "cut.otio"
    path.write_text(opening * 200_000)
    assert "nested deeper" in refusal(path).message


def test_brackets_inside_text_are_no_nesting(tmp_path: Path) -> None:
    path = tmp_path / "cut.otio"
    path.write_text(TIMELINE.replace('"sh010"', '"' + "[" * 1000 + '\\"{{"', 1))
    assert edit_contexts(read_timeline(path))[0].clip.startswith("[[[")


def test_an_unclosed_text_full_of_escapes_is_refused_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "cut.otio"
    path.write_text('["' + '\\"' * 1_000_000)
    assert "inside quotes" in refusal(path).message


def test_a_file_past_the_size_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "cut.otio"
    with path.open("wb") as out:
        out.truncate(files.MOST_BYTES + 1)
    assert "MiB" in refusal(path).message


def test_a_bundle_is_read_without_its_media(tmp_path: Path) -> None:
    path = tmp_path / "cut.otioz"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("content.otio", TIMELINE)
    assert edit_contexts(read_timeline(path))[0].clip == "sh010"
    folder = tmp_path / "cut.otiod"
    folder.mkdir()
    (folder / "content.otio").write_text(TIMELINE)
    assert edit_contexts(read_timeline(folder))[0].clip == "sh010"


def test_a_bundle_that_expands_past_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 1 << 20)
    path = tmp_path / "bomb.otioz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("content.otio", " " * (2 << 20))
    assert path.stat().st_size < 1 << 16
    assert "expands past" in refusal(path).message


@pytest.mark.parametrize("members", [{}, {"other.txt": "x"}])
def test_a_bundle_without_a_timeline_is_refused(tmp_path: Path, members: dict[str, str]) -> None:
    path = tmp_path / "cut.otioz"
    with zipfile.ZipFile(path, "w") as bundle:
        for name, text in members.items():
            bundle.writestr(name, text)
    assert "no OTIO bundle" in refusal(path).message


def test_a_text_named_as_a_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.otioz"
    path.write_text("hello")
    assert "no OTIO bundle" in refusal(path).message


def test_xml_entities_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.xml"
    path.write_text('<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;">]><xmeml>&b;</xmeml>')
    assert "entities" in refusal(path).message


def test_deep_xml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.fcpxml"
    path.write_text("<a>" * 100_000)
    assert "nested deeper" in refusal(path).message


@pytest.mark.parametrize("text", ["plain words", "<xmeml><sequence>", "<html></html>"])
def test_xml_that_is_no_timeline_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cut.xml"
    path.write_text(text)
    refusal(path)


@pytest.mark.parametrize("name", ["cut.aaf", "cut.edl", "cut.ale"])
def test_another_text_under_a_timelines_ending_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("this is a shopping list\nmilk\n")
    with pytest.raises(EditError) as caught:
        read_timeline(path)
    assert caught.value.hint


def test_a_broken_aaf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.aaf"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 4000)
    refusal(path)


def test_a_newer_librarys_markers_are_read(tmp_path: Path) -> None:
    marker = (
        '{"OTIO_SCHEMA": "Marker.3", "metadata": {}, "name": "m", "color": {"OTIO_SCHEMA": "Color.1", "r": 1.0, "g": 0.0, '
        '"b": 0.0, "a": 1.0, "name": "red"}, "marked_range": {"OTIO_SCHEMA": "TimeRange.1", "duration": {"OTIO_SCHEMA": '
        '"RationalTime.1", "rate": 24, "value": 0}, "start_time": {"OTIO_SCHEMA": "RationalTime.1", "rate": 24, "value": 3}}}'
    )
    path = tmp_path / "cut.otio"
    path.write_text(TIMELINE.replace('"markers": []', f'"markers": [{marker}]', 1))
    clip = read_timeline(path)
    assert clip.markers[0].color == "RED"
    assert edit_contexts(clip)[0].cut_in == 1011


def test_a_schema_of_the_future_is_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "cut.otio"
    path.write_text(TIMELINE.replace("Clip.2", "Clip.9", 1))
    assert "newer OpenTimelineIO" in refusal(path).message


@pytest.mark.parametrize("rate", ["0.0", "-24.0", "1e9", "NaN", "Infinity"])
def test_a_rate_that_is_none_is_refused(tmp_path: Path, rate: str) -> None:
    path = tmp_path / "cut.otio"
    path.write_text(TIMELINE.replace('"rate": 24.0', f'"rate": {rate}'))
    with pytest.raises(EditError, match="rate"):
        edit_contexts(read_timeline(path))


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e300"])
def test_a_time_that_is_no_number_is_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "cut.otio"
    path.write_text(TIMELINE.replace('"value": 1011.0', f'"value": {value}', 1))
    with pytest.raises(EditError, match="not a time"):
        edit_contexts(read_timeline(path))


def test_an_edls_rate_can_be_told(tmp_path: Path) -> None:
    path = tmp_path / "cut.edl"
    path.write_text(
        "TITLE: t\n001  AX       V     C        01:00:00:00 01:00:01:00 00:00:00:00 00:00:01:00\n* FROM CLIP NAME:  a\n"
    )
    assumed = edit_contexts(read_timeline(path))[0]
    assert (assumed.cut_in, assumed.cut_out) == (86400, 86423)
    assert any("names no frame rate" in warning for warning in assumed.warnings)
    told = edit_contexts(read_timeline(path, rate=FrameRate.of(25)))[0]
    assert (told.cut_in, told.cut_out) == (90000, 90024)
    assert not any("names no frame rate" in warning for warning in told.warnings)
