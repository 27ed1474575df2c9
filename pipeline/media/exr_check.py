"""Look at an EXR file before its pixels are decoded: is it one, does it fit into memory, is all of it there.

The library opens a file whose end was zeroed, prints what it can't decode and goes on. Here every chunk that the offset
tables name must be in the file, carry the scanline it stands for, and end inside the file.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.errors import PlateError
from pipeline.media import exr_header
from pipeline.media.exr_header import COMPRESSIONS, FileHeader, PartHeader
from pipeline.media.files import read_error

_HEADER_AT_FIRST, _HEADER_AT_MOST = 1 << 16, 1 << 26
_ZERO_TAIL = 256
"""No codec ends a chunk with this many zero bytes; a copy that stopped half-way does."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one frame may declare. A 585-byte file can ask for 74 GiB; a real frame stays far below these."""

    side: int = 16384
    channels: int = 1024
    decoded_bytes: int = 8 << 30


LIMITS = Limits()


def read_header(path: Path, *, limits: Limits = LIMITS) -> FileHeader:
    """The header alone, checked against `limits`. Raises: PlateError, StorageError (the share is gone)."""
    try:
        with Path(path).open("rb") as file:
            return _read_header(file, Path(path), limits)
    except OSError as error:
        raise read_error(error, Path(path)) from error


def _read_header(file: IO[bytes], path: Path, limits: Limits) -> FileHeader:
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise PlateError(f"{path} is empty (0 bytes)", "it was not written to the end; render or copy it again")
    data = b""
    want = _HEADER_AT_FIRST
    try:
        while True:
            data += file.read(want - len(data))
            header = exr_header.parse(data)
            if header is not None:
                break
            if len(data) < want or want >= _HEADER_AT_MOST:
                raise PlateError(f"{path} breaks off inside its header", "copy or render it again")
            want *= 4
    except exr_header.BadHeader as error:
        raise PlateError(
            f"{path} {error.message}", error.hint or "render it again, or convert it to an OpenEXR image"
        ) from error
    for part in header.parts:
        _check_part(part, path, limits)
    decoded = sum(part.line_bytes * part.data_window.height for part in header.parts)
    if decoded > limits.decoded_bytes:
        raise PlateError(f"{path} declares {decoded / 2**30:.1f} GiB of pixels", "it is damaged, or hostile")
    return header


def _check_part(part: PartHeader, path: Path, limits: Limits) -> None:
    if part.storage not in ("scanlineimage", "tiledimage"):
        raise PlateError(f"{path} is a deep image ({part.storage})", "flatten it first: deep samples are not supported")
    width, height = part.data_window.width, part.data_window.height
    if width < 1 or height < 1 or part.display_window.width < 1 or part.display_window.height < 1:
        raise PlateError(f"{path} declares a window of {width}×{height} pixels")
    if width > limits.side or height > limits.side or len(part.channels) > limits.channels:
        raise PlateError(
            f"{path} declares {width}×{height} pixels and {len(part.channels)} channels",
            f"the most is {limits.side}×{limits.side} and {limits.channels}; it is damaged, or hostile",
        )
    if part.compression not in COMPRESSIONS:
        raise PlateError(
            f"{path} is compressed by {part.compression}, which is not known", "write it as zips, zip or piz"
        )
    if not part.channels:
        raise PlateError(f"{path} has no channels")
    for channel in part.channels:
        if (channel.x_sampling, channel.y_sampling) != (1, 1):
            raise PlateError(
                f"{path}: channel {channel.name} is subsampled {channel.x_sampling}×{channel.y_sampling}",
                "write it as R, G, B at full resolution",
            )


def read_checked(path: Path, *, limits: Limits = LIMITS) -> FileHeader:
    """The header of a file of which every chunk is there. Raises: PlateError, StorageError."""
    try:
        with path.open("rb") as file:
            header = _read_header(file, path, limits)
            _check_chunks(file, header, path)
    except OSError as error:
        raise read_error(error, path) from error
    return header


def _check_chunks(file: IO[bytes], header: FileHeader, path: Path) -> None:
    """Find every chunk that the offset tables name, before memory is taken. Raises: PlateError."""
    handle = file.fileno()
    at = header.size
    last: tuple[int, int, str] = (0, 0, "none")
    for number, part in enumerate(header.parts):
        count = part.chunks
        entries = part.declared_chunks if header.multipart and part.declared_chunks else count
        if count == 0:  # a codec this module doesn't know: the library's own checks must do
            continue
        table = os.pread(handle, 8 * count, at)
        if entries < count or len(table) < 8 * count:
            raise broken(path, f"breaks off inside its table of {count} chunks")
        at += 8 * entries
        offsets = struct.unpack(f"<{count}Q", table)
        start, length = _check_part_chunks(handle, part, number if header.multipart else None, offsets, path)
        if start > last[0]:
            last = (start, length, part.compression)
    start, length, codec = last
    if codec not in ("none", "rle") and length >= _ZERO_TAIL and not any(os.pread(handle, length, start)[-_ZERO_TAIL:]):
        raise broken(path, "ends in zeros where pixels should be")


def _check_part_chunks(
    handle: int, part: PartHeader, number: int | None, offsets: Sequence[int], path: Path
) -> tuple[int, int]:
    """Where the payload of the chunk that lies last in the file begins, and how long it is."""
    size = os.fstat(handle).st_size
    lead = () if number is None else (number,)
    if part.tile is None:
        layout = struct.Struct("<" + "i" * (len(lead) + 2))
    else:
        layout = struct.Struct("<" + "i" * (len(lead) + 5))
        across = -(-part.data_window.width // part.tile[0])
    head, read, unpack = layout.size, os.pread, layout.unpack
    top, lines = part.data_window.y_min, part.lines_per_chunk
    last = (0, 0)
    for i, offset in enumerate(offsets):
        place: tuple[int, ...] = (top + i * lines,) if part.tile is None else (i % across, i // across, 0, 0)
        where = "scanline" if part.tile is None else "tile"
        raw = read(handle, head, offset) if 0 < offset <= size - head else b""
        if len(raw) < head:
            raise broken(path, f"lacks its pixels from {where} {place[0]} on")
        *found, length = unpack(raw)
        if (*lead, *place) != tuple(found) or length < 1:
            raise broken(path, f"holds no pixels for {where} {place[0]}")
        if offset + head + length > size:
            raise broken(path, f"is cut off at {where} {place[0]}")
        if offset > last[0]:
            last = (offset + head, length)
    return last


def broken(path: Path, what: str) -> PlateError:
    return PlateError(f"{path} {what}", "it was not written or copied to the end; render or copy it again")


def first_damage(path: Path, header: FileHeader) -> str:
    """Which scanlines are damaged, as far as their codec's checksum tells."""
    part = header.parts[0]
    if header.multipart or part.compression not in ("zip", "zips") or part.tile is not None:
        return "its compressed pixels are damaged"
    most = part.line_bytes * part.lines_per_chunk
    with path.open("rb") as file:
        offsets = struct.unpack(f"<{part.chunks}Q", os.pread(file.fileno(), 8 * part.chunks, header.size))
        for i, offset in enumerate(offsets):
            _, length = struct.unpack("<ii", os.pread(file.fileno(), 8, offset))
            if length >= most:
                continue
            try:
                zlib.decompress(os.pread(file.fileno(), length, offset + 8))
            except zlib.error:
                return f"its pixels are damaged from scanline {part.data_window.y_min + i * part.lines_per_chunk} on"
    return "its compressed pixels are damaged"
