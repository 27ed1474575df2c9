"""The header of an OpenEXR file: read from bytes and written to bytes, attribute for attribute.

The library's Python binding drops the types of some attributes, refuses others, and opens a file before anybody could
ask how much memory it wants. A header is small, so it is read here: nothing in it is lost between input and output, and a
file that declares more than it can hold is refused before a pixel is allocated.

Layout: "OpenEXR File Layout", Academy Software Foundation (magic, version, attributes, chunk offset tables, chunks).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from pipeline.errors import PlateError
from pipeline.layer import PixelType
from pipeline.plate import Window
from pipeline.rate import FrameRate

MAGIC = 20000630
_TILED, _LONG_NAMES, _DEEP, _MULTIPART = 0x200, 0x400, 0x800, 0x1000
_KNOWN_FLAGS = 0xFF | _TILED | _LONG_NAMES | _DEEP | _MULTIPART

COMPRESSIONS = (
    "none", "rle", "zips", "zip", "piz", "pxr24", "b44", "b44a", "dwaa", "dwab", "htj2k256", "htj2k32", "lj2k", "zstd",
)  # fmt: skip
"""Codecs by their number in the file."""
LINES_PER_CHUNK = {
    "none": 1, "rle": 1, "zips": 1, "zip": 16, "piz": 32, "pxr24": 16, "b44": 32, "b44a": 32, "dwaa": 32, "dwab": 256,
    "htj2k256": 256, "htj2k32": 32,
}  # fmt: skip
PIXEL_TYPES = (PixelType.UINT, PixelType.HALF, PixelType.FLOAT)
"""Pixel types by their number in the file."""
BYTES_OF = {PixelType.UINT: 4, PixelType.HALF: 2, PixelType.FLOAT: 4}

STRUCTURAL = frozenset(
    {
        "channels",
        "compression",
        "dataWindow",
        "displayWindow",
        "lineOrder",
        "name",
        "type",
        "tiles",
        "chunkCount",
        "version",
    }
)
"""Attributes that say how the pixels lie. They are values of their own, never among `attributes`."""


class BadHeader(PlateError):
    """Bytes that are no header of an image that can be read."""


class _Short(Exception):
    """The header goes on behind the bytes that are at hand."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute without a plain Python value, kept as the file has it: EXR type name and bytes."""

    type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """One channel as the header declares it."""

    name: str
    type: PixelType
    x_sampling: int = 1
    y_sampling: int = 1


