"""What a submission is told about its plate and keys: everything, at once."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio
import pytest

from pipeline.frames import FrameRange
from pipeline.layer import Layer
from pipeline.media import inspect
from pipeline.media.exr import Frame, Part, pixel_hash, write_frame
from pipeline.media.inspect import PlateInspection, inspect_key, inspect_plate
from pipeline.plate import Window
from pipeline.rate import FrameRate
from tests.unit.media.frames import HEADER, awkward_float, photo, rgb_frame

WINDOW = Window.of_size(60, 40)


def plate(folder: Path, frames: range = range(1001, 1006), **options: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for frame in frames:
        write_frame(folder / f"a.{frame}.exr", rgb_frame(header=HEADER, seed=frame), **options)
    return folder


def look(folder: Path, frames: str | None = None, **options: Any) -> PlateInspection:
    asked = None if frames is None else FrameRange.parse(frames)
    return inspect_plate(str(folder), frames=asked, colorspace=options.pop("colorspace", None), **options)


def told(found: PlateInspection) -> dict[str, str]:
    return {fault.where: fault.message for fault in found.faults}


def test_a_whole_plate_has_no_faults_and_is_described(tmp_path: Path) -> None:
    found = look(plate(tmp_path / "p"))
    assert found.faults == () and found.warnings == ()
    assert found.plate is not None
    assert str(found.plate.frames) == "1001-1005"
    assert found.plate.layers == (Layer("", ("R", "G", "B")),)
    assert (found.plate.data_window, found.plate.display_window) == (WINDOW, WINDOW)
    assert found.plate.rate == FrameRate(Fraction(24000, 1001))
    assert (found.plate.timecode, found.plate.colorspace, found.source_colorspace) == (
        "01:02:03:04",
        "lin_ap1_scene",
        "lin_ap1_scene",
    )
    assert found.hashes == {n: pixel_hash(_as_read(rgb_frame(header=HEADER, seed=n))) for n in range(1001, 1006)}


def _as_read(frame: Frame) -> Frame:
    from tests.unit.media.frames import rounded

    part = frame.main
    return Frame((Part(part.name, rounded(part.header), part.channels, part.data_window, part.display_window),))


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    folder = plate(tmp_path / "p", range(1001, 1013))
    file = lambda n: folder / f"a.{n}.exr"  # noqa: E731
    file(1002).unlink()
    file(1003).write_text("I am a text file")
    file(1004).write_bytes(file(1004).read_bytes()[:-100])
    whole = file(1005).read_bytes()
    file(1005).write_bytes(whole[:-1500] + bytes(1500))
    write_frame(file(1006), rgb_frame(20, 30, header=HEADER))
    bad = {name: plane.copy() for name, plane in rgb_frame().main.channels.items()}
    bad["G"][7, 9] = np.nan
    bad["G"][8, 9] = -np.inf
    write_frame(file(1007), Frame((Part("", HEADER, bad, WINDOW, WINDOW),)))
    write_frame(file(1008), rgb_frame(header={**HEADER, "framesPerSecond": Fraction(25)}))
    write_frame(file(1009), Frame((Part("", HEADER, {**bad, "A": photo(40, 60)}, WINDOW, WINDOW),)))
    file(1010).write_bytes(b"")
    found = look(folder, "1001-1014")
    words = told(found)
    assert "frames 1002,1013-1014" in words["plate"]
    assert "is not an image" in words["plate frame 1003"]
    assert "cut off at scanline 39" in words["plate frame 1004"]
    assert "holds no pixels for scanline" in words["plate frame 1005"] or "zeros" in words["plate frame 1005"]
    assert words["plate frame 1006"] == "size changes: 30×20 instead of 60×40"
    assert "channel G: 2 pixels are NaN or infinite, the first (nan) at x 9, y 7" in words["plate frame 1007"]
    assert words["plate frame 1008"] == "rate changes: 25 instead of 24000/1001"
    assert [f.message.split(":")[0] for f in found.faults if f.where == "plate frame 1009"] == [
        "channel G",
        "channels changes",
    ]
    assert "empty (0 bytes)" in words["plate frame 1010"]
    assert set(found.hashes) == {1001, 1006, 1007, 1008, 1009, 1011, 1012}
    assert all(fault.hint for fault in found.faults)


def test_doubled_frames_and_missing_plates_are_faults(tmp_path: Path) -> None:
    folder = plate(tmp_path / "p")
    (folder / "a.01003.exr").write_bytes(b"")
    assert "frame 1003 is there twice" in told(look(folder))["plate"]
    found = look(tmp_path / "gone")
    assert found.plate is None
    assert "doesn't exist" in told(found)["plate"]


def test_holes_count_only_inside_what_is_asked(tmp_path: Path) -> None:
    folder = plate(tmp_path / "p")
    (folder / "a.1003.exr").unlink()
    assert "frame 1003" in told(look(folder))["plate"]
    assert look(folder, "1004-1005").faults == ()
    assert "frames 999-1000" in told(look(folder, "999-1002"))["plate"]


def test_a_stray_file_far_away_is_a_fault_not_a_million_frames(tmp_path: Path) -> None:
    folder = plate(tmp_path / "p", range(1001, 1003))
    (folder / "a.20260101.exr").write_bytes(b"")
    assert "20260101" in told(look(folder))["plate"]


def test_windows_that_change_are_faults(tmp_path: Path) -> None:
    folder = plate(tmp_path / "p")
    planes = {c: photo(30, 50) for c in "RGB"}
    write_frame(folder / "a.1003.exr", Frame((Part("", HEADER, planes, Window(5, 5, 54, 34), WINDOW),)))
    assert "data window changes: [5, 5, 54, 34]" in told(look(folder))["plate frame 1003"]


def test_infinite_depth_is_a_warning_not_a_fault(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    channels = {**rgb_frame().main.channels, "depth.Z": np.full((40, 60), np.inf, np.float32)}
    for n in (1001, 1002):
        write_frame(folder / f"a.{n}.exr", Frame((Part("", {}, channels, WINDOW, WINDOW),)))
    found = look(folder)
    assert found.faults == ()
    assert found.warnings == (
        "plate: channel depth.Z has NaN or infinite pixels on frames 1001-1002; they are kept as they are",
    )


def test_a_plate_of_nothing_but_broken_frames_is_told_shortly(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    for n in range(1, 101):
        (folder / f"a.{n:04d}.exr").write_text("text")
    found = look(folder)
    assert found.plate is None
    assert len(found.faults) == 21
    assert (found.faults[-1].where, found.faults[-1].message) == (
        "plate frames 21-100",
        "the same kind of fault on 80 more",
    )


def test_the_same_plate_again_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plate(tmp_path / "p")
    first = look(folder)
    decoded: list[Path] = []
    real = inspect._decoded

    def counted(path: Path, colorspace: str | None) -> Any:
        decoded.append(path)
        return real(path, colorspace)

    monkeypatch.setattr(inspect, "_decoded", counted)
    assert look(folder) == first
    assert decoded == []
    write_frame(folder / "a.1002.exr", rgb_frame(header=HEADER, seed=77))
    os.utime(folder / "a.1002.exr", ns=(1, 1))
    assert look(folder).hashes[1002] != first.hashes[1002]
    assert [path.name for path in decoded] == ["a.1002.exr"]


def test_an_inspection_travels_as_json(tmp_path: Path) -> None:
    folder = plate(tmp_path / "p")
    (folder / "a.1002.exr").unlink()
    for found in (look(folder), look(tmp_path / "gone")):
        assert PlateInspection.from_json(json.loads(json.dumps(found.as_json()))) == found


def test_a_png_plate_is_worked_on_in_linear(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    for n in (1, 2):
        save_png(folder / f"a.{n:04d}.png", np.full((8, 9, 3), 0.5))
    found = look(folder)
    assert found.plate is not None and found.faults == ()
    assert (found.source_colorspace, found.plate.colorspace) == ("srgb_rec709_scene", "lin_rec709_scene")
    assert str(found.plate.pattern).endswith("a.####.png")


def test_an_unknown_colour_space_is_a_fault_of_its_frames(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    write_frame(folder / "a.0001.exr", rgb_frame(header={"colorInteropID": "studio_log"}))
    assert "studio_log" in told(look(folder))["plate frame 1"]
    assert look(folder, colorspace="acescg").faults == ()


def save_png(path: Path, pixels: Any) -> Path:
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], "uint8")
    out = oiio.ImageOutput.create(str(path))
    assert out.open(str(path), spec)
    out.write_image(np.ascontiguousarray(pixels, np.float32))
    out.close()
    return path


def matte(width: int = 60, height: int = 40, top: float = 1.0) -> Any:
    plane = np.zeros((height, width, 1), np.float32)
    plane[: height // 2] = top
    return plane


def test_a_good_key_has_its_coverage_and_a_hash(tmp_path: Path) -> None:
    found = inspect_key(save_png(tmp_path / "k.png", matte()), window=WINDOW, display=WINDOW)
    assert (found.faults, found.coverage) == ((), 0.5)
    again = inspect_key(save_png(tmp_path / "other_name.png", matte()), window=WINDOW, display=WINDOW)
    less = inspect_key(save_png(tmp_path / "k.png", matte(top=0.9)), window=WINDOW, display=WINDOW)
    assert again.hash == found.hash != less.hash


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (matte(30, 20), "30×20, the plate is 60×40"),
        (matte(top=0.4), "is empty: no pixel is above 0.5, the highest is 0.4"),
    ],
)
def test_keys_of_another_size_and_empty_keys_are_faults(tmp_path: Path, pixels: Any, words: str) -> None:
    found = inspect_key(save_png(tmp_path / "k.png", pixels), window=WINDOW, display=WINDOW)
    assert words in found.faults[0].message
    assert found.faults[0].hint and found.hash == ""


def test_keys_that_cannot_be_read_or_hold_nan_are_faults(tmp_path: Path) -> None:
    (tmp_path / "k.png").write_text("text")
    assert "is not an image" in inspect_key(tmp_path / "k.png", window=WINDOW, display=WINDOW).faults[0].message
    assert "doesn't exist" in inspect_key(tmp_path / "gone.png", window=WINDOW, display=WINDOW).faults[0].message
    plane = np.ones((40, 60), np.float32)
    plane[3, 5] = np.nan
    write_frame(tmp_path / "n.exr", Frame((Part("", {}, {"A": plane}, WINDOW, WINDOW),)))
    assert "the first at x 5, y 3" in inspect_key(tmp_path / "n.exr", window=WINDOW, display=WINDOW).faults[0].message


def test_a_key_of_the_display_or_data_windows_size_fits_an_overscan_plate(tmp_path: Path) -> None:
    overscan = Window(-10, -10, 69, 49)
    for size in ((60, 40), (80, 60)):
        path = save_png(tmp_path / "k.png", matte(*size))
        assert inspect_key(path, window=overscan, display=WINDOW).faults == ()


def test_cryptomatte_in_the_plate_is_no_fault(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    channels = {**rgb_frame().main.channels, "cryptoObject00.R": awkward_float(40, 60)}
    write_frame(folder / "a.0001.exr", Frame((Part("", {}, channels, WINDOW, WINDOW),)))
    assert look(folder).faults == ()
