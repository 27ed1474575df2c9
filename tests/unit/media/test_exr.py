"""Reading and writing EXR: bits, headers, windows, parts, types."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import OpenImageIO as oiio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PlateError, StorageError
from pipeline.media import exr_pack
from pipeline.media.exr import Frame, Part, pixel_hash, probe, read_frame, verify, write_frame
from pipeline.media.exr_header import Attribute
from pipeline.media.half import to_float, to_half
from pipeline.plate import Window
from pipeline.rate import FrameRate
from tests.unit.media.frames import HEADER, awkward_float, awkward_half, photo, rgb_frame, rounded, same_pixels

LOSSLESS = ["none", "rle", "zips", "zip", "piz"]


def many_channels() -> Frame:
    """RGBA half, depth float, Cryptomatte float, ids uint, a matte layer: in a data window smaller than the format."""
    data, display = Window(3, 5, 52, 41), Window(0, 0, 79, 59)
    h, w = data.height, data.width
    channels: dict[str, Any] = {name: awkward_half(h, w, i) for i, name in enumerate("RGBA")}
    channels |= {
        "depth.Z": awkward_float(h, w, 5),
        "matte.A": photo(h, w),
        "ids": np.arange(h * w, dtype=np.uint32).reshape(h, w),
    }
    channels |= {
        f"cryptoObject0{k}.{c}": awkward_float(h, w, 10 * k + i) for k in range(3) for i, c in enumerate("RGBA")
    }
    return Frame((Part("", HEADER, channels, data, display),))


@pytest.mark.parametrize("codec", LOSSLESS)
def test_every_bit_of_every_type_comes_back(tmp_path: Path, codec: str) -> None:
    frame = many_channels()
    write_frame(tmp_path / "a.exr", frame, codec=codec)
    assert same_pixels(read_frame(tmp_path / "a.exr"), frame)
    verify(tmp_path / "a.exr")


@pytest.mark.parametrize("codec", LOSSLESS)
def test_openimageio_reads_the_same_bits(tmp_path: Path, codec: str) -> None:
    frame = rgb_frame(47, 33)
    write_frame(tmp_path / "a.exr", frame, codec=codec)
    source = oiio.ImageInput.open(str(tmp_path / "a.exr"))
    assert source.spec().get_string_attribute("compression") == codec
    pixels = source.read_image("half")
    names = source.spec().channelnames
    source.close()
    for name, plane in frame.main.channels.items():
        assert pixels[..., names.index(name)].tobytes() == plane.tobytes()


@pytest.mark.parametrize("codec", ["zips", "zip"])
@pytest.mark.parametrize("level", [0, 1, 4, 6, 9])
def test_every_level_is_lossless(tmp_path: Path, codec: str, level: int) -> None:
    frame = rgb_frame(50, 1500)
    write_frame(tmp_path / "a.exr", frame, codec=codec, level=level)
    assert same_pixels(read_frame(tmp_path / "a.exr"), frame)


def test_without_isal_the_files_are_as_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exr_pack, "_ISAL", None)
    frame = rgb_frame(50, 1500)
    write_frame(tmp_path / "a.exr", frame)
    assert same_pixels(read_frame(tmp_path / "a.exr"), frame)


def test_our_files_are_no_larger_than_the_librarys(tmp_path: Path) -> None:
    frame = rgb_frame(216, 3840)
    write_frame(tmp_path / "ours.exr", frame, codec="zips")
    header = {"compression": OpenEXR.ZIPS_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, dict(frame.main.channels)).write(str(tmp_path / "library.exr"))
    assert (tmp_path / "ours.exr").stat().st_size <= 1.02 * (tmp_path / "library.exr").stat().st_size


@pytest.mark.parametrize("codec", LOSSLESS)
def test_attributes_come_back_in_kind_and_value(tmp_path: Path, codec: str) -> None:
    write_frame(tmp_path / "a.exr", rgb_frame(header=HEADER), codec=codec)
    assert dict(read_frame(tmp_path / "a.exr").main.header) == rounded(HEADER)


def test_the_library_sees_the_attributes_in_their_standard_types(tmp_path: Path) -> None:
    write_frame(tmp_path / "a.exr", rgb_frame(header=HEADER))
    header = OpenEXR.File(str(tmp_path / "a.exr"), header_only=True).header()
    assert header["framesPerSecond"] == Fraction(24000, 1001)
    time_code = header["timeCode"]
    assert (time_code.hours, time_code.minutes, time_code.seconds, time_code.frame) == (1, 2, 3, 4)
    assert header["chromaticities"] == pytest.approx(HEADER["chromaticities"])
    assert header["multiView"] == ["right", "left"]
    assert header["worldToCamera"].shape == (4, 4)
    assert header["studioThing"].data == b"\x00\xffanything"


def test_attributes_written_by_the_library_survive(tmp_path: Path) -> None:
    plane = photo(8, 9)
    header = {
        "type": OpenEXR.scanlineimage,
        "compression": OpenEXR.PIZ_COMPRESSION,
        "keyCode": OpenEXR.KeyCode(1, 2, 3, 4, 5, 6, 64),
        "timeCode": OpenEXR.TimeCode(23, 59, 58, 23, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        "aDouble": np.array([1 / 3]),
        "aFloatVector": [1.0, 2.5],
        "preview": OpenEXR.PreviewImage(4, 3),
    }
    OpenEXR.File(header, {"Y": plane}).write(str(tmp_path / "in.exr"))
    write_frame(tmp_path / "out.exr", read_frame(tmp_path / "in.exr"))
    before = OpenEXR.File(str(tmp_path / "in.exr"), header_only=True).header()
    after = OpenEXR.File(str(tmp_path / "out.exr"), header_only=True).header()
    assert set(before) == set(after)
    for name in ("keyCode", "timeCode", "aFloatVector"):
        assert before[name] == after[name]
    assert before["aDouble"].tobytes() == after["aDouble"].tobytes()
    assert probe(tmp_path / "out.exr").timecode == "23:59:58;23"


def test_a_header_in_latin_1_is_read_and_kept(tmp_path: Path) -> None:
    write_frame(tmp_path / "a.exr", rgb_frame(header={"owner": "Jos\udce9"}))
    assert b"Jos\xe9" in (tmp_path / "a.exr").read_bytes()
    frame = read_frame(tmp_path / "a.exr")
    assert frame.main.header["owner"] == "Jos\udce9"
    assert same_pixels(frame, rgb_frame())


def test_an_attribute_that_the_library_refuses_is_kept_and_the_pixels_are_read(tmp_path: Path) -> None:
    odd = {"keyCode": Attribute("keycode", struct.pack("<7i", 1000, 2, 3, 4, 5, 6, 7))}
    write_frame(tmp_path / "a.exr", rgb_frame(header=odd))
    with pytest.raises(RuntimeError):
        OpenEXR.File(str(tmp_path / "a.exr"))
    frame = read_frame(tmp_path / "a.exr")
    assert frame.main.header["keyCode"] == odd["keyCode"]
    assert same_pixels(frame, rgb_frame())


def test_an_attribute_without_an_exr_type_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PlateError, match="'thing'"):
        write_frame(tmp_path / "a.exr", rgb_frame(header={"thing": {"a": 1}}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [Window(-20, -10, 99, 69), Window(5, 6, 30, 20), Window(100, 100, 119, 109)])
@pytest.mark.parametrize("codec", ["zip", "piz"])
def test_overscan_and_crops_survive(tmp_path: Path, data: Window, codec: str) -> None:
    display = Window.of_size(80, 60)
    frame = Frame((Part("", {}, {"Y": photo(data.height, data.width)}, data, display),))
    write_frame(tmp_path / "a.exr", frame, codec=codec)
    assert same_pixels(read_frame(tmp_path / "a.exr"), frame)
    info = probe(tmp_path / "a.exr")
    assert (info.main.data_window, info.main.display_window) == (data, display)


def multipart() -> Frame:
    """Three parts of different windows and types, the main picture second."""
    display = Window.of_size(64, 48)
    depth = Part("depth", {"view": "left"}, {"Z": awkward_float(30, 20)}, Window(1, 2, 20, 31), display)
    picture = rgb_frame(48, 64, header={"owner": "x"}).main
    beauty = Part("beauty", picture.header, picture.channels, display, display)
    ids = Part("ids", {}, {"id": np.full((48, 64), 2**32 - 1, np.uint32)}, display, display)
    return Frame((depth, beauty, ids))


@pytest.mark.parametrize("codec", LOSSLESS)
def test_multipart_files_keep_their_parts(tmp_path: Path, codec: str) -> None:
    write_frame(tmp_path / "a.exr", multipart(), codec=codec)
    back = read_frame(tmp_path / "a.exr")
    assert same_pixels(back, multipart())
    assert [part.name for part in back.parts] == ["depth", "beauty", "ids"]
    assert back.main.name == "beauty"
    assert back.parts[0].header["view"] == "left"


def test_only_the_asked_channels_are_kept(tmp_path: Path) -> None:
    write_frame(tmp_path / "a.exr", multipart())
    back = read_frame(tmp_path / "a.exr", only={"R", "G", "B"})
    assert [set(part.channels) for part in back.parts] == [{"R", "G", "B"}]
    nothing_of_it = read_frame(tmp_path / "a.exr", only={"left.R"})
    assert same_pixels(nothing_of_it, multipart())


def test_tiled_files_are_read(tmp_path: Path) -> None:
    tiles = OpenEXR.TileDescription()
    tiles.xSize, tiles.ySize, tiles.mode = 16, 24, OpenEXR.ONE_LEVEL
    frame = rgb_frame(50, 70)
    header = {"type": OpenEXR.tiledimage, "tiles": tiles, "compression": OpenEXR.ZIP_COMPRESSION}
    OpenEXR.File(header, dict(frame.main.channels)).write(str(tmp_path / "a.exr"))
    assert same_pixels(read_frame(tmp_path / "a.exr"), frame)


def test_mipmapped_textures_are_read_at_full_size(tmp_path: Path) -> None:
    frame = rgb_frame(100, 130)
    write_frame(tmp_path / "a.exr", frame)
    source = oiio.ImageBuf(str(tmp_path / "a.exr"))
    assert oiio.ImageBufAlgo.make_texture(oiio.MakeTxTexture, source, str(tmp_path / "tx.exr"))
    assert probe(tmp_path / "tx.exr").main.tile is not None
    back = read_frame(tmp_path / "tx.exr").main.channels
    assert all(back[name].tobytes() == plane.tobytes() for name, plane in frame.main.channels.items())


def test_codecs_that_only_others_write_are_read(tmp_path: Path) -> None:
    frame = rgb_frame(70, 70)
    for name in ("HTJ2K32_COMPRESSION", "HTJ2K256_COMPRESSION", "ZSTD_COMPRESSION"):
        header = {"type": OpenEXR.scanlineimage, "compression": getattr(OpenEXR, name)}
        OpenEXR.File(header, dict(frame.main.channels)).write(str(tmp_path / "a.exr"))
        assert same_pixels(read_frame(tmp_path / "a.exr"), frame), name


def test_the_picture_is_rgb_float_in_planes(tmp_path: Path) -> None:
    write_frame(tmp_path / "a.exr", multipart())
    picture = read_frame(tmp_path / "a.exr").rgb()
    assert picture.shape == (3, 48, 64)
    assert picture.dtype == np.float32
    assert (picture[1] == multipart().main.channels["G"].astype(np.float32)).all()


@pytest.mark.parametrize("name", ["Y", "mask"])
def test_a_single_channel_is_replicated(name: str) -> None:
    window = Window.of_size(9, 8)
    plane = photo(8, 9)
    picture = Frame((Part("", {}, {name: plane}, window, window),)).rgb()
    assert all((picture[i] == plane.astype(np.float32)).all() for i in range(3))


def test_blenders_layered_picture_is_found() -> None:
    window = Window.of_size(9, 8)
    planes = {f"ViewLayer.Combined.{c}": photo(8, 9, i) for i, c in enumerate("RGBA")}
    planes["ViewLayer.Depth.Z"] = photo(8, 9, 9)
    picture = Frame((Part("", {}, planes, window, window),)).rgb()
    assert (picture[2] == planes["ViewLayer.Combined.B"].astype(np.float32)).all()


def test_channels_that_make_no_picture_are_refused_by_name() -> None:
    window = Window.of_size(9, 8)
    with pytest.raises(PlateError, match="u, v"):
        Frame((Part("", {}, {"u": photo(8, 9), "v": photo(8, 9)}, window, window),)).rgb()


def test_halves_become_the_same_floats_with_and_without_torch() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    with_torch, plain = np.empty((256, 256), np.float32), np.empty((256, 256), np.float32)
    pytest.importorskip("torch")
    to_float(halves.copy(), with_torch)
    with np.errstate(invalid="ignore"):
        plain[...] = halves
    number = ~np.isnan(plain)
    assert with_torch[number].tobytes() == plain[number].tobytes()
    assert np.isnan(with_torch[~number]).all()


def test_a_float_beyond_half_is_refused_with_its_channel_and_place() -> None:
    plane = np.zeros((4, 5), np.float32)
    plane[0, 0] = np.inf
    plane[1, 1] = 65519.0  # rounds to 65504
    assert to_half(plane, channel="R")[1, 1] == 65504
    plane[2, 3] = 70000.0
    with pytest.raises(PlateError, match=r"channel R: 1 values.*70000 at x 3, y 2"):
        to_half(plane, channel="R")


def test_the_same_frame_gives_the_same_bytes(tmp_path: Path) -> None:
    frame = many_channels()
    shuffled = Part("", dict(reversed(frame.main.header.items())), dict(reversed(frame.main.channels.items())),
                    frame.main.data_window, frame.main.display_window)  # fmt: skip
    write_frame(tmp_path / "a.exr", frame)
    write_frame(tmp_path / "b.exr", Frame((shuffled,)))
    assert (tmp_path / "a.exr").read_bytes() == (tmp_path / "b.exr").read_bytes()


def test_the_hash_is_of_content_not_of_bytes(tmp_path: Path) -> None:
    frame = many_channels()
    digests = set()
    for codec in LOSSLESS:
        write_frame(tmp_path / "a.exr", frame, codec=codec)
        digests.add(pixel_hash(read_frame(tmp_path / "a.exr")))
    assert len(digests) == 1
    part = frame.main

    def changed(**values: Any) -> str:
        fields = {n: getattr(part, n) for n in ("name", "header", "channels", "data_window", "display_window")}
        return pixel_hash(Frame((Part(**{**fields, **values}),)))

    base = changed()
    red = part.channels["R"].copy()
    red.view(np.uint16)[0, 0] ^= 1
    assert changed(header={**part.header, "capDate": "2030:01:01 00:00:00"}) == base
    assert changed(channels={**part.channels, "R": red}) != base
    assert changed(channels={**part.channels, "R": part.channels["G"], "G": part.channels["R"]}) != base
    assert changed(header={**part.header, "owner": "B"}) != base
    assert changed(display_window=Window.of_size(81, 60)) != base


def test_hashes_stay_what_they_are() -> None:
    """Content keys outlive releases: a published version's frames are found again by them."""
    window = Window(1, 2, 16, 9)
    ramp = np.arange(16 * 8, dtype=np.uint16).reshape(8, 16)
    channels = {"R": (ramp * 100).view(np.float16), "Z": ramp.astype(np.float32), "id": ramp.astype(np.uint32)}
    header = {"owner": "x", "framesPerSecond": Fraction(24), "capDate": "2026:01:01 00:00:00"}
    frame = Frame((Part("main", header, channels, window, Window.of_size(32, 18)),))
    assert pixel_hash(frame) == "7a12950d5c887fece9c5984157c50682"


