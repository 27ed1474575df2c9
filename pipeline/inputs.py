"""What parameters lead to beside the plate: masks, reference pictures, other plates. Each may be a file, a folder or a sequence.

Masks may be splines as well: `.nk` Roto, `.json`, `.svg`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from pipeline.errors import KeyframeError, ParameterError, PipelineError, PlateError, StorageError, fault_of
from pipeline.frames import FrameRange
from pipeline.media.files import read_error
from pipeline.media.image import read_image, read_matte
from pipeline.media.inspect import KeyInspection, covering
from pipeline.media.sequence import find_sequence
from pipeline.media.transform import SHOT_CURVE as CURVE
from pipeline.parameters import Kind
from pipeline.plate import FramePattern, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

SPLINES = frozenset({".nk", ".json", ".svg"})
MOST_REFERENCES = 64
_PICTURES = frozenset({".exr", ".dpx", ".tif", ".tiff", ".png", ".jpg", ".jpeg"})


def is_sequence(path: Path) -> bool:
    """Whether a path means one file for each frame: a pattern or a folder. One file is a still."""
    return FramePattern.parse(str(path)) is not None or path.is_dir()


def sequence_of(path: Path) -> tuple[FramePattern, FrameRange]:
    """The files behind a pattern or a folder. Raises: PlateError."""
    return find_sequence(str(path))


def files_of(path: Path, frames: FrameRange) -> dict[str, Path]:
    """The files that count for these frames, by name. Raises: PlateError (there are none)."""
    if not is_sequence(path):
        return {path.name: path}
    pattern, available = sequence_of(path)
    return {pattern.name(frame): pattern.path(frame) for frame in available & frames}


def frames_lacking(path: Path, frames: FrameRange) -> FrameRange:
    """Frames that a pattern or a folder hasn't; none of a still or of shapes. Raises: PlateError."""
    return frames - sequence_of(path)[1] if is_sequence(path) else FrameRange()


def digest_of(path: Path) -> str:
    """A fast digest of a file's bytes. Raises: PlateError, StorageError."""
    made = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                made.update(block)
    except OSError as error:
        raise read_error(error, path) from error
    return made.hexdigest()


def spline_at(path: Path, frame: int, *, window: Window, display: Window, of: str | None = None) -> Array:
    """The shapes of a file on a frame, drawn in the plate's display window and given in its data `window`.

    `of`: those of this object alone, when the file has it.

    Raises: PipelineError (a file that holds no shapes).
    """
    from pipeline.shapes.read import read_spline_matte

    whole = read_spline_matte(path, frame, width=display.width, height=display.height, object_name=of)
    if window == display:
        return whole
    out = np.zeros((window.height, window.width), np.float32)
    x, y = window.x_min - display.x_min, window.y_min - display.y_min
    top, left = max(0, y), max(0, x)
    bottom, right = min(display.height, y + window.height), min(display.width, x + window.width)
    if bottom > top and right > left:
        out[top - y : bottom - y, left - x : right - x] = whole[top:bottom, left:right]
    return out


def picture_files(path: Path) -> tuple[Path, ...]:
    """The files of a mood board: one, or all pictures of a folder or a sequence, by name. Raises: ParameterError."""
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in _PICTURES)
    elif FramePattern.parse(str(path)) is not None:
        pattern, available = sequence_of(path)
        found = [pattern.path(frame) for frame in available]
    else:
        found = [path]
    if not found or len(found) > MOST_REFERENCES:
        raise ParameterError(
            f"{path} holds {len(found)} pictures", f"give 1 to {MOST_REFERENCES}: EXR, DPX, TIFF, PNG or JPEG"
        )
    return tuple(found)


def reference_pictures(path: Path) -> tuple[Array, ...]:
    """The pictures of a mood board, each (3, height, width) in model space. Raises: ParameterError, PlateError, StorageError."""
    return tuple(CURVE.forward(_finite(read_image(file).rgb(), file)) for file in picture_files(path))


def _finite(rgb: Array, path: Path) -> Array:
    """Raises: PlateError (pixels that are NaN or infinite: one of them spreads over all that is made from it)."""
    if not np.isfinite(rgb).all():
        raise PlateError(f"{path} has pixels that are NaN or infinite", "clean the picture, or render it again")
    return rgb


def painted_picture(path: Path, *, window: Window, display: Window, colorspace: str | None) -> Array:
    """A painted key, (3, height, width) in model space in the plate's data `window`: of the plate's data or display size.

    `colorspace` overrides what the file says of itself; only an EXR of the plate's space needs none.
    Raises: KeyframeError (another size, NaN), PlateError, StorageError.
    """
    rgb = read_image(path, colorspace=colorspace).rgb()
    if not np.isfinite(rgb).all():
        raise KeyframeError(f"{path} has pixels that are NaN or infinite", "export the picture again")
    size = (rgb.shape[2], rgb.shape[1])
    if size == (window.width, window.height):
        return CURVE.forward(rgb)
    if size == (display.width, display.height):
        x, y = window.x_min - display.x_min, window.y_min - display.y_min
        if x >= 0 and y >= 0 and x + window.width <= size[0] and y + window.height <= size[1]:
            return CURVE.forward(np.ascontiguousarray(rgb[:, y : y + window.height, x : x + window.width]))
    raise KeyframeError(
        f"{path} is {size[0]}×{size[1]}, the plate {window.width}×{window.height}",
        "paint on a frame of the plate at its own size",
    )


def other_plate(path: Path, *, window: Window) -> Array:
    """A frame of another plate, (3, height, width) scene-linear. Raises: PlateError (of another size, NaN), StorageError."""
    rgb = _finite(read_image(path).rgb(), path)
    if rgb.shape[1:] != (window.height, window.width):
        raise PlateError(
            f"{path} is {rgb.shape[2]}×{rgb.shape[1]}, the plate {window.width}×{window.height}",
            "give a plate of the same size",
        )
    return rgb


def inspect_spline_key(path: Path, frame: int, *, window: Window, display: Window, of: str) -> KeyInspection:
    """Look at an object's keyframe that was given as shapes: what they cover on its frame. Raises: StorageError."""
    try:
        return covering(spline_at(path, frame, window=window, display=display, of=of))
    except StorageError:
        raise
    except PipelineError as error:
        return KeyInspection(faults=(fault_of(error, "key"),))


def inspect_painted_key(path: Path, *, window: Window, display: Window) -> KeyInspection:
    """Look at a keyframe that is a painted picture. Raises: StorageError."""
    try:
        picture = painted_picture(path, window=window, display=display, colorspace=None)
    except (PlateError, KeyframeError) as error:
        return KeyInspection(faults=(fault_of(error, "key"),))
    return KeyInspection((), 1.0, xxhash.xxh3_128(picture.data).hexdigest())


def inspect_input(
    kind: Kind, path: Path, files: Mapping[str, Path], frames: FrameRange, *, window: Window, display: Window
) -> None:
    """Look at what a parameter's path leads to: every one of its files is opened as it will be.

    Raises: PlateError, KeyframeError, ParameterError (unreadable, of another size), StorageError.
    """
    if kind is Kind.MASK and path.suffix.lower() in SPLINES:
        spline_at(path, frames.first, window=window, display=display)
        return
    for file in files.values():
        if kind is Kind.MASK:
            read_matte(file, window=window, display=display)
        elif kind is Kind.PLATE:
            other_plate(file, window=window)
        elif kind is Kind.REFERENCE:
            _finite(read_image(file).rgb(), file)
