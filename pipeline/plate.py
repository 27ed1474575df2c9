"""A plate: frames on disk that belong together, and what is known of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from pipeline.errors import PlateError
from pipeline.frames import FrameRange
from pipeline.layer import Layer
from pipeline.rate import FrameRate

_HASHES = re.compile(r"#+")
_PRINTF = re.compile(r"%0?(\d*)d")


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels, inclusive ends, y down, as OpenEXR has it."""

    x_min: int
    y_min: int
    x_max: int
    y_max: int

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.x_max - self.x_min + 1

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.y_max - self.y_min + 1

    @classmethod
    def of_size(cls, width: int, height: int) -> Window:
        """The window of a picture at the origin."""
        return cls(0, 0, width - 1, height - 1)

    def as_list(self) -> list[int]:
        """[x_min, y_min, x_max, y_max], for JSON."""
        return [self.x_min, self.y_min, self.x_max, self.y_max]


@dataclass(frozen=True, slots=True)
class FramePattern:
    """One sequence's file names: `head` + zero-padded number + `tail`, in `folder`.

    Text form: `folder/head####tail`. A minus sign stands before the padding: `-0002`.
    """

    folder: Path
    head: str
    padding: int
    tail: str

    @classmethod
    def parse(cls, text: str) -> FramePattern | None:
        """The pattern of a text with `####` or `%04d` in its file name; None when it has neither.

        `%d` and a single `#` both mean unpadded. Raises: PlateError (two number fields, or one in the folder).
        """
        path = PurePath(text)
        found = [*_HASHES.finditer(path.name), *_PRINTF.finditer(path.name)]
        if _HASHES.search(str(path.parent)) or _PRINTF.search(str(path.parent)):
            raise PlateError(
                f"{text}: the frame number stands in a folder's name", "give one sequence: folder/name.####.exr"
            )
        if not found:
            return None
        if len(found) > 1:
            raise PlateError(f"{text}: two fields for the frame number", "keep one ####")
        match = found[0]
        padding = len(match[0]) if match[0].startswith("#") else int(match[1] or 1)
        return cls(Path(path.parent), path.name[: match.start()], padding, path.name[match.end() :])

    def name(self, frame: int) -> str:
        """The file name of one frame."""
        sign = "-" if frame < 0 else ""
        return f"{self.head}{sign}{abs(frame):0{self.padding}d}{self.tail}"

    def path(self, frame: int) -> Path:
        """The file of one frame."""
        return self.folder / self.name(frame)

    def __str__(self) -> str:
        return str(self.folder / f"{self.head}{'#' * self.padding}{self.tail}")


@dataclass(frozen=True, slots=True)
class Plate:
    """Frames on disk, their layers, windows, colour space and rate.

    `data_window` is where pixels are stored, `display_window` the format; both are the same on every frame.
    `rate` and `timecode` (of the first frame, `HH:MM:SS:FF`) are None when the files don't say.
    """

    pattern: FramePattern
    frames: FrameRange
    layers: tuple[Layer, ...]
    data_window: Window
    display_window: Window
    colorspace: str
    rate: FrameRate | None = None
    timecode: str | None = None
