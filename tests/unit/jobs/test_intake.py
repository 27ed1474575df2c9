"""What a submission's files hold, looked at for real, and where its faults are said to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.intake import look_at
from pipeline.jobs.spec import JobRequest, SubmissionFacts
from pipeline.media.exr import Frame, Part, write_frame
from pipeline.plate import Window
from tests.plates import SmallPlate, write_cut, write_small_plate


@pytest.fixture
def plate(tmp_path: Path) -> SmallPlate:
    return write_small_plate(tmp_path / "shot", count=5, width=40, height=24)


def look(small: SmallPlate, *, roots: tuple[Path, ...] = (), out: Path | None = None, **more: Any) -> SubmissionFacts:
    request = JobRequest.model_validate(small.request(**more))
    return look_at(request, roots=roots, publish_root=out or small.folder / "out")


def places(facts: SubmissionFacts) -> dict[str, str]:
    return {fault.where: fault.message for fault in facts.faults}


def test_a_good_submission_has_no_faults_and_leaves_nothing_behind(plate: SmallPlate) -> None:
    before = sorted(plate.folder.rglob("*"))
    facts = look(plate, cut=str(plate.cut), clip="sh010", handles=1)
    assert facts.faults == ()
    assert facts.frames == "1001-1005"
    assert set(facts.hashes) == {1001, 1002, 1003, 1004, 1005}
    assert [key.coverage > 0.1 and bool(key.hash) for key in facts.keys] == [True, True, True]
    assert facts.plate is not None
    assert facts.plate.rate == "24"
    assert sorted(plate.folder.rglob("*")) == before


@pytest.mark.parametrize("frames", ["1001-", "  ,", "1005-1001", "1001-1005x0", "1-99999999", "a,b"])
def test_a_text_that_is_no_range_is_the_fault_of_frames(plate: SmallPlate, frames: str) -> None:
    assert list(places(look(plate, frames=frames))) == ["frames"]
    plate.keys[1001].write_text("no picture")
    assert set(places(look(plate, frames=frames))) == {"frames", "key matte:1001"}


def test_frames_that_the_plate_has_not_are_named(plate: SmallPlate) -> None:
    assert "1006-1007" in places(look(plate, frames="1004-1007"))["plate"]


def test_only_the_frames_that_are_asked_for_are_decoded(plate: SmallPlate) -> None:
    plate.pattern.path(1005).write_text("broken")
    facts = look(plate, frames="1001-1003")
    assert facts.faults == ()
    assert set(facts.hashes) == {1001, 1002, 1003}


def test_a_clip_without_a_cut_and_a_cut_that_is_not_there(plate: SmallPlate) -> None:
    assert "no cut" in places(look(plate, clip="sh010"))["clip"]
    assert "nothing.otio" in places(look(plate, cut=str(plate.folder / "nothing.otio")))["cut"]


def test_a_cut_that_asks_for_more_than_there_is_gets_what_there_is_and_a_note(plate: SmallPlate) -> None:
    import opentimelineio as otio

    timeline = otio.adapters.read_from_file(str(plate.cut))
    clip = next(iter(timeline.find_clips()))
    clip.source_range = otio.opentime.TimeRange(otio.opentime.RationalTime(1003, 24), otio.opentime.RationalTime(7, 24))
    otio.adapters.write_to_file(timeline, str(plate.cut))
    facts = look(plate, cut=str(plate.cut), handles=0)
    assert (facts.frames, facts.faults) == ("1003-1005", ())
    assert any("1006-1009" in warning and "extension" in warning for warning in facts.warnings)


def test_a_cut_that_never_meets_the_plate_still_tells_of_the_plate(plate: SmallPlate) -> None:
    from pipeline.frames import FrameRange

    write_cut(plate.cut, plate.pattern, FrameRange.span(86400, 86420))
    facts = look(plate, cut=str(plate.cut))
    assert facts.frames == ""
    assert facts.plate is not None


def test_faults_of_cut_plate_keys_and_output_come_together(plate: SmallPlate, tmp_path: Path) -> None:
    plate.pattern.path(1003).write_bytes(b"")
    (tmp_path / "file").write_text("")
    plate.keys[1005].write_text("no picture")
    facts = look(plate, cut=str(plate.folder / "no.otio"), out=tmp_path / "file" / "out")
    assert {"cut", "plate frame 1003", "key matte:1005", "out"} == set(places(facts))


def test_every_path_of_a_submission_must_lie_inside_the_roots(plate: SmallPlate, tmp_path: Path) -> None:
    elsewhere = write_small_plate(tmp_path / "elsewhere", count=5, width=40, height=24)
    request = {
        "plate": str(elsewhere.pattern),
        "cut": str(elsewhere.cut),
        "keys": [{"frame": 1001, "path": str(elsewhere.keys[1001])}],
    }
    facts = look(plate, roots=(plate.folder,), **request)
    assert {where for where, words in places(facts).items() if "outside" in words} == {"plate", "cut", "key matte:1001"}
    assert facts.plate is None


def test_a_key_painted_at_display_size_is_measured_in_the_plates_data_window(tmp_path: Path) -> None:
    """Overscan: the plate's pixels reach 4 beyond its format; the key is the format."""
    plate = write_small_plate(tmp_path / "shot", count=5, width=40, height=24)
    data, display = Window(-4, -4, 35, 19), Window(0, 0, 31, 15)
    for frame in plate.frames:
        channels = {name: np.full((24, 40), 0.5, np.float16) for name in "RGB"}
        write_frame(plate.pattern.path(frame), Frame((Part("", {}, channels, data, display),)))
    key = plate.keys[1001]
    matte = np.zeros((16, 32), np.float32)
    matte[:8] = 1
    write_frame(key, Frame((Part("", {}, {"A": matte}, display, display),)))
    facts = look(plate, keys=[{"frame": 1001, "path": str(key)}])
    assert facts.faults == ()
    assert facts.keys[0].coverage == pytest.approx(8 * 32 / (24 * 40))
