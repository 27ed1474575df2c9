"""Plates and mattes of every format."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio
import pytest
from numpy.typing import NDArray

from pipeline.colorspace import CHROMATICITIES
from pipeline.errors import KeyframeError, PlateError
from pipeline.media.exr import Frame, Part, read_frame, write_frame
from pipeline.media.image import fit_matte, image_info, read_image, read_matte, source_colorspace
from pipeline.plate import Window
from tests.unit.media.frames import awkward_half, photo, rgb_frame, same_pixels

SRGB = "srgb_rec709_scene"
LINEAR = "lin_rec709_scene"


def save(path: Path, pixels: NDArray[Any], kind: str = "uint8", **attributes: Any) -> Path:
    """Write (height, width, channels) floats 0 … 1 through OpenImageIO."""
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], kind)
    for name, value in attributes.items():
        spec.attribute(name.replace("__", ":"), value)
    out = oiio.ImageOutput.create(str(path))
    assert out.open(str(path), spec), out.geterror()
    assert out.write_image(np.ascontiguousarray(pixels, np.float32)), out.geterror()
    out.close()
    return path


def ramp(height: int = 16, width: int = 256, channels: int = 3) -> NDArray[np.float32]:
    row = np.linspace(0, 1, width, dtype=np.float32)
    return np.repeat(np.repeat(row[None, :, None], height, 0), channels, 2)


def from_srgb(v: NDArray[Any]) -> NDArray[Any]:
    """IEC 61966-2-1."""
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("suffix", ["png", "tif", "dpx"])
@pytest.mark.parametrize(("kind", "steps"), [("uint8", 255), ("uint16", 65535)])
def test_display_referred_integers_become_scene_linear_half(tmp_path: Path, suffix: str, kind: str, steps: int) -> None:
    path = save(tmp_path / f"a.{suffix}", ramp(), kind, oiio__ColorSpace=SRGB)
    frame = read_image(path)
    stored = np.round(ramp().astype(np.float64) * steps) / steps
    expected = from_srgb(stored).astype(np.float16).astype(np.float32)
    assert all(plane.dtype == np.float16 for plane in frame.main.channels.values())
    np.testing.assert_allclose(frame.rgb().transpose(1, 2, 0), expected, rtol=2e-3, atol=1e-5)
    assert frame.main.header["colorInteropID"] == LINEAR


def test_a_jpeg_is_read_as_srgb(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", np.full((16, 16, 3), 0.5))
    np.testing.assert_allclose(read_image(path).rgb(), from_srgb(np.array(128 / 255)), rtol=0.02)


def test_a_float_tiff_is_linear_already(tmp_path: Path) -> None:
    pixels = ramp() * 20 - 1
    frame = read_image(save(tmp_path / "a.tif", pixels, "float"))
    assert (frame.rgb().transpose(1, 2, 0) == pixels.astype(np.float16).astype(np.float32)).all()


def test_the_persons_word_goes_before_the_tag(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", ramp(), "uint16", oiio__ColorSpace=SRGB)
    assert source_colorspace(image_info(path), None) == (SRGB, LINEAR)
    assert source_colorspace(image_info(path), "ACEScg") == ("lin_ap1_scene", "lin_ap1_scene")
    frame = read_image(path, colorspace="ACEScg")
    assert frame.main.header["chromaticities"] == CHROMATICITIES["lin_ap1_scene"]
    np.testing.assert_allclose(frame.rgb()[0, 0], ramp()[0, :, 0], atol=1e-3)


def test_a_dpx_that_does_not_say_its_space_asks_for_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dpx", ramp(), "uint16")
    with pytest.raises(PlateError, match="which colour space") as told:
        read_image(path)
    assert "--colorspace" in told.value.hint
    assert source_colorspace(image_info(path), "srgb") == (SRGB, LINEAR)


def test_rate_and_timecode_come_from_a_dpx(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.dpx",
        ramp(),
        "uint16",
        oiio__ColorSpace="Linear",
        dpx__FrameRate=23.976,
        dpx__TimeCode="01:02:03:04",
    )
    info = image_info(path)
    assert (str(info.rate), info.timecode, info.kind) == ("24000/1001", "01:02:03:04", "dpx")
    frame = read_image(path)
    assert frame.main.header["framesPerSecond"] == Fraction(24000, 1001)
    write_frame(tmp_path / "a.exr", frame)
    assert image_info(tmp_path / "a.exr").timecode == "01:02:03:04"


def test_alpha_stays_linear_and_is_multiplied_in(tmp_path: Path) -> None:
    pixels = np.dstack([np.full((8, 8, 3), 0.5), np.full((8, 8, 1), 0.5)])
    main = read_image(save(tmp_path / "a.png", pixels, oiio__UnassociatedAlpha=1)).main
    np.testing.assert_allclose(main.channels["A"].astype(float), 128 / 255, rtol=1e-3)
    np.testing.assert_allclose(main.channels["R"].astype(float), from_srgb(np.array(128 / 255)) * 128 / 255, rtol=2e-3)


def test_only_leaves_the_other_channels_out(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", ramp(channels=4))
    assert set(read_image(path, only={"R", "G", "B", "Y"}).main.channels) == {"R", "G", "B"}
    grey = save(tmp_path / "grey.png", ramp(channels=1))
    assert read_image(grey, only={"R", "G", "B", "Y"}).rgb().shape == (3, 16, 256)


def test_a_linear_exr_is_not_touched(tmp_path: Path) -> None:
    window = Window.of_size(30, 20)
    frame = Frame(
        (Part("", {"colorInteropID": "lin_ap1_scene"}, {c: awkward_half(20, 30) for c in "RGB"}, window, window),)
    )
    write_frame(tmp_path / "a.exr", frame)
    for space in (None, "lin_ap1_scene", "ACES2065-1", "data"):
        assert same_pixels(read_image(tmp_path / "a.exr", colorspace=space), frame)


def test_an_exr_that_is_not_linear_is_made_so_by_the_persons_word(tmp_path: Path) -> None:
    window = Window.of_size(256, 16)
    planes = {c: ramp()[..., 0].astype(np.float16) for c in "RGB"} | {"A": ramp()[..., 0].astype(np.float16)}
    write_frame(tmp_path / "a.exr", Frame((Part("", {"owner": "x"}, planes, window, window),)))
    main = read_image(tmp_path / "a.exr", colorspace="sRGB").main
    np.testing.assert_allclose(
        main.channels["R"].astype(float), from_srgb(planes["R"].astype(float)), rtol=2e-3, atol=1e-5
    )
    assert main.channels["A"].tobytes() == planes["A"].tobytes()
    assert (main.header["owner"], main.header["colorInteropID"]) == ("x", LINEAR)


@pytest.mark.parametrize(
    ("header", "space"),
    [
        ({}, LINEAR),
        ({"chromaticities": CHROMATICITIES["lin_ap0_scene"]}, "lin_ap0_scene"),
        ({"chromaticities": CHROMATICITIES["lin_ap0_scene"], "colorInteropID": "lin_ap1_scene"}, "lin_ap1_scene"),
        ({"chromaticities": (0.1,) * 8}, LINEAR),
        ({"colorInteropID": "data"}, "data"),
    ],
)
def test_an_exrs_space_is_its_tag_then_its_primaries(tmp_path: Path, header: dict[str, Any], space: str) -> None:
    write_frame(tmp_path / "a.exr", rgb_frame(header=header))
    assert source_colorspace(image_info(tmp_path / "a.exr"), None) == (space, space)


def test_an_unknown_tag_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_frame(tmp_path / "a.exr", rgb_frame(header={"colorInteropID": "studio_log"}))
    with pytest.raises(PlateError, match="'studio_log'") as told:
        source_colorspace(image_info(tmp_path / "a.exr"), None)
    assert "--colorspace" in told.value.hint


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "dpx"])
def test_truncated_pictures_are_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).random((160, 320, 3))
    path = save(tmp_path / f"a.{suffix}", noise, oiio__ColorSpace=SRGB)
    whole = path.read_bytes()
    read_image(path)
    for share in (0, 0.001, 0.3, 0.9, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(PlateError, match=rf"a\.{suffix}"):
            read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_tail_zeroed_pictures_are_refused(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", np.random.default_rng(0).random((160, 320, 3)), oiio__ColorSpace=SRGB)
    whole = path.read_bytes()
    for share in (0.3, 0.9):
        kept = int(len(whole) * share)
        path.write_bytes(whole[:kept] + bytes(len(whole) - kept))
        with pytest.raises(PlateError, match=rf"a\.{suffix}"):
            read_image(path)


@pytest.mark.parametrize("suffix", ["exr", "png", "jpg", "tif", "dpx"])
def test_a_text_file_is_refused_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_text("I am not a picture, whatever they call me.\n" * 20)
    for look in (read_image, read_matte, image_info):
        with pytest.raises(PlateError, match="is not an image"):
            look(path)


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    write_frame(tmp_path / "a.exr", rgb_frame())
    (tmp_path / "a.exr").rename(tmp_path / "a.png")
    assert image_info(tmp_path / "a.png").kind == "exr"
    assert same_pixels(read_image(tmp_path / "a.png"), rgb_frame())


def shape(height: int = 16, width: int = 24) -> NDArray[np.float32]:
    matte = np.zeros((height, width), np.float32)
    matte[4:10, 6:15] = 1
    return matte


def test_a_grey_picture_is_a_matte(tmp_path: Path) -> None:
    assert (read_matte(save(tmp_path / "a.png", shape()[..., None])) == shape()).all()


def test_numbers_are_taken_as_they_are(tmp_path: Path) -> None:
    for suffix, kind in (("png", "uint8"), ("tif", "float"), ("tif", "uint16")):
        path = save(tmp_path / f"a.{suffix}", np.full((4, 4, 3), 0.5), kind)
        np.testing.assert_allclose(read_matte(path), 0.5, atol=2e-3)


def test_alpha_is_the_matte_when_it_says_something(tmp_path: Path) -> None:
    inverse = 1 - shape()
    rgba = np.dstack([np.where(shape() > 0, inverse, inverse)] * 3 + [shape()])
    assert (read_matte(save(tmp_path / "a.tif", rgba, "float")) == shape()).all()
    opaque = np.dstack([shape()] * 3 + [np.ones_like(shape())])
    assert (read_matte(save(tmp_path / "b.tif", opaque, "float")) == shape()).all()


def test_a_shape_in_one_colour_is_a_full_matte(tmp_path: Path) -> None:
    red = np.dstack([shape(), 0 * shape(), 0 * shape()])
    assert (read_matte(save(tmp_path / "a.png", red)) == shape()).all()


def exr_matte(path: Path, channels: dict[str, Any], data: Window, display: Window) -> Path:
    write_frame(path, Frame((Part("", {}, channels, data, display),)))
    return path


def test_the_matte_layer_of_a_layered_exr_is_taken(tmp_path: Path) -> None:
    window = Window.of_size(24, 16)
    channels = {c: photo(16, 24) for c in "RGBA"} | {"matte.A": shape().astype(np.float16)}
    assert (read_matte(exr_matte(tmp_path / "a.exr", channels, window, window)) == shape()).all()


def test_a_lone_channel_of_any_name_is_a_matte(tmp_path: Path) -> None:
    window = Window.of_size(24, 16)
    assert (read_matte(exr_matte(tmp_path / "a.exr", {"x.q": shape()}, window, window)) == shape()).all()


def test_values_outside_0_to_1_are_clipped_and_nan_refused(tmp_path: Path) -> None:
    window = Window.of_size(24, 16)
    plane = shape() * 3 - 1
    assert (read_matte(exr_matte(tmp_path / "a.exr", {"A": plane}, window, window)) == shape()).all()
    plane[0, 0] = np.nan
    with pytest.raises(KeyframeError, match="no number"):
        read_matte(exr_matte(tmp_path / "b.exr", {"A": plane}, window, window))


def test_a_cropped_exr_matte_is_filled_up_to_its_format(tmp_path: Path) -> None:
    crop = Window(6, 4, 14, 9)
    path = exr_matte(tmp_path / "a.exr", {"A": np.ones((6, 9), np.float16)}, crop, Window.of_size(24, 16))
    assert (read_matte(path) == shape()).all()


@pytest.mark.parametrize("window", [Window.of_size(24, 16), Window(-4, -3, 27, 18), Window(5, 3, 20, 12)])
def test_a_key_is_brought_into_the_plates_data_window(tmp_path: Path, window: Window) -> None:
    display = Window.of_size(24, 16)
    expected = np.zeros((window.height, window.width), np.float32)
    for y, x in np.argwhere(shape()):
        expected[y - window.y_min, x - window.x_min] = 1
    cropped = exr_matte(tmp_path / "a.exr", {"A": np.ones((6, 9), np.float16)}, Window(6, 4, 14, 9), display)
    full = save(tmp_path / "b.png", shape()[..., None])
    bare = save(tmp_path / "c.png", expected[..., None])
    for path in (cropped, full, bare):
        assert (read_matte(path, window=window, display=display) == expected).all()


def test_a_key_of_another_size_is_refused_with_both_sizes() -> None:
    other = Window.of_size(10, 10)
    with pytest.raises(KeyframeError, match="10×10, the plate is 24×16"):
        fit_matte(
            np.zeros((10, 10), np.float32), other, other, window=Window.of_size(24, 16), display=Window.of_size(24, 16)
        )


def test_frames_of_the_plates_own_files_read_alike_through_both_doors(tmp_path: Path) -> None:
    write_frame(tmp_path / "a.exr", rgb_frame())
    assert same_pixels(read_image(tmp_path / "a.exr"), read_frame(tmp_path / "a.exr"))