def test_a_probe_says_what_the_header_says(tmp_path: Path) -> None:
    write_frame(tmp_path / "a.exr", rgb_frame(20, 30, header=HEADER), codec="piz")
    info = probe(tmp_path / "a.exr")
    assert info.rate == FrameRate(Fraction(24000, 1001))
    assert (info.timecode, info.colorspace, info.main.compression) == ("01:02:03:04", "lin_ap1_scene", "piz")
    assert [(c.name, str(c.type)) for c in info.main.channels] == [("B", "half"), ("G", "half"), ("R", "half")]
    assert info.layers[0].channels == ("R", "G", "B")
    assert info.file_bytes == (tmp_path / "a.exr").stat().st_size


@pytest.mark.parametrize("codec", ["dwaa", "dwab", "b44", "pxr24"])
def test_lossy_codecs_are_refused_for_data(tmp_path: Path, codec: str) -> None:
    write_frame(tmp_path / "picture.exr", rgb_frame(), codec=codec)
    assert probe(tmp_path / "picture.exr").main.compression == codec
    window = Window.of_size(20, 20)
    data = Frame((Part("", {}, {"cryptoObject00.R": awkward_float(20, 20)}, window, window),))
    with pytest.raises(PlateError, match=r"cryptoObject00\.R"):
        write_frame(tmp_path / "data.exr", data, codec=codec)


