"""A contact sheet: published takes under each other, the same frames of each side by side, from their review proxies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import OpenImageIO as oiio

from pipeline.errors import PlateError
from pipeline.media.files import write_whole

_GAP, _LINE, _SIZE = 6, 26, 16
_GREY, _WHITE, _DIM = (0.09, 0.09, 0.1), (0.92, 0.92, 0.92), (0.6, 0.6, 0.62)


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One take: what to write above it, and its picture of each frame; None where it has none."""

    title: str
    pictures: tuple[Path | None, ...]


def write_sheet(path: Path, rows: Sequence[SheetRow], labels: Sequence[str], *, width: int = 320) -> None:
    """Write a JPEG with a row for each take and a column, `width` pixels wide, for each label.

    Raises: PlateError (no picture can be read), StorageError.
    """
    read = [[None if p is None else _scaled(p, width) for p in row.pictures] for row in rows]
    heights = [buf.spec().height for row in read for buf in row if buf is not None]
    if not heights:
        raise PlateError(
            "there are no pictures for a contact sheet", "wait until a take is published with review proxies"
        )
    cell = max(heights)
    spec = oiio.ImageSpec(_GAP + len(labels) * (width + _GAP), _LINE + len(rows) * (_LINE + cell + _GAP), 3, oiio.UINT8)
    sheet = oiio.ImageBuf(spec)
    oiio.ImageBufAlgo.fill(sheet, _GREY)
    for column, label in enumerate(labels):
        _write(sheet, _GAP + column * (width + _GAP), _LINE - 8, label, _DIM)
    for line, (row, pictures) in enumerate(zip(rows, read, strict=True)):
        top = _LINE + line * (_LINE + cell + _GAP)
        _write(sheet, _GAP, top + _LINE - 8, row.title, _WHITE)
        for column, picture in enumerate(pictures):
            if picture is not None:
                oiio.ImageBufAlgo.paste(sheet, _GAP + column * (width + _GAP), top + _LINE, 0, 0, picture)
    # The library writes by name and tells the format from it: a JPEG beside the target, then moved whole.
    part = path.with_name(f".{path.stem}.part.jpg")
    sheet.set_write_format(oiio.UINT8)
    try:
        if not sheet.write(str(part)):
            raise PlateError(f"the contact sheet can't be written: {sheet.geterror()}", "look at the disk")
        data = part.read_bytes()
    finally:
        part.unlink(missing_ok=True)
    write_whole(path, lambda file: _put(file, data))


def _scaled(path: Path, width: int) -> oiio.ImageBuf | None:
    source = oiio.ImageBuf(str(path))
    if not source.read(0, 0, True, oiio.FLOAT) or source.nchannels < 3:
        return None
    spec = source.spec()
    height = max(1, round(spec.height * width / spec.width))
    return oiio.ImageBufAlgo.resize(source, roi=oiio.ROI(0, width, 0, height, 0, 1, 0, 3))


def _write(sheet: oiio.ImageBuf, x: int, y: int, text: str, colour: tuple[float, float, float]) -> None:
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)
    oiio.ImageBufAlgo.render_text(sheet, x, y, plain, _SIZE, "", colour)


def _put(file: IO[bytes], data: bytes) -> None:
    file.write(data)
