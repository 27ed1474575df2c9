"""Compress the scanlines of an EXR: ZIPS, ZIP and none, straight from planes.

The OpenEXR library spends most of a write in deflate at its level 4, and its Python binding can't ask for another. Here the
same chunks are made with ISA-L's deflate, four times as fast. What makes up for its weaker match search: the two halves of
a chunk (low bytes, high bytes) get Huffman tables of their own, so files come out no larger.

Chunk layout: "OpenEXR File Layout"; predictor and byte split as in OpenEXR's `ImfZip`: the chunk's bytes are split into
even and odd ones, then each byte is replaced by its difference to the one before, plus 128.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODECS = ("none", "zips", "zip")
"""What this module packs."""
_BAND_LINES = 16
"""Scanlines worked on at once: few enough to stay in the cache, and a multiple of every chunk's."""
_FAST_UP_TO = 4
_SPLIT_FROM = 4096
"""Chunks below this many bytes aren't worth a second Huffman table."""


def _isal() -> Any:
    """ISA-L's deflate; None where it has no wheel: the standard library's makes equally valid files, slower."""
    try:
        from isal import isal_zlib
    except ImportError:
        return None
    return isal_zlib


_ISAL = _isal()
Bytes = Any  # bytes, bytearray or a contiguous uint8 array: whatever a file's write() takes


def pack(
    planes: Sequence[NDArray[Any]], *, codec: str, level: int, y_min: int, part: int | None
) -> Iterator[tuple[int, Sequence[Bytes]]]:
    """The chunks of one part in rising order: (size on disk, pieces to write one after the other).

    `planes`: (height, width) arrays in the file's order of channels, float16, float32 or uint32. `part` is the part's
    number in a multi-part file, else None. Levels 0 … 4 are the fast coder's, 5 … 9 the standard library's.
    """
    height, width = planes[0].shape
    bytewise = [np.ascontiguousarray(p).astype(p.dtype.newbyteorder("<"), copy=False).view(np.uint8) for p in planes]
    prefix = b"" if part is None else struct.pack("<i", part)
    if codec == "none":
        yield from _uncompressed(bytewise, height, y_min, prefix)
        return
    lines = 16 if codec == "zip" else 1
    line_bytes = sum(b.shape[1] for b in bytewise)
    for top in range(0, height, _BAND_LINES):
        band = [b[top : top + _BAND_LINES] for b in bytewise]
        count = len(band[0])
        per_chunk = min(lines, count)
        for i, predicted in enumerate(_predict(band, width, per_chunk)):
            payload: Bytes = _deflate(predicted, level)
            if len(payload) >= line_bytes * per_chunk:  # the format keeps a chunk as it is when deflate gains nothing
                payload = np.concatenate([b[i * per_chunk : (i + 1) * per_chunk] for b in band], axis=1).tobytes()
            head = prefix + struct.pack("<ii", y_min + top + i * per_chunk, len(payload))
            yield len(head) + len(payload), (head, payload)


def _uncompressed(
    bytewise: Sequence[NDArray[np.uint8]], height: int, y_min: int, prefix: bytes
) -> Iterator[tuple[int, Sequence[Bytes]]]:
    line_bytes = sum(b.shape[1] for b in bytewise)
    start = len(prefix) + 8
    for top in range(0, height, _BAND_LINES):
        count = min(_BAND_LINES, height - top)
        records = np.empty((count, start + line_bytes), np.uint8)
        for i in range(count):
            records[i, :start] = np.frombuffer(prefix + struct.pack("<ii", y_min + top + i, line_bytes), np.uint8)
        at = start
        for b in bytewise:
            records[:, at : at + b.shape[1]] = b[top : top + count]
            at += b.shape[1]
        for record in records:
            yield record.size, (record,)


def _predict(band: Sequence[NDArray[np.uint8]], width: int, lines: int) -> NDArray[np.uint8]:
    """(chunks, bytes) ready to deflate, from byte planes (rows, bytes of a row) whose rows make whole chunks."""
    chunks = len(band[0]) // lines
    half = sum(b.shape[1] for b in band) // 2
    split = np.empty((chunks, 2, lines, half), np.uint8)
    at = 0
    for b in band:
        pairs = b.reshape(chunks, lines, -1, 2)
        end = at + pairs.shape[2]
        split[:, 0, :, at:end] = pairs[..., 0]
        split[:, 1, :, at:end] = pairs[..., 1]
        at = end
    flat = split.reshape(chunks, -1)
    out = np.empty_like(flat)
    np.subtract(flat[:, 1:], flat[:, :-1], out=out[:, 1:])
    out ^= 128  # + 128 in bytes
    out[:, 0] = flat[:, 0]
    return out


def _deflate(data: NDArray[np.uint8], level: int) -> bytes:
    """One zlib stream (RFC 1950) of a chunk's predicted bytes."""
    if _ISAL is None or level > _FAST_UP_TO:
        coder = zlib.compressobj(level, strategy=zlib.Z_FILTERED)
        return coder.compress(data.data) + coder.flush()
    fast = _ISAL.compressobj(min(level, 2))
    if data.size < _SPLIT_FROM:
        return bytes(fast.compress(data) + fast.flush())
    middle = data.size // 2
    first = fast.compress(data[:middle]) + fast.flush(_ISAL.Z_FULL_FLUSH)
    return bytes(first + fast.compress(data[middle:]) + fast.flush())
