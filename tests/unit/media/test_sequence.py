"""Which frames are there, by their names."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from pipeline.errors import PlateError
from pipeline.media.sequence import find_sequence


def touch(folder: Path, names: Iterable[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def numbers(first: int, last: int) -> list[str]:
    return [f"sh010_v002.{n:04d}.exr" for n in range(first, last + 1)]


@pytest.mark.parametrize("text", ["sh010_v002.####.exr", "sh010_v002.%04d.exr", "", "sh010_v002.1003.exr"])
def test_every_way_to_say_it_finds_the_same_sequence(tmp_path: Path, text: str) -> None:
    touch(tmp_path, numbers(1001, 1005))
    pattern, frames = find_sequence(str(tmp_path / text))
    assert (str(pattern), str(frames)) == (str(tmp_path / "sh010_v002.####.exr"), "1001-1005")
    assert all(pattern.path(frame).exists() for frame in frames)


def test_holes_stay_holes(tmp_path: Path) -> None:
    touch(tmp_path, [*numbers(1001, 1003), *numbers(1010, 1010)])
    assert str(find_sequence(str(tmp_path))[1]) == "1001-1003,1010"


def test_files_beside_the_frames_are_passed_over(tmp_path: Path) -> None:
    beside = [".sh010_v002.1004.exr", "sh010_v002.1004.exr.part", ".sh010_v002.1005.exr.77-ab.part", "notes.txt",
              "Thumbs.db", "cut.otio", "sh010_v002.1006.exr~", "still.exr", "manifest.0001.json"]  # fmt: skip
    touch(tmp_path, [*numbers(1001, 1003), *beside])
    for text in ("", "sh010_v002.####.exr", "sh010_v002.1001.exr"):
        assert str(find_sequence(str(tmp_path / text))[1]) == "1001-1003"


def test_negative_frames_and_frame_zero(tmp_path: Path) -> None:
    touch(tmp_path, ["a.-0002.exr", "a.-0001.exr", "a.0000.exr", "a.0001.exr"])
    for text in ("", "a.####.exr", "a.-0002.exr"):
        pattern, frames = find_sequence(str(tmp_path / text))
        assert frames.frames == (-2, -1, 0, 1)
        assert all(pattern.path(frame).exists() for frame in frames)


def test_a_dash_inside_a_name_is_no_sign(tmp_path: Path) -> None:
    touch(tmp_path, ["sh010-0001.exr", "sh010-0002.exr"])
    for text in ("", "sh010-####.exr", "sh010-0001.exr"):
        pattern, frames = find_sequence(str(tmp_path / text))
        assert (pattern.head, frames.frames) == ("sh010-", (1, 2))


def test_padding_rolls_over(tmp_path: Path) -> None:
    touch(tmp_path, numbers(9998, 10001))
    for text in ("", "sh010_v002.%04d.exr", "sh010_v002.10000.exr"):
        pattern, frames = find_sequence(str(tmp_path / text))
        assert (pattern.padding, str(frames)) == (4, "9998-10001")


def test_unpadded_numbers(tmp_path: Path) -> None:
    touch(tmp_path, [f"a.{n}.exr" for n in range(8, 12)])
    for text in ("", "a.%d.exr", "a.#.exr"):
        assert str(find_sequence(str(tmp_path / text))[1]) == "8-11"


@pytest.mark.parametrize("text", ["", "a.####.exr", "a.1001.exr"])
def test_doubled_frames_are_refused_with_both_names(tmp_path: Path, text: str) -> None:
    touch(tmp_path, ["a.1001.exr", "a.01001.exr", "a.1002.exr"])
    with pytest.raises(PlateError, match=r"frame 1001 is there twice.*a\.01001\.exr and a\.1001\.exr"):
        find_sequence(str(tmp_path / text))


def test_mixed_padding_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, ["a.1001.exr", "a.01002.exr"])
    with pytest.raises(PlateError, match=r"a\.01002\.exr.*padding"):
        find_sequence(str(tmp_path))


def test_a_folder_with_several_sequences_is_refused_naming_them(tmp_path: Path) -> None:
    touch(tmp_path, ["a.1001.exr", "a.1002.exr", "b.0001.png", "b.0002.png"])
    with pytest.raises(PlateError, match=r"2 sequences: a\.####\.exr, b\.####\.png") as told:
        find_sequence(str(tmp_path))
    assert "a.####.exr" in told.value.hint


def test_nothing_there_says_what_is_there_instead(tmp_path: Path) -> None:
    touch(tmp_path, ["b.1001.exr"])
    with pytest.raises(PlateError, match=r"no frames of .*a\.####\.exr") as told:
        find_sequence(str(tmp_path / "a.####.exr"))
    assert "b.####.exr" in told.value.hint
    with pytest.raises(PlateError, match="doesn't exist") as told:
        find_sequence(str(tmp_path / "a.1001.exr"))
    assert "b.####.exr" in told.value.hint


def test_empty_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PlateError, match="no frames in folder"):
        find_sequence(str(tmp_path))
    with pytest.raises(PlateError, match="doesn't exist"):
        find_sequence(str(tmp_path / "gone" / "a.####.exr"))
    with pytest.raises(PlateError, match="doesn't exist"):
        find_sequence(str(tmp_path / "gone"))


def test_a_still_is_no_sequence(tmp_path: Path) -> None:
    touch(tmp_path, ["still.exr"])
    with pytest.raises(PlateError, match="no frame number"):
        find_sequence(str(tmp_path / "still.exr"))


def test_five_thousand_names_are_listed_in_milliseconds(tmp_path: Path) -> None:
    touch(tmp_path, numbers(1, 5000))
    started = time.process_time()
    assert len(find_sequence(str(tmp_path / "sh010_v002.####.exr"))[1]) == 5000
    assert time.process_time() - started < 0.1  # 10 ms on a quiet machine


def test_it_needs_the_standard_library_alone() -> None:
    program = "import sys, pipeline.media.sequence; print('numpy' in sys.modules, 'OpenEXR' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.split() == ["False", "False"]
