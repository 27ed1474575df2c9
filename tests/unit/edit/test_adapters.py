"""EDL, Final Cut 7 XML, Final Cut X XML, AAF and ALE: files written here, read through the adapters we depend on."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import opentimelineio as otio
import pytest
from opentimelineio.opentime import RationalTime
from opentimelineio.schema import Clip, ExternalReference, Gap, Timeline, Track

from pipeline.edit.context import EditContext
from pipeline.edit.otio_in import edit_contexts, read_timeline
from pipeline.errors import EditError
from tests.golden.refresh_edits import span


def cut() -> Timeline:
    timeline = Timeline("cut", global_start_time=RationalTime(86400, 24))
    track = Track("V", kind="Video")
    track.append(Clip("sh010", ExternalReference("file:///show/a%20b.mov", span(86400, 240)), span(86420, 24)))
    track.append(Gap(source_range=span(0, 12)))
    track.append(Clip("sh020", ExternalReference("file:///show/c.mov", span(0, 100)), span(10, 30)))
    timeline.tracks.append(track)
    return timeline


def edl(path: Path, *events: str, fcm: str = "NON-DROP FRAME") -> list[EditContext]:
    path.write_text("\n".join(["TITLE: cut", f"FCM: {fcm}", *events]) + "\n")
    return edit_contexts(read_timeline(path))


def test_an_edl_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cut.edl"
    otio.adapters.write_to_file(cut(), str(path), "cmx_3600", rate=24)
    first, second = edit_contexts(read_timeline(path), handles=8)
    assert (first.clip, first.cut_in, first.cut_out, first.record_in) == ("sh010", 86420, 86443, 0)
    assert (second.cut_in, second.cut_out, second.record_in, second.record_out) == (10, 39, 36, 65)
    assert first.missing == () and first.available_first is None


def test_an_edl_of_25_frames_a_second_is_recognised(tmp_path: Path) -> None:
    only = edl(tmp_path / "cut.edl", "001  A V C  01:00:00:00 01:00:01:24 00:00:00:00 00:00:01:24")[0]
    assert (str(only.rate), only.cut_in, only.cut_out) == ("25", 90000, 90048)


def test_a_drop_frame_edl_counts_drop_frame_with_colons_too(tmp_path: Path) -> None:
    only = edl(
        tmp_path / "cut.edl",
        "001  A V C  01:00:00:00 01:00:01:00 01:00:00:00 01:00:01:00",
        "* FROM CLIP NAME:  a",
        fcm="DROP FRAME",
    )[0]
    assert (str(only.rate), only.cut_in, only.cut_out, only.record_in) == ("30000/1001", 107892, 107921, 107892)


def test_an_edls_speed_and_freeze_are_read(tmp_path: Path) -> None:
    fast, held = edl(
        tmp_path / "cut.edl",
        "001  A V C  01:00:00:00 01:00:02:00 01:00:00:00 01:00:01:00",
        "M2   A       048.0                01:00:00:00",
        "002  B V C  01:00:10:00 01:00:10:01 01:00:01:00 01:00:02:00",
        "M2   B       000.0                01:00:10:00",
        "* * FREEZE FRAME",
    )
    assert (fast.retime.speed, fast.cut_in, fast.cut_out) == (
        2,
        86400,
        86447,
    )  # the 48 frames of its own source in and out
    assert (held.retime.freeze, held.cut_in, held.cut_out, held.record_out - held.record_in) == (True, 86640, 86640, 23)


def test_a_plain_reverse_in_an_edl_is_not_lost(tmp_path: Path) -> None:
    only = edl(
        tmp_path / "cut.edl",
        "001  A V C  01:00:00:00 01:00:01:00 01:00:00:00 01:00:01:00",
        "M2   A      -024.0                01:00:00:00",
        "* FROM CLIP NAME:  a",
    )[0]
    assert (only.retime.speed, only.cut_in, only.cut_out) == (-1, 86400, 86423)


def test_an_edls_dissolve_reaches_past_the_cut(tmp_path: Path) -> None:
    first, second = edl(
        tmp_path / "cut.edl",
        "001  A V C      01:00:00:00 01:00:01:00 01:00:00:00 01:00:01:00",
        "002  A V C      01:00:01:00 01:00:01:00 01:00:01:00 01:00:01:00",
        "002  B V D 010  01:00:08:00 01:00:09:00 01:00:01:00 01:00:02:00",
        "* FROM CLIP NAME:  a",
        "* TO CLIP NAME:  b",
    )
    assert (first.record_in, second.record_in) == (86400, 86424)
    assert (first.cut_out, first.source_last) == (86423, 86433)
    assert first.transition_out is not None and first.transition_out.out_offset == 10
    assert (second.cut_in, second.source_first) == (86592, 86592)


def test_an_edl_with_timecodes_out_of_order_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EditError, match=r"cut\.edl"):
        edl(tmp_path / "cut.edl", "001  A V C  01:00:02:00 01:00:01:00 01:00:00:00 01:00:01:00 x")


def test_final_cut_7_xml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cut.xml"
    otio.adapters.write_to_file(cut(), str(path), "fcp_xml")
    first, second = edit_contexts(read_timeline(path), handles=8)
    assert (first.clip, first.cut_in, first.cut_out, first.record_in) == ("sh010", 86420, 86443, 86400)
    assert (first.media, first.available_first, first.available_last) == ("/show/a b.mov", 86400, 86639)
    assert (second.cut_in, second.cut_out, second.head_in, second.record_in) == (10, 39, 2, 86436)


def test_a_final_cut_7_speed_filter_is_refused_for_a_job(tmp_path: Path) -> None:
    path = tmp_path / "cut.xml"
    otio.adapters.write_to_file(cut(), str(path), "fcp_xml")
    filter_ = (
        "<filter><effect><name>Time Remap</name><effectid>timeremap</effectid><parameter><parameterid>speed</parameterid>"
        "<value>{}</value></parameter></effect></filter></clipitem>"
    )
    plain = path.read_text()
    path.write_text(plain.replace("</clipitem>", filter_.format(50), 1))
    assert "bake it" in edit_contexts(read_timeline(path))[0].refusals[0]
    path.write_text(plain.replace("</clipitem>", filter_.format(100), 1))
    assert edit_contexts(read_timeline(path))[0].refusals == ()


def test_final_cut_x_xml_is_read_under_either_ending(tmp_path: Path) -> None:
    for name in ("cut.fcpxml", "renamed.xml"):
        path = tmp_path / name
        path.write_text(otio.adapters.write_to_string(cut(), "fcpx_xml"))
        found = [one for one in edit_contexts(read_timeline(path)) if one.clip == "sh020"]
        assert found
        assert (found[0].cut_in, found[0].cut_out, str(found[0].rate)) == (10, 39, "24")


def test_an_aaf_is_read(tmp_path: Path) -> None:
    timeline = cut()
    for clip in timeline.find_clips():
        clip.media_reference.metadata["AAF"] = {"MobID": None}
    path = tmp_path / "cut.aaf"
    otio.adapters.write_to_file(timeline, str(path), "AAF", use_empty_mob_ids=True)
    first, second = edit_contexts(read_timeline(path), handles=8)
    assert (first.clip, first.cut_in, first.cut_out) == ("sh010", 86420, 86443)
    assert (second.cut_in, second.cut_out, second.record_in - first.record_in) == (10, 39, 36)
    assert (first.available_first, first.available_last) == (86400, 86639)


def test_an_ale_is_read_at_its_own_rate(tmp_path: Path) -> None:
    rows = (
        "Heading\nFIELD_DELIM\tTABS\nVIDEO_FORMAT\t1080\nFPS\t25\n\nColumn\nName\tStart\tEnd\n\nData\n"
        "sh010\t01:00:00:00\t01:00:02:00\n"
    )
    path = tmp_path / "bin.ale"
    path.write_text(rows)
    only = edit_contexts(read_timeline(path))[0]
    assert (only.clip, str(only.rate), only.cut_in, only.cut_out) == ("sh010", "25", 90000, 90049)
    assert not any("names no frame rate" in warning for warning in only.warnings)


def test_a_collection_of_timelines_keeps_their_cuts_apart(tmp_path: Path) -> None:
    path = tmp_path / "event.otio"
    otio.adapters.write_to_file(otio.schema.SerializableCollection("event", [cut(), cut()]), str(path))
    found = edit_contexts(read_timeline(path), handles=8)
    assert [one.address for one in found] == ["sh010#1", "sh020#1", "sh010#2", "sh020#2"]
    assert {one.cuts for one in found} == {()}
    assert found[0].retime.speed == Fraction(1)