@dataclass(frozen=True, slots=True)
class PartHeader:
    """One part as the header declares it."""

    name: str
    storage: str
    """`scanlineimage`, `tiledimage`, `deepscanline` or `deeptile`."""
    compression: str
    channels: tuple[ChannelInfo, ...]
    data_window: Window
    display_window: Window
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tile: tuple[int, int, int] | None = None
    """Width, height and mode byte of the tiles."""
    declared_chunks: int | None = None

    @property
    def line_bytes(self) -> int:
        """Bytes of one decoded scanline."""
        return self.data_window.width * sum(BYTES_OF[c.type] for c in self.channels)

    @property
    def lines_per_chunk(self) -> int:
        """Scanlines that are compressed together; 0 when the codec isn't known here."""
        return LINES_PER_CHUNK.get(self.compression, 0)

    @property
    def chunks(self) -> int:
        """Entries of the part's offset table that hold the full picture; tiled parts have smaller levels behind them."""
        width, height = self.data_window.width, self.data_window.height
        if self.tile is not None:
            return -(-width // self.tile[0]) * -(-height // self.tile[1])
        if self.lines_per_chunk:
            return -(-height // self.lines_per_chunk)
        return self.declared_chunks or 0


@dataclass(frozen=True, slots=True)
class FileHeader:
    """All parts' headers, and where the offset tables begin."""

    parts: tuple[PartHeader, ...]
    multipart: bool
    size: int
    """Bytes before the first offset table."""


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if count < 0:
            raise BadHeader("an attribute has a negative size")
        if self.at + count > len(self.data):
            raise _Short
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def number(self) -> int:
        return int(struct.unpack("<i", self.take(4))[0])

    def text(self, longest: int = 255) -> str:
        end = self.data.find(b"\0", self.at, self.at + longest + 1)
        if end < 0:
            if len(self.data) - self.at <= longest:
                raise _Short
            raise BadHeader(f"a name in the header is longer than {longest} bytes")
        piece = self.data[self.at : end]
        self.at = end + 1
        return piece.decode("utf-8", "surrogateescape")


def parse(data: bytes) -> FileHeader | None:
    """The header at the start of `data`; None when it goes on behind it.

    Raises: BadHeader (not an EXR, a version or structure that isn't known, required attributes missing).
    """
    cursor = _Cursor(data)
    try:
        if cursor.number() != MAGIC:
            raise BadHeader("is not an OpenEXR file", "its content doesn't begin as an EXR does")
        version = cursor.number()
        if version & 0xFF != 2 or version & ~_KNOWN_FLAGS:
            raise BadHeader(f"has an unknown EXR version 0x{version:x}")
        multipart = bool(version & _MULTIPART)
        parts: list[PartHeader] = []
        while True:
            attributes = dict(_attributes(cursor))
            if not attributes and multipart:
                break
            parts.append(_part(attributes, tiled=bool(version & _TILED), deep=bool(version & _DEEP)))
            if not multipart:
                break
    except _Short:
        return None
    if not parts:
        raise BadHeader("declares no parts")
    return FileHeader(tuple(parts), multipart, cursor.at)


def _attributes(cursor: _Cursor) -> Iterator[tuple[str, Attribute]]:
    while name := cursor.text():
        kind = cursor.text()
        yield name, Attribute(kind, cursor.take(cursor.number()))


def _part(raw: Mapping[str, Attribute], *, tiled: bool, deep: bool) -> PartHeader:
    def required(name: str, kind: str, size: int) -> bytes:
        attribute = raw.get(name)
        if attribute is None or attribute.type != kind or len(attribute.data) < size:
            raise BadHeader(f"has no usable attribute {name!r} in its header")
        return attribute.data

    codec = required("compression", "compression", 1)[0]
    windows = [Window(*struct.unpack("<4i", required(n, "box2i", 16)[:16])) for n in ("dataWindow", "displayWindow")]
    storage = "deepscanline" if deep else "tiledimage" if tiled else "scanlineimage"
    if "type" in raw:
        storage = raw["type"].data.decode("ascii", "replace")
    tile = None
    if storage.endswith(("tiledimage", "deeptile")):
        tile = struct.unpack("<IIB", required("tiles", "tiledesc", 9)[:9])
        if not (tile[0] and tile[1]):
            raise BadHeader("declares tiles of no size")
    chunks = raw.get("chunkCount")
    return PartHeader(
        name=raw["name"].data.decode("utf-8", "surrogateescape") if "name" in raw else "",
        storage=storage,
        compression=COMPRESSIONS[codec] if codec < len(COMPRESSIONS) else f"codec {codec}",
        channels=tuple(_channels(required("channels", "chlist", 1))),
        data_window=windows[0],
        display_window=windows[1],
        attributes={name: decode(a) for name, a in raw.items() if name not in STRUCTURAL},
        tile=tile,
        declared_chunks=struct.unpack("<i", chunks.data[:4])[0]
        if chunks is not None and len(chunks.data) >= 4
        else None,
    )


def _channels(data: bytes) -> Iterator[ChannelInfo]:
    cursor = _Cursor(data)
    try:
        while name := cursor.text():
            kind, _linear, x_sampling, y_sampling = struct.unpack("<iB3xii", cursor.take(16))
            if kind not in range(len(PIXEL_TYPES)):
                raise BadHeader(f"channel {name} has an unknown pixel type {kind}")
            yield ChannelInfo(name, PIXEL_TYPES[kind], x_sampling, y_sampling)
    except _Short:
        raise BadHeader("its list of channels breaks off") from None


_VECTORS = {
    "v2i": "<2i",
    "v3i": "<3i",
    "v2f": "<2f",
    "v3f": "<3f",
    "box2f": "<4f",
    "chromaticities": "<8f",
    "m33f": "<9f",
    "m44f": "<16f",
}
_VECTOR_OF = {(2, int): "v2i", (3, int): "v3i", (2, float): "v2f", (3, float): "v3f", (4, float): "box2f",
              (8, float): "chromaticities", (9, float): "m33f", (16, float): "m44f"}  # fmt: skip


def decode(attribute: Attribute) -> Any:
    """The plain Python value of an attribute, or the attribute itself where a value would lose something.

    str, int, float, Fraction, Window, tuples of numbers (vectors, boxes, chromaticities, matrices), list of str or float.
    `encode(decode(a)) == a` for every attribute.
    """
    value = _decode(attribute)
    return value if value is not None and encode(value) == attribute else attribute


def _decode(attribute: Attribute) -> Any:
    kind, data = attribute.type, attribute.data
    try:
        if kind == "string":
            return data.decode("utf-8", "surrogateescape")
        if kind == "int":
            return struct.unpack("<i", data)[0]
        if kind == "float":
            return struct.unpack("<f", data)[0]
        if kind == "rational":
            return Fraction(*struct.unpack("<iI", data))
        if kind == "box2i":
            return Window(*struct.unpack("<4i", data))
        if kind in _VECTORS:
            return struct.unpack(_VECTORS[kind], data)
        if kind == "floatvector":
            return list(struct.unpack(f"<{len(data) // 4}f", data)) or None
        if kind == "stringvector":
            return list(_strings(data)) or None
    except (struct.error, ZeroDivisionError, _Short, BadHeader):
        return None
    return None


def _strings(data: bytes) -> Iterator[str]:
    cursor = _Cursor(data)
    while cursor.at < len(data):
        yield cursor.take(cursor.number()).decode("utf-8", "surrogateescape")


def encode(value: Any) -> Attribute | None:
    """The attribute that stands for a plain Python value; None when nothing does."""
    try:
        return value if isinstance(value, Attribute) else _encode(value)
    except (struct.error, OverflowError):
        return None


def _encode(value: Any) -> Attribute | None:
    if isinstance(value, str):
        return Attribute("string", value.encode("utf-8", "surrogateescape"))
    if isinstance(value, bool):
        return Attribute("int", struct.pack("<i", value))
    if isinstance(value, int):
        return Attribute("int", struct.pack("<i", value))
    if isinstance(value, float):
        return Attribute("float", struct.pack("<f", value))
    if isinstance(value, Fraction):
        return Attribute("rational", struct.pack("<iI", value.numerator, value.denominator))
    if isinstance(value, Window):
        return Attribute("box2i", struct.pack("<4i", *value.as_list()))
    if isinstance(value, tuple):
        return _encode_tuple(value)
    if isinstance(value, list) and value:
        if all(isinstance(v, str) for v in value):
            texts = [v.encode("utf-8", "surrogateescape") for v in value]
            return Attribute("stringvector", b"".join(struct.pack("<i", len(t)) + t for t in texts))
        if all(isinstance(v, float) for v in value):
            return Attribute("floatvector", struct.pack(f"<{len(value)}f", *value))
    return None


def _encode_tuple(value: Sequence[Any]) -> Attribute | None:
    number = int if all(isinstance(v, int) for v in value) else float
    kind = _VECTOR_OF.get((len(value), number)) or _VECTOR_OF.get((len(value), float))
    if kind is None or not all(isinstance(v, (int, float)) for v in value):
        return None
    return Attribute(kind, struct.pack(_VECTORS[kind], *value))


def build(parts: Sequence[PartHeader]) -> bytes:
    """The bytes of a scanline file's header, up to the offset tables; the same parts give the same bytes.

    Raises: PlateError (an attribute that has no EXR type, names that clash).
    """
    multipart = len(parts) > 1
    names = [part.name for part in parts]
    if multipart and (len(set(names)) != len(names) or "" in names):
        raise PlateError(f"parts need different names, these have {names}")
    blocks = [_build_part(part, multipart=multipart) for part in parts]
    long_names = any(len(n) > 31 for part in parts for n in (*part.attributes, *(c.name for c in part.channels)))
    version = 2 | (_MULTIPART if multipart else 0) | (_LONG_NAMES if long_names else 0)
    return struct.pack("<ii", MAGIC, version) + b"".join(blocks) + (b"\0" if multipart else b"")


def _build_part(part: PartHeader, *, multipart: bool) -> bytes:
    attributes: dict[str, Attribute] = {}
    for name, value in part.attributes.items():
        if name in STRUCTURAL:
            continue
        attribute = encode(value)
        if attribute is None:
            raise PlateError(
                f"header attribute {name!r} can't be written: {type(value).__name__} {value!r:.80}",
                "give a text, a number, a Fraction, a tuple of 2, 3, 4, 8, 9 or 16 numbers, or an Attribute",
            )
        attributes[name] = attribute
    attributes["channels"] = Attribute("chlist", _build_channels(part.channels))
    attributes["compression"] = Attribute("compression", bytes([COMPRESSIONS.index(part.compression)]))
    attributes["dataWindow"] = Attribute("box2i", struct.pack("<4i", *part.data_window.as_list()))
    attributes["displayWindow"] = Attribute("box2i", struct.pack("<4i", *part.display_window.as_list()))
    attributes["lineOrder"] = Attribute("lineOrder", b"\0")
    attributes["type"] = Attribute("string", b"scanlineimage")
    attributes.setdefault("pixelAspectRatio", Attribute("float", struct.pack("<f", 1.0)))
    attributes.setdefault("screenWindowCenter", Attribute("v2f", struct.pack("<2f", 0.0, 0.0)))
    attributes.setdefault("screenWindowWidth", Attribute("float", struct.pack("<f", 1.0)))
    if part.name:
        attributes["name"] = Attribute("string", part.name.encode("utf-8", "surrogateescape"))
    if multipart:
        attributes["chunkCount"] = Attribute("int", struct.pack("<i", part.chunks))
    out = bytearray()
    for key, a in sorted((_name(name), a) for name, a in attributes.items()):
        out += key + b"\0" + _name(a.type) + b"\0" + struct.pack("<i", len(a.data)) + a.data
    return bytes(out) + b"\0"


def _name(text: str) -> bytes:
    name = text.encode("utf-8", "surrogateescape")
    if not name or len(name) > 255 or b"\0" in name:
        raise PlateError(f"header name {text!r:.80} can't be written", "1 to 255 bytes, none of them 0")
    return name


def _build_channels(channels: Sequence[ChannelInfo]) -> bytes:
    out = bytearray()
    for channel in channels:
        kind = PIXEL_TYPES.index(channel.type)
        out += _name(channel.name) + b"\0" + struct.pack("<iB3xii", kind, 0, channel.x_sampling, channel.y_sampling)
    return bytes(out) + b"\0"


_TIMECODE_FLAGS = 0xC0808080
"""Bits beside the digits and drop-frame: colour frame, field phase, and the binary group flags that say what the user data is."""


def timecode_text(value: Any) -> str | None:
    """`HH:MM:SS:FF` of a `timeCode` attribute (SMPTE ST 12-1, packed as for TV60), `;` before FF for drop-frame; else None."""
    if not isinstance(value, Attribute) or value.type != "timecode" or len(value.data) != 8:
        return None
    word = struct.unpack("<I", value.data[:4])[0]
    pairs = [
        (word >> shift & mask) * 10 + (word >> shift - 4 & 15) for shift, mask in ((28, 3), (20, 7), (12, 7), (4, 3))
    ]
    hours, minutes, seconds, frame = pairs
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{';' if word >> 6 & 1 else ':'}{frame:02d}"


def timecode_attribute(text: str) -> Attribute:
    """The `timeCode` attribute of `HH:MM:SS:FF`; a `;` or `.` before FF means drop-frame. Raises: PlateError."""
    clean = text.replace(";", ":").replace(".", ":")
    try:
        hours, minutes, seconds, frame = (int(piece) for piece in clean.split(":"))
    except ValueError:
        raise PlateError(f"{text!r} is not a timecode", "write HH:MM:SS:FF") from None
    if not (0 <= hours < 24 and 0 <= minutes < 60 and 0 <= seconds < 60 and 0 <= frame < 40):
        raise PlateError(f"{text!r} is not a timecode", "write HH:MM:SS:FF")
    word = (1 << 6) if text[-3] in ";." else 0
    for shift, number in ((24, hours), (16, minutes), (8, seconds), (0, frame)):
        word |= (number // 10 << 4 | number % 10) << shift
    return Attribute("timecode", struct.pack("<II", word, 0))


def shift_timecode(value: Any, frames: int, rate: FrameRate) -> Attribute | None:
    """A `timeCode` attribute so many frames on, counted at the rate's whole number; a day wraps.

    Drop-frame labels skip 2 numbers a minute but every tenth (SMPTE ST 12-1). None when it is no timecode, or counts more
    than 30 frames a second, where the label's frame number stands for a pair.
    """
    text, base = timecode_text(value), math.ceil(rate.value)
    if text is None or base > 30:
        return None
    drop = 2 if text[-3] == ";" and base == 30 else 0
    hours, minutes, seconds, frame = (int(piece) for piece in text.replace(";", ":").split(":"))
    passed = hours * 60 + minutes
    count = (passed * 60 + seconds) * base + frame - drop * (passed - passed // 10)
    ten_minutes = 600 * base - 9 * drop
    count = (count + frames) % (144 * ten_minutes)
    tens, rest = divmod(count, ten_minutes)
    minute = 0 if rest < 60 * base else 1 + (rest - 60 * base) // (60 * base - drop)
    label = count + drop * (9 * tens + minute)
    seconds, frame = divmod(label, base)
    mark = ";" if text[-3] == ";" else ":"
    made = timecode_attribute(f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{frame:02d}")
    flags = struct.unpack("<I", value.data[:4])[0] & _TIMECODE_FLAGS
    word = struct.unpack("<I", made.data[:4])[0] | flags
    return Attribute("timecode", struct.pack("<I", word) + value.data[4:])
