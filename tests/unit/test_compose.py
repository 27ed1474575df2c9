"""The delivered frame where more is made than the plate shows: wider windows, frames that it lacks, an alpha of the task's."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.compose import compose
from pipeline.errors import PublishError
from pipeline.frames import FrameRange
from pipeline.layer import layers_of
from pipeline.media.exr import Frame, Part, read_frame, write_frame
from pipeline.media.exr_header import timecode_attribute, timecode_text
from pipeline.plate import FramePattern, Plate, Window
from pipeline.rate import FrameRate
from pipeline.tasks.contract import FrameResult
from tests.unit.media.frames import awkward_float, awkward_half, photo

HEIGHT, WIDTH = 12, 20
DATA = Window(-2, 3, WIDTH - 3, HEIGHT + 2)
DISPLAY = Window(0, 0, 15, 15)
WIDE = Window(-6, 1, WIDTH + 1, HEIGHT + 7)
WIDE_DISPLAY = Window(-4, -2, 20, 20)
INSIDE = (slice(2, 2 + HEIGHT), slice(4, 4 + WIDTH))
"""Rows and columns of DATA in a plane of WIDE."""
Planes = dict[str, NDArray[Any]]


def colours(*, alpha: bool = True) -> Planes:
    planes: Planes = {name: photo(HEIGHT, WIDTH, i) for i, name in enumerate("RGB")}
    return planes | ({"A": np.full((HEIGHT, WIDTH), 0.5, np.float16)} if alpha else {})


def source_of(channels: Planes | None = None, *more: Part, header: dict[str, Any] | None = None) -> Frame:
    name = "beauty" if more else ""
    return Frame((Part(name, header or {}, channels or colours(), DATA, DISPLAY), *more))


def plate_of(source: Frame, rate: str | None = "24") -> Plate:
    pattern = FramePattern(Path("/plate"), "p.", 4, ".exr")
    found = None if rate is None else FrameRate.of(rate)
    return Plate(pattern, FrameRange.of([1]), layers_of(source.main.channels), DATA, DISPLAY, "lin_rec709_scene", found)


def plane(window: Window, value: float = 0.25) -> NDArray[np.float32]:
    return np.full((window.height, window.width), value, np.float32)


def result(frame: int = 1, **more: Any) -> FrameResult:
    return FrameResult(frame, more.pop("layers", {}), {"confidence": 1.0}, **more)


def wide(source: Frame, made: FrameResult) -> Frame:
    return compose(source, made, plate_of(source), windows=(WIDE, WIDE_DISPLAY))


def outside(full: NDArray[Any]) -> NDArray[Any]:
    """The values of a wide plane that the plate didn't have."""
    mask = np.ones(full.shape, bool)
    mask[INSIDE] = False
    return full[mask]


# Wider windows


def test_the_plates_pixels_lie_where_they_were_and_nothing_lies_around_them(tmp_path: Path) -> None:
    planes = colours() | {"depth.Z": awkward_float(HEIGHT, WIDTH), "diffuse.R": awkward_half(HEIGHT, WIDTH)}
    made = wide(source_of(planes), result())
    write_frame(tmp_path / "a.exr", made)
    main = read_frame(tmp_path / "a.exr").main
    assert (main.data_window, main.display_window) == (WIDE, WIDE_DISPLAY)
    for name, own in planes.items():
        assert main.channels[name].dtype == own.dtype
        assert np.ascontiguousarray(main.channels[name][INSIDE]).tobytes() == own.tobytes(), name
        assert (outside(main.channels[name]) == (1 if name == "A" else 0)).all(), name


def test_a_picture_that_says_nothing_of_where_it_changed_is_the_tasks_everywhere() -> None:
    made = wide(source_of(), result(rgb=np.stack([plane(WIDE, v) for v in (1, 2, 3)]))).main
    assert [float(made.channels[n].min()) for n in "RGB"] == [float(made.channels[n].max()) for n in "RGB"] == [1, 2, 3]


def test_beyond_the_plate_the_picture_is_the_tasks_whatever_changed_says() -> None:
    changed = np.zeros((WIDE.height, WIDE.width), bool)
    changed[3, 5] = True
    source = source_of()
    made = wide(source, result(rgb=np.stack([plane(WIDE, 9.0)] * 3), changed=changed)).main
    for name in "RGB":
        assert (outside(made.channels[name]) == 9).all()
        inside, own = made.channels[name][INSIDE].copy(), source.main.channels[name].copy()
        assert inside[1, 1] == 9
        inside[1, 1] = own[1, 1] = 0
        assert inside.tobytes() == own.tobytes()
    assert changed.sum() == 1, "what the task gave is not written to"


