"""What parameters lead to beside the plate: which files count, where they land on the plate, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import KeyframeError, ParameterError, PipelineError, PlateError
from pipeline.frames import FrameRange
from pipeline.inputs import (
    MOST_REFERENCES,
    digest_of,
    files_of,
    inspect_input,
    inspect_painted_key,
    is_sequence,
    other_plate,
    painted_picture,
    picture_files,
    reference_pictures,
)
from pipeline.media.exr import Frame, Part, write_frame
from pipeline.media.transform import SHOT_CURVE
from pipeline.parameters import Kind
from pipeline.plate import Window

DATA, DISPLAY = Window(-2, -2, 29, 21), Window(0, 0, 27, 19)
"""An overscan of 2: the data window is 32 × 24, the format 28 × 20."""


def exr(path: Path, window: Window, *, value: float = 0.5, channels: str = "RGB", **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(window.width)
    planes = {c: (value + 0.1 * rng.random((window.height, window.width))).astype(np.float16) for c in channels}
    write_frame(path, Frame((Part("", more.pop("header", {}), planes, window, more.pop("display", window)),)))
    return path


def png(path: Path, picture: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)
    return path


def look(kind: Kind, path: Path, files: dict[str, Path] | None = None) -> None:
    inspect_input(kind, path, files or {path.name: path}, FrameRange.span(1, 4), window=DATA, display=DISPLAY)


# Files


def test_one_file_is_a_still_and_a_pattern_or_a_folder_has_the_frames_own(tmp_path: Path) -> None:
    for frame in (3, 4, 5, 9):
        exr(tmp_path / "seq" / f"m.{frame:04d}.exr", DATA)
    wanted = FrameRange.span(4, 6)
    still = tmp_path / "seq" / "m.0003.exr"
    assert files_of(still, wanted) == {"m.0003.exr": still}, "one file of a sequence means that file"
    for text in ("seq/m.####.exr", "seq/m.%04d.exr", "seq"):
        assert list(files_of(tmp_path / text, wanted)) == ["m.0004.exr", "m.0005.exr"]
    assert [is_sequence(tmp_path / text) for text in ("seq", "seq/m.####.exr", "seq/m.0003.exr")] == [True, True, False]
    assert files_of(tmp_path / "seq", FrameRange.span(100, 200)) == {}
    with pytest.raises(PlateError):
        files_of(tmp_path / "nothing.####.exr", wanted)


def test_a_digest_is_of_the_bytes(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("a", "b", "c"))
    one.write_bytes(b"x" * 3_000_000)
    same.write_bytes(b"x" * 3_000_000)
    other.write_bytes(b"x" * 2_999_999 + b"y")
    assert digest_of(one) == digest_of(same) != digest_of(other)
    with pytest.raises(PlateError, match="gone"):
        digest_of(tmp_path / "gone")


# Reference pictures


def test_a_mood_board_is_one_picture_all_of_a_folder_or_a_sequence(tmp_path: Path) -> None:
    board = tmp_path / "board"
    for name, size in (("b.png", (8, 12)), ("a.JPG", (6, 6)), ("c.tif", (4, 10))):
        png(board / name, np.full((*size, 3), 128, np.uint8))
    (board / "notes.txt").write_text("not a picture")
    (board / "sub").mkdir()
    assert [p.name for p in picture_files(board)] == ["a.JPG", "b.png", "c.tif"]
    assert [p.shape for p in reference_pictures(board)] == [(3, 6, 6), (3, 8, 12), (3, 4, 10)], "each at its own size"
    assert [p.name for p in picture_files(board / "b.png")] == ["b.png"]
    for frame in (1, 2):
        exr(tmp_path / f"s.{frame:03d}.exr", DATA)
    assert [p.name for p in picture_files(tmp_path / "s.###.exr")] == ["s.001.exr", "s.002.exr"]


@pytest.mark.parametrize("count", [0, MOST_REFERENCES + 1])
def test_a_board_of_nothing_or_of_too_much_is_refused(tmp_path: Path, count: int) -> None:
    for i in range(count):
        (tmp_path / f"{i}.jpg").write_bytes(b"")
    with pytest.raises(ParameterError, match=f"holds {count} pictures"):
        picture_files(tmp_path)


def test_an_srgb_picture_comes_into_model_space_as_the_screen_shows_it(tmp_path: Path) -> None:
    """Model space is sRGB up to its knee: half grey on a screen is half grey to the model."""
    path = png(tmp_path / "a.png", np.full((4, 4, 3), 128, np.uint8))
    assert reference_pictures(path)[0] == pytest.approx(128 / 255, abs=2e-3)


def test_a_grey_picture_has_three_channels(tmp_path: Path) -> None:
    assert reference_pictures(png(tmp_path / "a.png", np.full((4, 5), 99, np.uint8)))[0].shape == (3, 4, 5)


# Painted keys


def test_a_painted_key_of_the_data_window_is_taken_as_it_is(tmp_path: Path) -> None:
    path = exr(tmp_path / "k.exr", DATA)
    picture = painted_picture(path, window=DATA, display=DISPLAY, colorspace=None)
    assert picture.shape == (3, 24, 32)
    assert SHOT_CURVE.inverse(picture).max() == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize("data", [Window(3, 2, 20, 15), Window(0, 0, 27, 9), Window(10, 10, 27, 19)])
def test_a_painted_key_of_the_format_is_cut_to_a_smaller_data_window(tmp_path: Path, data: Window) -> None:
    """The plate is a crop: the picture's pixels land where they were painted."""
    rgb = np.zeros((20, 28, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = np.arange(28)[None] * 9, np.arange(20)[:, None] * 12
    path = png(tmp_path / "k.png", rgb[..., ::-1])
    picture = painted_picture(path, window=data, display=DISPLAY, colorspace=None)
    assert picture.shape == (3, data.height, data.width)
    assert picture[0, 0, 0] == pytest.approx(data.x_min * 9 / 255, abs=2e-3)
    assert picture[1, -1, 0] == pytest.approx(data.y_max * 12 / 255, abs=2e-3)


@pytest.mark.parametrize("size", [Window.of_size(27, 20), Window.of_size(28, 19), Window.of_size(56, 40)])
def test_a_painted_key_of_another_size_is_refused_with_both_sizes(tmp_path: Path, size: Window) -> None:
    path = exr(tmp_path / "k.exr", size)
    with pytest.raises(KeyframeError, match=re.escape(f"{size.width}×{size.height}, the plate 32×24")):
        painted_picture(path, window=DATA, display=DISPLAY, colorspace=None)


def test_a_painted_key_of_the_format_can_not_stand_for_an_overscan_that_it_does_not_show(tmp_path: Path) -> None:
    path = exr(tmp_path / "k.exr", DISPLAY)
    with pytest.raises(KeyframeError, match="28×20"):
        painted_picture(path, window=DATA, display=DISPLAY, colorspace=None)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_painted_key_with_nan_is_refused(tmp_path: Path, value: float) -> None:
    path = exr(tmp_path / "k.exr", DATA, value=value)
    found = inspect_painted_key(path, window=DATA, display=DISPLAY)
    assert [bool(re.search("NaN or infinite", fault.message)) for fault in found.faults] == [True]
    assert found.hash == ""


def test_a_painted_keys_hash_is_of_what_it_shows(tmp_path: Path) -> None:
    """The same picture in another file, compressed otherwise, is the same key."""
    one, other = exr(tmp_path / "a.exr", DATA), exr(tmp_path / "b.exr", DATA, header={"owner": "x"})
    look_at = {p: inspect_painted_key(p, window=DATA, display=DISPLAY) for p in (one, other)}
    assert look_at[one].hash == look_at[other].hash != ""
    assert look_at[one].faults == ()
    brighter = exr(tmp_path / "c.exr", DATA, value=0.7)
    assert inspect_painted_key(brighter, window=DATA, display=DISPLAY).hash != look_at[one].hash


def test_a_painted_key_that_is_no_picture_is_a_fault_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "k.exr").write_bytes(b"v/1\x01 cut off")
    assert inspect_painted_key(tmp_path / "k.exr", window=DATA, display=DISPLAY).faults
    assert inspect_painted_key(tmp_path / "gone.exr", window=DATA, display=DISPLAY).faults


# Other plates and masks


def test_another_plate_is_linear_and_of_the_same_size(tmp_path: Path) -> None:
    path = exr(tmp_path / "o.exr", DATA, value=40.0)
    assert other_plate(path, window=DATA).max() > 40
    with pytest.raises(PlateError, match="32×24, the plate 28×20"):
        other_plate(path, window=DISPLAY)


@pytest.mark.parametrize("kind", [Kind.MASK, Kind.PLATE, Kind.REFERENCE])
def test_every_file_is_opened_when_the_job_is_submitted(tmp_path: Path, kind: Kind) -> None:
    channels = "A" if kind is Kind.MASK else "RGB"
    files = {f"m.{f}.exr": exr(tmp_path / f"m.{f}.exr", DATA, channels=channels) for f in range(1, 5)}
    look(kind, tmp_path / "m.#.exr", files)
    files["m.3.exr"].write_bytes(b"nothing")
    with pytest.raises(PipelineError, match=r"m\.3\.exr"):
        look(kind, tmp_path / "m.#.exr", files)


@pytest.mark.parametrize(("kind", "error"), [(Kind.MASK, KeyframeError), (Kind.PLATE, PlateError)])
def test_another_size_is_found_when_the_job_is_submitted(tmp_path: Path, kind: Kind, error: type[Exception]) -> None:
    path = exr(tmp_path / "m.exr", Window.of_size(7, 7), channels="A" if kind is Kind.MASK else "RGB")
    with pytest.raises(error, match="7×7"):
        look(kind, path)


def test_an_empty_mask_is_no_fault(tmp_path: Path) -> None:
    """Unlike a key: a mask may well be off on some frames."""
    look(Kind.MASK, exr(tmp_path / "m.exr", DATA, value=-0.2, channels="A"))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.MASK, np.nan),
        (Kind.PLATE, np.nan),
        (Kind.PLATE, np.inf),
        (Kind.REFERENCE, np.nan),
        (Kind.REFERENCE, np.inf),
    ],
)
def test_pixels_that_are_no_number_are_found_when_the_job_is_submitted(
    tmp_path: Path, kind: Kind, value: float
) -> None:
    path = exr(tmp_path / "m.exr", DATA, value=value, channels="A" if kind is Kind.MASK else "RGB")
    with pytest.raises(PipelineError, match=r"no number|NaN"):
        look(kind, path)


def test_a_picture_that_was_cut_off_is_found_when_the_job_is_submitted(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = png(tmp_path / "a.jpg", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    look(Kind.REFERENCE, path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(PlateError, match="cut off"):
        look(Kind.REFERENCE, path)
