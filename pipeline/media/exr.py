"""Read and write OpenEXR frames: every part, channel, type, window and attribute comes through as it was.

Pixels are decoded by OpenEXR's planar API, which keeps the GIL free; each channel is its own (height, width) array of its own
type. Headers are read by `exr_header`, so nothing is allocated for a file that declares more than it holds, and a file that
was cut off or zeroed at its end is refused although the library would open it.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import OpenEXR
import xxhash

from pipeline.errors import PlateError
from pipeline.layer import Layer, PixelType, layers_of
from pipeline.media import exr_header
from pipeline.media.exr_check import broken, first_damage, read_checked, read_header
from pipeline.media.exr_header import LINES_PER_CHUNK, ChannelInfo, FileHeader, PartHeader, timecode_text
from pipeline.media.exr_pack import CODECS as OWN_CODECS
from pipeline.media.exr_pack import pack
from pipeline.media.files import write_whole
from pipeline.media.half import to_float
from pipeline.plate import Window
from pipeline.rate import FrameRate, RateError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DTYPES: dict[PixelType, Any] = {PixelType.HALF: np.float16, PixelType.FLOAT: np.float32, PixelType.UINT: np.uint32}
_TYPE_OF = {np.dtype(dtype): kind for kind, dtype in _DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an EXR. `channels`: full name → (height, width) of the data window, float16, float32 or uint32.

    `header` holds every attribute that isn't the pixels' own layout, as plain values (see `exr_header.decode`).
    Raises: PlateError on construction (a channel of another size or type, no channels).
    """

    name: str
    header: Mapping[str, Any]
    channels: Mapping[str, NDArray[Any]]
    data_window: Window
    display_window: Window

    def __post_init__(self) -> None:
        size = (self.data_window.height, self.data_window.width)
        if not self.channels:
            raise PlateError(f"part {self.name!r} has no channels")
        for name, plane in self.channels.items():
            if plane.shape != size:
                raise PlateError(f"channel {name} is {plane.shape[::-1]}, its data window {size[::-1]} pixels")
            if plane.dtype not in _TYPE_OF:
                raise PlateError(f"channel {name} is {plane.dtype}", "an EXR holds half, float and 32-bit unsigned")

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The part's channels by layer."""
        return layers_of(self.channels)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, all its parts."""

    parts: tuple[Part, ...]

    @property
    def main(self) -> Part:
        """The part with the main picture: the first that has R, G and B, else Y, else the first."""
        return self.parts[_main_index([part.channels for part in self.parts])]

    def rgb(self) -> NDArray[np.float32]:
        """The main picture, (3, height, width) float32 in its data window; a single channel is replicated.

        Raises: PlateError (no channels that make a picture).
        """
        part = self.main
        names = picture_channels(part.channels)
        out = np.empty((3, part.data_window.height, part.data_window.width), np.float32)
        for i, name in enumerate(names):
            if i and name == names[i - 1]:
                out[i] = out[i - 1]
            else:
                to_float(part.channels[name], out[i])
        return out


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """What a frame's header says. `colorspace` is its tag as written (`colorInteropID`), None without one."""

    parts: tuple[PartHeader, ...]
    rate: FrameRate | None
    timecode: str | None
    colorspace: str | None
    chromaticities: tuple[float, ...] | None
    file_bytes: int

    @property
    def main(self) -> PartHeader:
        """The part with the main picture, as `Frame.main`."""
        return self.parts[_main_index([[c.name for c in part.channels] for part in self.parts])]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers of all parts."""
        return tuple(
            layer for i, part in enumerate(self.parts) for layer in layers_of([c.name for c in part.channels], i)
        )


def _main_index(parts: Sequence[Collection[str]]) -> int:
    for wanted in ({"R", "G", "B"}, {"Y"}):
        for i, names in enumerate(parts):
            if wanted <= set(names):
                return i
    return 0


def picture_of(layers: Sequence[Layer]) -> tuple[str, str, str]:
    """The channels of a frame of these layers that make its picture. Raises: PlateError."""
    parts: dict[int, list[str]] = {}
    for layer in layers:
        parts.setdefault(layer.part, []).extend(layer.full_names())
    names = list(parts.values())
    return picture_channels(names[_main_index(names)])


def picture_channels(names: Collection[str]) -> tuple[str, str, str]:
    """The channels of a part that make its picture: R G B, else Y or a lone channel thrice, else the first layer with R G B.

    Raises: PlateError.
    """
    if {"R", "G", "B"} <= set(names):
        return "R", "G", "B"
    single = "Y" if "Y" in names else next(iter(names)) if len(names) == 1 else None
    if single is not None:
        return single, single, single
    for layer in layers_of(names):
        if {"R", "G", "B"} <= set(layer.channels):
            return f"{layer.name}.R", f"{layer.name}.G", f"{layer.name}.B"
    raise PlateError(f"no picture among the channels {', '.join(sorted(names))}", "it needs R, G and B, or Y")


def probe(path: Path | str) -> FrameInfo:
    """What the header says, without touching a pixel. Raises: PlateError, StorageError."""
    path = Path(path)
    header = read_header(path)
    attributes: dict[str, Any] = {}
    for part in header.parts:
        attributes = {**part.attributes, **attributes}
    primaries = attributes.get("chromaticities")
    tag = attributes.get("colorInteropID")
    return FrameInfo(
        parts=header.parts,
        rate=rate_of(attributes),
        timecode=timecode_text(attributes.get("timeCode")),
        colorspace=tag if isinstance(tag, str) and tag else None,
        chromaticities=primaries if isinstance(primaries, tuple) and len(primaries) == 8 else None,
        file_bytes=path.stat().st_size,
    )


def rate_of(attributes: Mapping[str, Any]) -> FrameRate | None:
    """The rate of the standard `framesPerSecond`, or of what Nuke writes beside it; None when the header doesn't say."""
    for name in ("framesPerSecond", "FramesPerSecond", "nuke/input/frame_rate", "input/frame_rate"):
        value = attributes.get(name)
        if isinstance(value, (Fraction, float, int, str)):
            with contextlib.suppress(RateError):
                return FrameRate.of(value)
    return None