def test_a_float_plate_takes_a_wide_picture_of_any_brightness() -> None:
    planes: Planes = {name: p.astype(np.float32) for name, p in colours().items()}
    made = wide(source_of(planes), result(rgb=np.stack([plane(WIDE, 1e6)] * 3))).main
    assert all(made.channels[n].dtype == np.float32 and (made.channels[n] == 1e6).all() for n in "RGB")


@pytest.mark.parametrize(
    "made",
    [
        result(rgb=np.zeros((3, HEIGHT, WIDTH), np.float32)), result(layers={"matte": {"A": plane(DATA)}}),
        result(alpha=plane(DATA)), result(layers={"matte": {"A": plane(WIDE).T.copy()}}),
    ],
)  # fmt: skip
def test_planes_of_the_plates_size_are_refused_where_more_is_delivered(made: FrameResult) -> None:
    with pytest.raises(PublishError, match="its place in the plate"):
        wide(source_of(), made)


def test_the_other_parts_keep_their_data_window_and_all_share_the_display_window(tmp_path: Path) -> None:
    """OpenEXR wants one display window in all parts; each has a data window of its own."""
    small = Window(0, 4, 9, 9)
    depth = Part("depth", {"note": "d"}, {"Z": awkward_float(6, 10)}, small, DISPLAY)
    same = Part("same", {}, {"id.Z": awkward_float(HEIGHT, WIDTH, 3)}, DATA, DISPLAY)
    made = wide(source_of(None, depth, same), result(layers={"matte": {"A": plane(WIDE)}}))
    write_frame(tmp_path / "a.exr", made)
    parts = read_frame(tmp_path / "a.exr").parts
    assert [p.name for p in parts] == ["beauty", "depth", "same"]
    assert [p.data_window for p in parts] == [WIDE, small, DATA]
    assert {p.display_window for p in parts} == {WIDE_DISPLAY}
    assert parts[1].channels["Z"].tobytes() == depth.channels["Z"].tobytes()
    assert parts[2].channels["id.Z"].tobytes() == same.channels["id.Z"].tobytes()
    assert parts[1].header["note"] == "d"
    assert "matte.A" in parts[0].channels


def test_a_layer_that_lies_in_a_part_of_another_window_can_not_be_replaced() -> None:
    old = Part("old", {}, {"matte.A": np.zeros((6, 10), np.float16)}, Window(0, 4, 9, 9), DISPLAY)
    source = source_of(None, old)
    with pytest.raises(PublishError, match="layer matte lies in a part"):
        compose(source, result(layers={"matte": {"A": plane(DATA)}}), plate_of(source))


def test_a_layer_in_a_part_of_the_pictures_window_grows_with_it() -> None:
    old = Part("old", {}, {"matte.A": np.full((HEIGHT, WIDTH), 0.9, np.float16)}, DATA, DISPLAY)
    source = source_of(None, old)
    made = wide(source, result(layers={"matte": {"A": plane(WIDE, 0.25)}}))
    assert [list(p.channels) for p in made.parts] == [list("RGBA"), ["matte.A"]]
    assert made.parts[1].data_window == WIDE
    assert (made.parts[1].channels["matte.A"] == np.float16(0.25)).all()


def test_nothing_is_written_into_the_frame_that_was_read() -> None:
    source = source_of()
    before = {name: p.tobytes() for name, p in source.main.channels.items()}
    wide(source, result(rgb=np.stack([plane(WIDE)] * 3), alpha=plane(WIDE), layers={"m": {"A": plane(WIDE)}}))
    compose(source, result(5, rgb=np.stack([plane(DATA)] * 3)), plate_of(source), from_frame=1)
    assert {name: p.tobytes() for name, p in source.main.channels.items()} == before


# Alpha


def test_an_alpha_of_the_tasks_takes_the_place_of_the_plates() -> None:
    made = compose(source_of(), result(alpha=plane(DATA, 0.75)), plate_of(source_of())).main
    assert (made.channels["A"] == np.float16(0.75)).all()
    assert made.channels["A"].dtype == np.float16
    assert made.channels["R"].tobytes() == colours()["R"].tobytes()


def test_a_plate_without_alpha_gets_one() -> None:
    source = source_of(colours(alpha=False))
    made = compose(source, result(alpha=plane(DATA, 0.75)), plate_of(source)).main
    assert set(made.channels) == set("RGBA")


