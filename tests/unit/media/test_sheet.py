"""A contact sheet: what stands where, and what it does with pictures that are not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import pytest

from pipeline.errors import PipelineError, PlateError
from pipeline.media.proxy import write_jpeg
from pipeline.media.sheet import SheetRow, write_sheet

WIDTH = 64
RED, GREEN, BLUE = (200, 20, 20), (20, 180, 20), (20, 20, 200)


def picture(folder: Path, name: str, colour: tuple[int, int, int], size: tuple[int, int] = (96, 54)) -> Path:
    path = folder / f"{name}.jpg"
    write_jpeg(path, np.full((size[1], size[0], 3), colour, np.uint8))
    return path


def read(path: Path) -> np.ndarray:
    assert path.read_bytes().startswith(b"\xff\xd8\xff")
    return oiio.ImageBuf(str(path)).get_pixels(oiio.UINT8)


def coloured(sheet: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """The box (x, y, width, height) that a colour fills; None where it isn't."""
    ys, xs = np.nonzero((np.abs(sheet.astype(int) - colour) < 40).all(axis=2))
    if not len(xs):
        return None
    return int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1


def test_a_row_for_each_take_and_a_column_for_each_frame(tmp_path: Path) -> None:
    paths = [picture(tmp_path, str(i), colour) for i, colour in enumerate((RED, GREEN, BLUE))]
    rows = [SheetRow("one", (paths[0], paths[1])), SheetRow("two", (paths[2], None))]
    write_sheet(tmp_path / "sheet.jpg", rows, ["1001", "1010"], width=WIDTH)
    sheet = read(tmp_path / "sheet.jpg")
    boxes = [coloured(sheet, colour) for colour in (RED, GREEN, BLUE)]
    assert all(box is not None for box in boxes)
    red, green, blue = boxes
    for _, _, width, height in boxes:
        assert abs(width - WIDTH) <= 2, "every picture is as wide as its column"
        assert abs(height - 36) <= 2, "and keeps its aspect"
    assert green[0] > red[0] + red[2], "columns stand side by side"
    assert abs(green[1] - red[1]) <= 1
    assert blue[1] > red[1] + red[3], "takes stand under each other"
    assert abs(blue[0] - red[0]) <= 1
    empty = sheet[blue[1] : blue[1] + blue[3], green[0] : green[0] + green[2]]
    assert empty.max() < 60, "a picture that isn't there leaves its place grey"
    assert max(sheet.shape[1] - green[0] - green[2], sheet.shape[0] - blue[1] - blue[3]) < 20, "nothing is cut off"


def test_titles_and_labels_are_written_and_say_different_things(tmp_path: Path) -> None:
    path = picture(tmp_path, "0", RED)

    def made(title: str, label: str) -> np.ndarray:
        write_sheet(tmp_path / "sheet.jpg", [SheetRow(title, (path,))], [label], width=WIDTH)
        return read(tmp_path / "sheet.jpg").astype(int)

    plain = made("", "")
    box = coloured(plain, RED)
    assert box is not None
    titled, labelled = made("take 1", ""), made("", "1001")
    assert np.abs(titled - plain)[: box[1]].max() > 100
    assert np.abs(labelled - plain)[: box[1]].max() > 60
    assert np.abs(made("take 2", "") - titled).max() > 60
    assert np.abs(titled - plain)[box[1] + 8 :].max() < 40, "a title is written above its pictures, not over them"


def test_names_of_any_letters_and_lengths_are_taken(tmp_path: Path) -> None:
    path = picture(tmp_path, "0", RED)
    write_sheet(tmp_path / "sheet.jpg", [SheetRow("füße 猫 \n\0 %s " * 40, (path,))], ["1001"], width=WIDTH)
    assert coloured(read(tmp_path / "sheet.jpg"), RED)


def test_pictures_of_several_heights_share_a_sheet(tmp_path: Path) -> None:
    wide, tall = picture(tmp_path, "wide", RED, (96, 24)), picture(tmp_path, "tall", BLUE, (48, 96))
    write_sheet(tmp_path / "sheet.jpg", [SheetRow("", (wide,)), SheetRow("", (tall,))], ["1"], width=WIDTH)
    sheet = read(tmp_path / "sheet.jpg")
    red, blue = coloured(sheet, RED), coloured(sheet, BLUE)
    assert red is not None
    assert blue is not None
    assert abs(red[3] - 16) <= 2
    assert abs(blue[3] - 128) <= 2
    assert red[1] + red[3] < blue[1]


def test_a_picture_that_went_away_or_broke_leaves_its_place_empty(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff nothing")
    row = SheetRow("", (picture(tmp_path, "0", GREEN), tmp_path / "gone.jpg", broken))
    write_sheet(tmp_path / "sheet.jpg", [row], ["1", "2", "3"], width=WIDTH)
    box = coloured(read(tmp_path / "sheet.jpg"), GREEN)
    assert box is not None
    assert abs(box[2] - WIDTH) <= 2


@pytest.mark.parametrize("pictures", [(), (None, None)])
def test_nothing_to_show_is_refused_and_leaves_no_file(tmp_path: Path, pictures: tuple[Path | None, ...]) -> None:
    with pytest.raises(PlateError, match="no pictures"):
        write_sheet(tmp_path / "sheet.jpg", [SheetRow("a", pictures)], ["1"] * len(pictures))
    with pytest.raises(PlateError, match="no pictures"):
        write_sheet(tmp_path / "sheet.jpg", [], ["1"])
    assert list(tmp_path.iterdir()) == []


def test_a_sheet_takes_the_place_of_the_one_before_and_leaves_nothing_beside(tmp_path: Path) -> None:
    red, blue = picture(tmp_path, "red", RED), picture(tmp_path, "blue", BLUE)
    for path in (red, blue):
        write_sheet(tmp_path / "sheet.jpg", [SheetRow("", (path,))], ["1"], width=WIDTH)
    assert coloured(read(tmp_path / "sheet.jpg"), RED) is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blue.jpg", "red.jpg", "sheet.jpg"]


def test_a_folder_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    row = SheetRow("", (picture(tmp_path, "0", RED),))
    with pytest.raises(PipelineError):
        write_sheet(tmp_path / "no" / "sheet.jpg", [row], ["1"], width=WIDTH)
