"""Shapes from a file, whichever of the formats it is in, as keyframes for a task.

A file comes from outside: its size is bounded before it is read, what it holds is bounded while it is, and whatever is wrong is
told as one ShapeError.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StorageError
from pipeline.shapes import blender, neutral, nuke_read, svg_read
from pipeline.shapes.raster import rasterise
from pipeline.shapes.values import ShapeError, ShapeSet

SUFFIXES = (".nk", ".json", ".svg")
MOST_BYTES = 128 * 1024 * 1024
_MOST_DEPTH = 40
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def is_shapes(path: Path | str) -> bool:
    """Whether a file's name says that it holds shapes."""
    return Path(path).suffix.lower() in SUFFIXES


def read_shapes(path: Path | str) -> ShapeSet:
    """The shapes of a `.nk`, `.json` or `.svg`.

    Raises: ShapeError (not such a file, too large, nested too deep, numbers that are none, parts that can't be stood for),
    StorageError.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ShapeError(f"{path.name} is no file of shapes", f"shapes are read from {', '.join(SUFFIXES)}")
    text = _text(path)
    try:
        if suffix == ".nk":
            return nuke_read.parse(text)
        if suffix == ".svg":
            return svg_read.parse(text)
        return _from_json(text)
    except ShapeError as error:
        raise ShapeError(f"{path.name}: {error.message}", error.hint) from error
    except (ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise ShapeError(f"{path.name} can't be read: {error!s:.120}", "export the shapes again") from error


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ShapeError(f"{path.name} has {size} bytes", f"a file of shapes has at most {MOST_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path.name} can't be read: {error.strerror}", "check that it is there") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ShapeError(f"{path.name} isn't UTF-8 text", "export the shapes again") from error


def _from_json(text: str) -> ShapeSet:
    _check_depth(text)
    data: Any = json.loads(text, parse_constant=_no_number)
    name = data.get("format") if isinstance(data, dict) else None
    if name == neutral.FORMAT:
        return neutral.parse(data)
    if name == blender.FORMAT:
        return blender.parse(data)
    raise ShapeError("the JSON holds no shapes", f"its 'format' must be {neutral.FORMAT} or {blender.FORMAT}")


def _no_number(text: str) -> float:
    raise ShapeError(f"it holds {text}", "export the shapes again")


def _check_depth(text: str) -> None:
    """Brackets outside of strings, so that hostile nesting is refused before anything recurses."""
    depth = 0
    for match in _BRACKET.finditer(text):
        part = match.group()
        if part in "[{":
            depth += 1
            if depth > _MOST_DEPTH:
                raise ShapeError(f"it is nested deeper than {_MOST_DEPTH}", "export the shapes again")
        elif part in "]}":
            depth -= 1


def _known(path: Path) -> ShapeSet:
    """The shapes of a file that is asked for frame after frame."""
    try:
        status = path.stat()
    except OSError:
        return read_shapes(path)  # it says what is wrong
    return _as_it_was(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _as_it_was(path: Path, size: int, mtime_ns: int) -> ShapeSet:
    del size, mtime_ns  # a file that changed is another one
    return read_shapes(path)


def read_spline_matte(
    path: Path | str, frame: int, *, width: int, height: int, object_name: str | None = None
) -> NDArray[np.float32]:
    """The matte, (height, width) 0 … 1, that a file's shapes draw on a frame: a keyframe drawn as splines.

    A file without frames of its own holds for every frame. `object_name`: only that object's shapes, when the file has it.
    Raises: ShapeError (see `read_shapes`; another picture size; nothing drawn on this frame), StorageError.
    """
    shapes = _known(Path(path))
    if (shapes.width, shapes.height) != (width, height):
        raise ShapeError(
            f"{Path(path).name} is for a picture of {shapes.width}x{shapes.height}, not {width}x{height}",
            "export the shapes from a script or document of the plate's format",
        )
    objects = [object_name] if object_name in shapes.objects else None
    if not any(shape.drawn_at(frame) for shape in shapes.shapes):
        raise ShapeError(f"{Path(path).name} draws nothing on frame {frame}", "give a frame on which its shapes live")
    return rasterise(shapes, frame, objects=[o for o in objects if o] if objects else None)