def test_the_alpha_of_a_float_plate_stays_float() -> None:
    source = source_of({name: p.astype(np.float32) for name, p in colours().items()})
    made = compose(source, result(alpha=plane(DATA, 1 / 3)), plate_of(source)).main
    assert made.channels["A"].dtype == np.float32
    assert (made.channels["A"] == np.float32(1 / 3)).all()


# Frames that the plate lacks


def made_like(source: Frame, made: FrameResult, neighbour: int, rate: str | None = "24") -> Frame:
    return compose(source, made, plate_of(source, rate), from_frame=neighbour)


def test_a_made_frame_is_the_tasks_picture_under_its_neighbours_header() -> None:
    depth = Part("depth", {"note": "d"}, {"Z": awkward_float(6, 10)}, Window(0, 4, 9, 9), DISPLAY)
    planes = colours() | {"diffuse.R": awkward_half(HEIGHT, WIDTH)}
    source = source_of(planes, depth, header={"owner": "a studio"})
    rgb = np.stack([plane(DATA, value) for value in (1, 2, 3)])
    changed = np.zeros((HEIGHT, WIDTH), bool)
    made = made_like(source, result(5, rgb=rgb, changed=changed, layers={"matte": {"A": plane(DATA)}}), 3)
    main = made.parts[0]
    assert [float(main.channels[n].min()) for n in "RGB"] == [float(main.channels[n].max()) for n in "RGB"] == [1, 2, 3]
    assert (main.channels["A"] == 1).all()
    assert not main.channels["diffuse.R"].any()
    assert not made.parts[1].channels["Z"].any()
    assert main.header["owner"] == "a studio"
    assert {n: p.dtype for n, p in main.channels.items() if n in planes} == {n: p.dtype for n, p in planes.items()}


def test_a_made_frame_without_a_picture_is_refused() -> None:
    with pytest.raises(PublishError, match="frame 5 isn't in the plate"):
        made_like(source_of(), result(5, layers={"matte": {"A": plane(DATA)}}), 3)


def test_a_made_frame_may_have_an_alpha_and_a_wider_window_at_once() -> None:
    source = source_of()
    made = compose(
        source, result(5, rgb=np.stack([plane(WIDE, 2.0)] * 3), alpha=plane(WIDE, 0.5)), plate_of(source),
        windows=(WIDE, WIDE_DISPLAY), from_frame=3,
    ).main  # fmt: skip
    assert made.channels["R"].shape == (WIDE.height, WIDE.width)
    assert (made.channels["R"] == 2).all()
    assert (made.channels["A"] == np.float16(0.5)).all()


@pytest.mark.parametrize(
    ("rate", "start", "frame", "then"),
    [
        ("24", "01:00:00:22", 5, "01:00:01:00"), ("24", "01:00:00:00", 1, "00:59:59:22"),
        ("30000/1001", "01:00:59;29", 4, "01:01:00;02"), ("24", "01:00:00:22", 3, "01:00:00:22"),
    ],
)  # fmt: skip
def test_a_made_frames_timecode_goes_along(rate: str, start: str, frame: int, then: str) -> None:
    source = source_of(header={"timeCode": timecode_attribute(start)})
    made = made_like(source, result(frame, rgb=np.stack([plane(DATA)] * 3)), 3, rate)
    assert timecode_text(made.main.header["timeCode"]) == then


def test_every_part_of_a_made_frame_says_the_same_time() -> None:
    stamp = {"timeCode": timecode_attribute("01:00:00:00")}
    depth = Part("depth", stamp, {"Z": awkward_float(HEIGHT, WIDTH)}, DATA, DISPLAY)
    made = made_like(source_of(None, depth, header=stamp), result(4, rgb=np.stack([plane(DATA)] * 3)), 3)
    assert {timecode_text(p.header["timeCode"]) for p in made.parts} == {"01:00:00:01"}


@pytest.mark.parametrize("rate", [None, "50"])
def test_a_timecode_that_can_not_be_counted_is_left_out_rather_than_wrong(rate: str | None) -> None:
    source = source_of(header={"timeCode": timecode_attribute("01:00:00:00")})
    made = made_like(source, result(4, rgb=np.stack([plane(DATA)] * 3)), 3, rate)
    assert "timeCode" not in made.main.header
    kept = made_like(source, result(3), 3, rate)
    assert timecode_text(kept.main.header["timeCode"]) == "01:00:00:00"


def test_a_made_frame_says_its_rate_and_space() -> None:
    made = made_like(source_of(), result(4, rgb=np.stack([plane(DATA)] * 3)), 3, "23.976").main.header
    assert made["framesPerSecond"] == Fraction(24000, 1001)
    assert made["colorInteropID"] == "lin_rec709_scene"