def test_an_unknown_codec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlateError, match="'zipz'"):
        write_frame(tmp_path / "a.exr", rgb_frame(), codec="zipz")


def test_arrays_of_any_memory_order_are_written(tmp_path: Path) -> None:
    window = Window.of_size(30, 20)
    plane = photo(20, 30)
    odd = {"R": np.asfortranarray(plane), "G": np.repeat(plane, 2, axis=1)[:, ::2], "B": plane.astype(">f2")}
    odd["B"] = odd["B"].astype(np.float16)
    odd["R"].setflags(write=False)
    for codec in ("none", "zip", "piz"):
        write_frame(tmp_path / "a.exr", Frame((Part("", {}, odd, window, window),)), codec=codec)
        assert all(p.tobytes() == plane.tobytes() for p in read_frame(tmp_path / "a.exr").main.channels.values())


def test_a_part_whose_channels_disagree_is_refused() -> None:
    window = Window.of_size(30, 20)
    with pytest.raises(PlateError, match="channel R is"):
        Part("", {}, {"R": photo(20, 31)}, window, window)
    with pytest.raises(PlateError, match="float64"):
        Part("", {}, {"R": np.zeros((20, 30))}, window, window)


_SMALL = st.integers(min_value=1, max_value=40)
_TYPES = st.sampled_from([np.float16, np.float32, np.uint32])
_NAMES = st.text(alphabet="RGBAxyz.0_é", min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    x=st.integers(-100000, 100000),
    y=st.integers(-100000, 100000),
    width=_SMALL,
    height=_SMALL,
    types=st.dictionaries(_NAMES, _TYPES, min_size=1, max_size=6),
    codec=st.sampled_from(LOSSLESS),
    seed=st.integers(0, 1000),
)
def test_any_window_and_mix_of_types_round_trips(
    tmp_path_factory: pytest.TempPathFactory,
    x: int,
    y: int,
    width: int,
    height: int,
    types: dict[str, Any],
    codec: str,
    seed: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.exr"
    rng = np.random.default_rng(seed)
    raw = {name: np.dtype(kind).itemsize for name, kind in types.items()}
    channels = {
        name: np.frombuffer(rng.bytes(height * width * raw[name]), kind).reshape(height, width)
        for name, kind in types.items()
    }
    data = Window(x, y, x + width - 1, y + height - 1)
    frame = Frame((Part("", {}, channels, data, Window.of_size(1920, 1080)),))
    write_frame(path, frame, codec=codec)
    assert same_pixels(read_frame(path), frame)


def test_a_full_disk_leaves_nothing_and_names_the_disk(tmp_path: Path) -> None:
    program = f"""
import resource, signal, sys
from pathlib import Path
from pipeline.errors import StorageError
from pipeline.media.exr import write_frame
from tests.unit.media.frames import rgb_frame
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
for codec in ("zips", "piz"):
    try:
        write_frame(Path({str(tmp_path)!r}) / "a.exr", rgb_frame(200, 300), codec=codec)
    except StorageError as error:
        print(error.message, "|", error.hint)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path.cwd())
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all("a.exr can't be written: the disk at /" in line and "limit" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_no_space_left_is_told_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.media.files import write_whole

    def fill(file: Any) -> None:
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(StorageError, match=r"is full, \d+ MB left"):
        write_whole(tmp_path / "a.exr", fill)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_unwritable_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such folder"):
        write_frame(tmp_path / "gone" / "a.exr", rgb_frame())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        write_frame(tmp_path / "file" / "a.exr", rgb_frame())
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(StorageError, match="permissions"):
            write_frame(tmp_path / "locked" / "a.exr", rgb_frame())


def test_a_frame_that_fails_half_way_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = rgb_frame(seed=1)
    write_frame(tmp_path / "a.exr", old)

    def broken_pack(*args: Any, **kwargs: Any) -> Any:
        yield 3, (b"abc",)
        raise MemoryError

    monkeypatch.setattr("pipeline.media.exr.pack", broken_pack)
    with pytest.raises(MemoryError):
        write_frame(tmp_path / "a.exr", rgb_frame(seed=2))
    assert same_pixels(read_frame(tmp_path / "a.exr"), old)
    assert len(list(tmp_path.iterdir())) == 1


def test_reading_and_writing_leave_the_gil_free(tmp_path: Path) -> None:
    frame = rgb_frame(1080, 1920)
    write_frame(tmp_path / "a.exr", frame)
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.001):
            ticks.append(time.perf_counter())

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        started = time.perf_counter()
        for _ in range(3):
            read_frame(tmp_path / "a.exr")
            write_frame(tmp_path / "b.exr", frame)
        spent = time.perf_counter() - started
    finally:
        stop.set()
        ticker.join()
    # With the GIL held through a decode or a packed frame there would be a handful of ticks.
    assert len(ticks) > 20 * spent
