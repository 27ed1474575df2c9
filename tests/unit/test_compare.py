"""Two sequences compared: bit-equal, or where and by how much they differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.compare import Comparison, compare_sequences, files_of
from pipeline.frames import FrameRange
from pipeline.media.exr import Frame, Part, write_frame
from pipeline.plate import FramePattern, Window

WIDTH, HEIGHT = 24, 300  # more rows than one strip has
DATA, DISPLAY = Window(-4, -2, WIDTH - 5, HEIGHT - 3), Window.of_size(WIDTH - 8, HEIGHT - 4)
FRAMES = FrameRange.span(1001, 1004)


def frame(number: int) -> Frame:
    rng = np.random.default_rng(number)
    channels: dict[str, Any] = {name: rng.normal(size=(HEIGHT, WIDTH)).astype(np.float16) for name in "RGBA"}
    channels["R"][0, 0], channels["R"][0, 1] = np.nan, np.inf
    channels["matte.A"] = rng.uniform(size=(HEIGHT, WIDTH)).astype(np.float16)
    channels["id.u"] = rng.integers(0, 2**32, (HEIGHT, WIDTH), dtype=np.uint32)
    channels["depth.Z"] = rng.normal(size=(HEIGHT, WIDTH)).astype(np.float32)
    return Frame((Part("", {"owner": "a studio"}, channels, DATA, DISPLAY),))


def with_channels(of: Frame, changes: Mapping[str, np.ndarray | None]) -> Frame:
    kept = {**of.parts[0].channels, **changes}
    return Frame((replace(of.parts[0], channels={n: p for n, p in kept.items() if p is not None}),))


Change = Callable[[Frame], Frame]


def written(folder: Path, changes: Mapping[int, Change] | None = None, *, codec: str = "zips") -> dict[int, Path]:
    folder.mkdir()
    files = files_of(FramePattern(folder, "f.", 4, ".exr"), FRAMES)
    for number, path in files.items():
        write_frame(path, (changes or {}).get(number, lambda same: same)(frame(number)), codec=codec)
    return files


def compared(folder: Path, changes: Mapping[int, Change], **more: Any) -> Comparison:
    return compare_sequences(written(folder / "a"), written(folder / "b", changes), **more)


def setting(channel: str, row: int, column: int, value: Any) -> Change:
    def change(of: Frame) -> Frame:
        plane = of.parts[0].channels[channel].copy()
        plane[row, column] = value
        return with_channels(of, {channel: plane})

    return change


# The same


def test_the_same_pixels_are_bit_equal_whatever_codec_header_and_channel_order(tmp_path: Path) -> None:
    def other_header(of: Frame) -> Frame:
        part = of.parts[0]
        turned = dict(reversed(part.channels.items()))
        return Frame((replace(part, channels=turned, header={"owner": "another"}),))

    a, b = written(tmp_path / "a"), written(tmp_path / "b", dict.fromkeys(FRAMES, other_header), codec="piz")
    found = compare_sequences(a, b)
    assert found.bit_equal
    assert found.frames == FRAMES
    assert {layer.layer for layer in found.layers} == {"rgba", "matte", "id", "depth"}
    assert all(layer.largest is None and not layer.frames_differ for layer in found.layers)
    assert (found.largest, found.pixels_differ) == (None, 0)
    assert found.sentence() == "bit-equal on 4 frames"


def test_nothing_to_compare_is_not_bit_equal() -> None:
    found = compare_sequences({}, {})
    assert not found.bit_equal
    assert found.sentence() == "there are no frames to compare"


def test_files_of_a_sequence_may_lie_in_several_folders(tmp_path: Path) -> None:
    a, b = written(tmp_path / "a"), written(tmp_path / "b")
    assert compare_sequences(a, {**b, 1002: a[1002]}).bit_equal


# What differs


def test_the_largest_difference_is_told_with_its_layer_frame_pixel_and_both_values(tmp_path: Path) -> None:
    before = frame(1003).parts[0].channels["matte.A"][250, 7]
    found = compared(
        tmp_path,
        {1002: setting("matte.A", 3, 3, np.float16(0.0)), 1003: setting("matte.A", 250, 7, np.float16(5))},
    )
    assert not found.bit_equal
    assert found.frames_differ == FrameRange.of([1002, 1003])
    assert found.pixels_differ == 2
    assert found.largest is not None
    layer, most = found.largest
    assert (layer, most.frame, most.channel) == ("matte", 1003, "matte.A")
    assert (most.x, most.y) == (7 + DATA.x_min, 250 + DATA.y_min)
    assert (most.before, most.after) == (float(before), 5.0)
    assert most.difference == 5.0 - float(before)
    assert "in matte (matte.A) on frame 1003 at x 3, y 248" in found.sentence()
    assert "2 of 4 frames differ (1002-1003); 2 pixels differ" in found.sentence()
    others = {one.layer: one for one in found.layers if one.layer != "matte"}
    assert all(one.largest is None for one in others.values())


def test_a_pixel_counts_once_however_many_channels_and_layers_differ_there(tmp_path: Path) -> None:
    def change(of: Frame) -> Frame:
        for channel in ("R", "G", "matte.A"):
            of = setting(channel, 9, 9, 3.0)(of)
        return of

    found = compared(tmp_path, {1001: change})
    assert found.pixels_differ == 1
    assert {layer.layer: layer.pixels_differ for layer in found.layers} == {"rgba": 1, "matte": 1, "id": 0, "depth": 0}


def test_minus_zero_and_another_nan_are_other_bits_without_a_distance(tmp_path: Path) -> None:
    def other_nan(of: Frame) -> Frame:
        plane = of.parts[0].channels["R"].copy()
        plane.view(np.uint16)[0, 0] ^= 1
        assert np.isnan(plane[0, 0])
        return with_channels(of, {"R": plane})

    zero = setting("G", 5, 5, np.float16(0.0))
    a = written(tmp_path / "a", {1001: zero})
    found = compare_sequences(a, written(tmp_path / "b", {1001: setting("G", 5, 5, np.float16(-0.0)), 1002: other_nan}))
    assert found.frames_differ == FrameRange.of([1001, 1002])
    assert found.largest is not None
    assert found.largest[1].difference == 0
    assert not found.bit_equal


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_became_no_number_is_the_largest_difference_of_all(tmp_path: Path, value: float) -> None:
    changes = {1001: setting("depth.Z", 200, 2, np.float32(value)), 1002: setting("depth.Z", 1, 1, np.float32(1e30))}
    found = compared(tmp_path, changes)
    assert found.largest is not None
    assert (found.largest[1].frame, found.largest[1].difference) == (1001, np.inf)
    told = json.loads(json.dumps(found.as_json(), allow_nan=False))
    (depth,) = (layer for layer in told["layers"] if layer["layer"] == "depth")
    assert (depth["largest"]["difference"], depth["largest"]["after"]) == ("inf", str(float(value)))


def test_whole_numbers_are_compared_without_losing_one(tmp_path: Path) -> None:
    top = np.uint32(2**32 - 1)
    a = written(tmp_path / "a", {1001: setting("id.u", 0, 0, top)})
    found = compare_sequences(a, written(tmp_path / "b", {1001: setting("id.u", 0, 0, top - 1)}))
    assert found.largest is not None
    assert (found.largest[0], found.largest[1].difference) == ("id", 1.0)


# What is there on one side only


def test_frames_of_one_side_are_listed_and_the_others_compared(tmp_path: Path) -> None:
    a, b = written(tmp_path / "a"), written(tmp_path / "b")
    a[1004].unlink()
    del b[1001]
    found = compare_sequences(a, b)
    assert (found.missing_frames, found.extra_frames) == (FrameRange.of([1001]), FrameRange.of([1004]))
    assert found.frames == FrameRange.of([1002, 1003])
    assert not found.bit_equal
    assert found.frames_differ == FrameRange()
    assert found.sentence() == "missing frames 1001; extra frames 1004"


def test_channels_and_layers_of_one_side_are_listed(tmp_path: Path) -> None:
    changes = {
        1001: lambda of: with_channels(of, {"matte.A": None, "A": None}),
        1003: lambda of: with_channels(of, {"edge.A": np.zeros((HEIGHT, WIDTH), np.float16)}),
    }
    found = compared(tmp_path, changes)
    assert found.missing_channels == {"A": FrameRange.of([1001]), "matte.A": FrameRange.of([1001])}
    assert found.missing_layers == {"matte": FrameRange.of([1001])}
    assert found.extra_channels == {"edge.A": FrameRange.of([1003])}
    assert found.extra_layers == {"edge": FrameRange.of([1003])}
    assert found.frames_differ == FrameRange.of([1001, 1003])
    assert found.pixels_differ == 0
    assert not found.bit_equal


def test_the_same_values_in_another_type_are_not_bit_equal_but_have_no_distance(tmp_path: Path) -> None:
    def widened(of: Frame) -> Frame:
        return with_channels(of, {"R": of.parts[0].channels["R"].astype(np.float32)})

    found = compared(tmp_path, {1002: widened})
    assert found.types_differ == {"R": FrameRange.of([1002])}
    assert found.pixels_differ == 0
    assert found.largest is None
    assert not found.bit_equal


def test_other_windows_are_told_and_pixels_compared_where_both_have_some(tmp_path: Path) -> None:
    def cropped(of: Frame) -> Frame:
        part = of.parts[0]
        window = replace(DATA, x_min=DATA.x_min + 3, y_min=DATA.y_min + 2)
        return Frame((replace(part, data_window=window, channels={n: p[2:, 3:] for n, p in part.channels.items()}),))

    found = compared(tmp_path, {1001: cropped, 1002: lambda of: cropped(setting("R", 20, 10, np.float16(99))(of))})
    assert found.windows_differ == FrameRange.of([1001, 1002])
    assert found.pixels_differ == 1
    assert found.largest is not None
    assert (found.largest[1].x, found.largest[1].y) == (10 + DATA.x_min, 20 + DATA.y_min)


def test_another_display_window_alone_is_told(tmp_path: Path) -> None:
    found = compared(tmp_path, {1003: lambda of: Frame((replace(of.parts[0], display_window=DATA),))})
    assert (found.windows_differ, found.pixels_differ) == (FrameRange.of([1003]), 0)
    assert not found.bit_equal
    assert found.sentence() == "1 of 4 frames differ (1003); windows differ on 1003"


def test_windows_that_do_not_meet_have_no_pixels_in_common(tmp_path: Path) -> None:
    def moved(of: Frame) -> Frame:
        return Frame((replace(of.parts[0], data_window=Window(1000, 1000, 999 + WIDTH, 999 + HEIGHT)),))

    found = compared(tmp_path, {1001: moved})
    assert (found.windows_differ, found.pixels_differ) == (FrameRange.of([1001]), 0)
    assert not found.bit_equal


def test_a_frame_that_cannot_be_read_is_told_and_the_others_compared(tmp_path: Path) -> None:
    a, b = written(tmp_path / "a"), written(tmp_path / "b")
    data = b[1002].read_bytes()
    b[1002].write_bytes(data[: len(data) // 2])
    found = compare_sequences(a, b)
    assert list(found.unreadable) == [1002]
    assert str(b[1002]) in found.unreadable[1002]
    assert 1002 not in found.frames
    assert not found.bit_equal


def test_parts_are_compared_by_name(tmp_path: Path) -> None:
    def parts(of: Frame, order: tuple[str, ...], bump: float = 0) -> Frame:
        planes = of.parts[0].channels
        left = Part("left", {}, {n: planes[n] for n in "RGB"}, DATA, DISPLAY)
        right = Part("right", {}, {n: planes[n] + np.float16(bump) for n in "GBA"}, DATA, DISPLAY)
        return Frame(tuple({"left": left, "right": right}[name] for name in order))

    a = written(tmp_path / "a", {n: lambda of: parts(of, ("left", "right")) for n in FRAMES})
    b = written(tmp_path / "b", {n: lambda of: parts(of, ("right", "left")) for n in FRAMES})
    c = written(tmp_path / "c", {n: lambda of: parts(of, ("left", "right"), 1) for n in FRAMES})
    assert compare_sequences(a, b).bit_equal
    found = compare_sequences(a, c)
    assert [layer.layer for layer in found.layers if layer.pixels_differ] == ["right/gba"]


# Going on


def test_each_frame_is_told_and_may_stop_it(tmp_path: Path) -> None:
    done: list[int] = []

    class Stop(Exception):
        pass

    def each(count: int) -> None:
        done.append(count)
        if count == 2:
            raise Stop

    with pytest.raises(Stop):
        compared(tmp_path, {}, each=each)
    assert done == [1, 2]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.dictionaries(
        st.tuples(st.sampled_from(["R", "matte.A"]), st.integers(0, HEIGHT - 1), st.integers(2, WIDTH - 1)),
        st.floats(-100, 100, width=16),
        max_size=5,
    )
)
def test_what_is_said_of_the_pixels_is_what_numpy_says_of_whole_planes(
    tmp_path_factory: pytest.TempPathFactory, cells: dict[tuple[str, int, int], float]
) -> None:
    folder = tmp_path_factory.mktemp("pair")
    one, other = frame(1), frame(1)
    for (channel, row, column), value in cells.items():
        other = setting(channel, row, column, np.float16(value))(other)
    for name, of in (("a", one), ("b", other)):
        write_frame(folder / f"{name}.exr", of)
    found = compare_sequences({1: folder / "a.exr"}, {1: folder / "b.exr"})
    planes = [(one.parts[0].channels[name], other.parts[0].channels[name]) for name in ("R", "matte.A")]
    masks = [a.view(np.uint16) != b.view(np.uint16) for a, b in planes]
    assert found.pixels_differ == np.count_nonzero(masks[0] | masks[1])
    apart = [np.abs(a[m].astype(float) - b[m].astype(float)) for (a, b), m in zip(planes, masks, strict=True)]
    expected = max((value for values in apart for value in values), default=None)
    assert (None if found.largest is None else found.largest[1].difference) == expected