def read_frame(path: Path | str, *, only: Collection[str] | None = None) -> Frame:
    """Read a frame, every channel in its own type, NaN and infinities as they are.

    `only` keeps these channels (full names) and drops parts without any; when the file has none of them, all are kept.
    Raises: PlateError (missing, cut off, zeroed at its end, damaged, deep, subsampled, too large), StorageError.
    """
    path = Path(path)
    header = read_checked(path)
    decoded = _decode(path, header)
    parts = []
    wanted = None if only is None else set(only)
    if wanted is not None and not any(c.name in wanted for part in header.parts for c in part.channels):
        wanted = None
    for part, channels in zip(header.parts, decoded, strict=True):
        kept = {c.name: channels[c.name] for c in part.channels if wanted is None or c.name in wanted}
        if kept:
            parts.append(Part(part.name, part.attributes, kept, part.data_window, part.display_window))
    return Frame(tuple(parts))


def verify(path: Path | str) -> None:
    """Decode every pixel and throw it away. Raises: PlateError, StorageError, as `read_frame`.

    An uncompressed file that was zeroed inside its very last scanline can't be told from a black one.
    """
    read_frame(path)


def _decode(path: Path, header: FileHeader) -> list[dict[str, NDArray[Any]]]:
    """Every part's planes. The library only prints what it can't decode and drops that part: here it is counted."""
    try:
        decoded = _decoded_parts(str(path))
    except (RuntimeError, ValueError):  # UnicodeDecodeError among them: an attribute that the binding can't represent
        try:
            decoded = _decoded_parts(_with_plain_header(path, header))
        except (RuntimeError, ValueError) as error:
            raise broken(path, f"has a header that can't be used: {error}") from error
    if len(decoded) != len(header.parts) or any(
        set(planes) != {c.name for c in part.channels} for planes, part in zip(decoded, header.parts, strict=True)
    ):
        raise broken(path, f"can't be decoded: {first_damage(path, header)}")
    return decoded


def _decoded_parts(source: str | IO[bytes]) -> list[dict[str, NDArray[Any]]]:
    with OpenEXR.File(source, separate_channels=True, num_threads=0) as file:
        return [{name: channel.pixels for name, channel in part.channels.items()} for part in file.parts]


def _with_plain_header(path: Path, header: FileHeader) -> IO[bytes]:
    """The same pixels under a header of nothing but its structure."""
    if any(part.tile is not None for part in header.parts):
        raise broken(path, "has a header that can't be read")
    plain = [replace(part, attributes={}) for part in header.parts]
    return io.BytesIO(_transplanted(path.read_bytes(), header.size, plain))


def _transplanted(data: bytes, old_size: int, parts: Sequence[PartHeader]) -> bytes:
    """A scanline file's pixels behind the header of `parts`, its offset tables moved along."""
    head = exr_header.build(parts)
    count = sum(part.chunks for part in parts)
    table = np.frombuffer(data, "<u8", count, old_size) + np.uint64(len(head)) - np.uint64(old_size)
    return b"".join((head, table.astype("<u8").tobytes(), memoryview(data)[old_size + 8 * count :]))


_LOSSY = ("pxr24", "b44", "b44a", "dwaa", "dwab")


