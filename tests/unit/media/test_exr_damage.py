"""Files that were cut off, zeroed, damaged, or never were images: refused, before memory is taken."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from pipeline.errors import PlateError
from pipeline.layer import PixelType
from pipeline.media import exr_header
from pipeline.media.exr import Frame, Part, probe, read_frame, verify, write_frame
from pipeline.media.exr_check import Limits, read_header
from pipeline.media.exr_header import ChannelInfo, PartHeader
from pipeline.plate import Window
from tests.unit.media.frames import rgb_frame

CODECS = ["none", "rle", "zips", "zip", "piz", "pxr24", "dwaa"]


def written(path: Path, codec: str) -> bytes:
    write_frame(path, rgb_frame(100, 120, header={"owner": "someone"}), codec=codec)
    return path.read_bytes()


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.exr"
    whole = written(path, codec)
    for length in [0, 1, 4, 8, 30, 200, *np.linspace(300, len(whole) - 1, 25).astype(int)]:
        path.write_bytes(whole[:length])
        with pytest.raises(PlateError, match=r"a\.exr"):
            verify(path)


@pytest.mark.parametrize("codec", CODECS)
def test_a_tail_zeroed_exr_is_refused(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.exr"
    whole = written(path, codec)
    line = 120 * 3 * 2
    # An uncompressed file's very last scanline could as well be black: from there on it can't be known.
    least = line + 8 if codec in ("none", "rle") else 300
    for zeros in np.linspace(least, len(whole) - 400, 20).astype(int):
        path.write_bytes(whole[:-zeros] + bytes(zeros))
        with pytest.raises(PlateError, match=r"a\.exr"):
            verify(path)


def test_a_tail_zeroed_exr_opens_without_a_word_in_the_library(tmp_path: Path) -> None:
    """Why the check exists: if this fails, the library learnt to tell, and the check may go."""
    path = tmp_path / "a.exr"
    plane = np.random.default_rng(0).random((64, 50)).astype(np.float16)
    header = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.PIZ_COMPRESSION}
    OpenEXR.File(header, {"Y": plane}).write(str(path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-400] + bytes(400))
    assert OpenEXR.File(str(path), separate_channels=True).parts
    with pytest.raises(PlateError, match="ends in zeros"):
        read_frame(path)


@pytest.mark.parametrize("codec", ["zips", "zip"])
def test_flipped_bytes_in_the_pixels_are_refused_with_their_scanline(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.exr"
    whole = bytearray(written(path, codec))
    header = read_header(path)
    count = header.parts[0].chunks
    offset = struct.unpack_from(f"<{count}Q", whole, header.size)[count // 2]
    for i in range(20, 40):
        whole[offset + 8 + i] ^= 0xFF
    path.write_bytes(bytes(whole))
    line = count // 2 * header.parts[0].lines_per_chunk
    with pytest.raises(PlateError, match=f"damaged from scanline {line} on"):
        verify(path)


def test_a_writer_that_died_leaves_offsets_of_zero_and_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    whole = bytearray(written(path, "zips"))
    header = read_header(path)
    whole[header.size + 8 * 60 : header.size + 8 * 100] = bytes(8 * 40)
    path.write_bytes(bytes(whole))
    with pytest.raises(PlateError, match="lacks its pixels from scanline 60 on"):
        verify(path)


def test_every_part_of_a_multipart_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    window = Window.of_size(50, 40)
    planes = [np.random.default_rng(i).random((40, 50)).astype(np.float32) for i in range(2)]
    write_frame(path, Frame(tuple(Part(f"p{i}", {}, {"Z": p}, window, window) for i, p in enumerate(planes))))
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(PlateError, match="cut off at scanline 39"):
        verify(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello, I am a text file", b"\x76\x2f\x31\x01", b"\x76\x2f\x31\x01\x02\0\0\0"]
)
def test_what_is_no_exr_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.exr"
    path.write_bytes(content)
    for look in (probe, read_frame, verify):
        with pytest.raises(PlateError, match=r"a\.exr"):
            look(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PlateError, match="doesn't exist"):
        read_frame(tmp_path / "a.exr")
    with pytest.raises(PlateError, match="no file"):
        read_frame(tmp_path)


def bomb(width: int, height: int, channels: int = 4) -> bytes:
    part = PartHeader(
        name="",
        storage="scanlineimage",
        compression="zips",
        channels=tuple(ChannelInfo(f"c{i:04d}", PixelType.FLOAT) for i in range(channels)),
        data_window=Window.of_size(width, height),
        display_window=Window.of_size(width, height),
    )
    return exr_header.build([part])


@pytest.mark.parametrize("size", [(100_000, 50_000, 4), (2**31 - 1, 1, 4), (16384, 16384, 100), (16, 16, 2000)])
def test_a_small_file_that_declares_gigabytes_is_refused_by_its_header(
    tmp_path: Path, size: tuple[int, int, int]
) -> None:
    path = tmp_path / "bomb.exr"
    path.write_bytes(bomb(*size) + bytes(200))
    for look in (probe, read_frame):
        with pytest.raises(PlateError, match="declares"):
            look(path)


def test_a_declared_picture_without_its_chunks_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "bomb.exr"
    path.write_bytes(bomb(16000, 16000) + bytes(200))
    with pytest.raises(PlateError, match="table of 16000 chunks"):
        read_frame(path)


def test_limits_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    write_frame(path, rgb_frame(20, 30))
    read_header(path, limits=Limits(side=30, channels=3, decoded_bytes=3600))
    for limits in (Limits(side=29), Limits(channels=2), Limits(decoded_bytes=3599)):
        with pytest.raises(PlateError):
            read_header(path, limits=limits)


def test_subsampled_channels_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    planes = {
        "Y": OpenEXR.Channel(np.zeros((4, 4), np.float16)),
        "RY": OpenEXR.Channel(np.zeros((4, 4), np.float16)),
    }
    header = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.NO_COMPRESSION}
    OpenEXR.File(header, planes).write(str(path))
    data = path.read_bytes()
    at = data.index(b"RY\0") + 3 + 8
    path.write_bytes(data[:at] + struct.pack("<ii", 2, 2) + data[at + 8 :])
    with pytest.raises(PlateError, match="channel RY is subsampled"):
        read_frame(path)


def test_a_codec_of_the_future_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    data = bytearray(written(path, "zips"))
    data[data.index(b"compression\0compression\0") + 28] = 77
    path.write_bytes(bytes(data))
    with pytest.raises(PlateError, match="codec 77, which is not known"):
        probe(path)


def test_deep_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    samples = np.empty((4, 4), dtype=object)
    for i in np.ndindex(4, 4):
        samples[i] = np.array([1.0, 2.0], np.float32)
    header = {"type": OpenEXR.deepscanline, "compression": OpenEXR.ZIPS_COMPRESSION}
    OpenEXR.File(header, {"Z": OpenEXR.Channel("Z", samples)}).write(str(path))
    with pytest.raises(PlateError, match="deep"):
        read_frame(path)


def test_random_bytes_in_the_header_never_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    whole = written(path, "zips")
    size = read_header(path).size
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(8, size, 3):
            data[at] = rng.integers(0, 256)
        path.write_bytes(bytes(data))
        try:
            read_frame(path)
        except PlateError:
            refused += 1
    assert refused > 30