def write_frame(path: Path | str, frame: Frame, *, codec: str = "zips", level: int = 4) -> None:
    """Write a frame whole or not at all: scanlines, each channel in the type it has, attributes as they are.

    The same frame gives the same bytes. `codec` is one of none, rle, zips, zip, piz, pxr24, b44, b44a, dwaa, dwab;
    `level` 0 … 9 goes with zips and zip alone: up to 4 is fast, above is smaller by a percent and several times slower.
    Raises: PlateError (a codec that isn't known, or would spoil these channels), StorageError (names the disk).
    """
    if codec not in LINES_PER_CHUNK or codec.startswith("htj2k"):
        raise PlateError(
            f"codec {codec!r} is not known", "choose zips, zip, piz, none, rle, pxr24, b44, b44a, dwaa or dwab"
        )
    if not 0 <= level <= 9:
        raise PlateError(f"level {level} is outside 0 to 9")
    if codec in _LOSSY:
        _refuse_data(frame, codec)
    headers = [_header_of(part, i, len(frame.parts), codec) for i, part in enumerate(frame.parts)]

    def write(file: IO[bytes]) -> None:
        if codec in OWN_CODECS:
            _write_packed(file, frame, headers, codec, level)
        else:
            file.write(_packed_by_library(frame, headers))

    write_whole(Path(path), write)


def _refuse_data(frame: Frame, codec: str) -> None:
    """DWA takes every channel whose name ends in R, G, B or Y for colour, `cryptoObject00.R` too; all lossy codecs lose data."""
    for part in frame.parts:
        for name, plane in part.channels.items():
            if name not in ("R", "G", "B", "A", "Y") or plane.dtype != np.float16:
                raise PlateError(
                    f"codec {codec} would spoil channel {name} ({_TYPE_OF[plane.dtype]})",
                    "lossy codecs are for pictures of half R, G, B, A: use zips, zip or piz",
                )


def _header_of(part: Part, index: int, count: int, codec: str) -> PartHeader:
    names = sorted(part.channels, key=lambda name: name.encode("utf-8", "surrogateescape"))
    return PartHeader(
        name=part.name or (f"Part{index}" if count > 1 else ""),
        storage="scanlineimage",
        compression=codec,
        channels=tuple(ChannelInfo(name, _TYPE_OF[part.channels[name].dtype]) for name in names),
        data_window=part.data_window,
        display_window=part.display_window,
        attributes=part.header,
    )


def _write_packed(file: IO[bytes], frame: Frame, headers: Sequence[PartHeader], codec: str, level: int) -> None:
    head = exr_header.build(headers)
    chunks = sum(header.chunks for header in headers)
    file.write(head)
    file.write(bytes(8 * chunks))
    at = len(head) + 8 * chunks
    offsets = []
    for number, (part, header) in enumerate(zip(frame.parts, headers, strict=True)):
        planes = [part.channels[channel.name] for channel in header.channels]
        index = number if len(headers) > 1 else None
        for size, pieces in pack(planes, codec=codec, level=level, y_min=part.data_window.y_min, part=index):
            offsets.append(at)
            at += size
            file.writelines(pieces)
    file.seek(len(head))
    file.write(struct.pack(f"<{chunks}Q", *offsets))


def _packed_by_library(frame: Frame, headers: Sequence[PartHeader]) -> bytes:
    """Codecs that only the library knows: it packs the pixels, the header is still ours."""
    parts = []
    for part, header in zip(frame.parts, headers, strict=True):
        plain = {
            "compression": getattr(OpenEXR, f"{header.compression.upper()}_COMPRESSION"),
            "type": OpenEXR.scanlineimage,
            **{name: _box(getattr(part, field)) for name, field in _WINDOWS},
        }
        channels = {channel.name: np.ascontiguousarray(part.channels[channel.name]) for channel in header.channels}
        parts.append(OpenEXR.Part(plain, channels, header.name))
    buffer = io.BytesIO()
    OpenEXR.File(parts, num_threads=0).write(buffer)
    data = buffer.getvalue()
    written = exr_header.parse(data)
    assert written is not None  # the library has just written it
    return _transplanted(data, written.size, headers)


_WINDOWS = (("dataWindow", "data_window"), ("displayWindow", "display_window"))


def _box(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    return (window.x_min, window.y_min), (window.x_max, window.y_max)


_VOLATILE = frozenset({"capDate", "preview"})
"""Attributes that differ from one rendering of the same frame to the next."""


def pixel_hash(frame: Frame) -> str:
    """What a frame holds, as 32 hex digits: XXH3-128 over pixels and canonical header, never over a file's bytes.

    The codec, the order of channels and attributes, and the date of writing don't count.
    """
    digest = xxhash.xxh3_128()
    for i, header in enumerate(_header_of(part, i, len(frame.parts), "none") for i, part in enumerate(frame.parts)):
        kept = {name: value for name, value in header.attributes.items() if name not in _VOLATILE}
        digest.update(exr_header.build([replace(header, attributes=kept)]))
        for channel in header.channels:
            digest.update(np.ascontiguousarray(frame.parts[i].channels[channel.name]).data)
    return digest.hexdigest()
