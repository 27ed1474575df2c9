"""What an artist points at: points, a box and strokes, frame by frame, in pixels of the plate's data window.

Light: the check of a submission reads it, and so do the models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import RunnerError
from pipeline.parameters import Box, Point
from pipeline.plate import Window
from pipeline.tasks.contract import ShotContext
from pipeline.tasks.roto.definition import RotoParameters

SUBJECT = "subject"
"""The object that prompts mean where no key names one."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Of one frame. `on`, `off`: x, y of points inside the object and outside of it; `strokes`: lines inside it."""

    on: tuple[Point, ...] = ()
    off: tuple[Point, ...] = ()
    box: Box | None = None
    strokes: tuple[tuple[Point, ...], ...] = ()

    @property
    def says_where(self) -> bool:
        """Whether anything tells what belongs to the object."""
        return bool(self.on or self.box or self.strokes)

    def along(self, count: int) -> tuple[Point, ...]:
        """The points, and up to `count` of each stroke, evenly chosen among its samples."""
        return self.on + tuple(p for stroke in self.strokes for p in _even(stroke, count))

    def scaled(self, x: float, y: float) -> Prompts:
        """The same in other pixels."""

        def move(points: Sequence[Point]) -> tuple[Point, ...]:
            return tuple((p[0] * x, p[1] * y) for p in points)

        box = self.box and (self.box[0] * x, self.box[1] * y, self.box[2] * x, self.box[3] * y)
        return Prompts(move(self.on), move(self.off), box, tuple(move(s) for s in self.strokes))


def prompts_of(parameters: RotoParameters, frames: Sequence[int], plate: Window, display: Window) -> dict[int, Prompts]:
    """Frame → what was pointed at there. Empty when nothing was.

    Parameters count from the display window's top left corner, prompts from the data window's.
    """
    dx, dy = display.x_min - plate.x_min, display.y_min - plate.y_min

    def moved(x: float, y: float) -> Point:
        return x + dx, y + dy

    on = tuple(moved(*p) for p in parameters.points)
    off = tuple(moved(*p) for p in parameters.points_off)
    box = parameters.box and (*moved(*parameters.box[:2]), *moved(*parameters.box[2:]))
    found: dict[int, Prompts] = {}
    if on or off or box:
        first = frames[0] if parameters.prompt_frame is None else parameters.prompt_frame
        found[first] = Prompts(on, off, box)
    for frame, line in _lines(parameters):
        known = found.get(frame, Prompts())
        drawn = tuple(moved(*p) for p in line)
        found[frame] = Prompts(known.on, known.off, known.box, (*known.strokes, drawn))
    return dict(sorted(found.items()))


def _lines(parameters: RotoParameters) -> Iterator[tuple[int, list[Point]]]:
    """Each stroke's samples, those of a frame together."""
    for stroke in parameters.strokes:
        by_frame: dict[int, list[Point]] = {}
        for frame, x, y in stroke:
            by_frame.setdefault(frame, []).append((x, y))
        yield from by_frame.items()


def _even(line: Sequence[Point], count: int) -> list[Point]:
    if len(line) <= count:
        return list(line)
    return [line[round(i * (len(line) - 1) / max(1, count - 1))] for i in range(count)]


def prompted_object(keys: Mapping[str, object]) -> str:
    """Which object prompts belong to: the only one that has keys, or one of their own."""
    return next(iter(keys)) if len(keys) == 1 else SUBJECT


def asked_of(shot: ShotContext, parameters: RotoParameters) -> dict[int, Prompts]:
    """A shot's prompts: see `prompts_of`."""
    if not (parameters.points or parameters.points_off or parameters.box or parameters.strokes):
        return {}
    return prompts_of(parameters, shot.frames, shot.plate_window, shot.display_window)


def check_prompts(shot: ShotContext, prompts: Mapping[int, Prompts]) -> None:
    """Raises: RunnerError (prompts beside several objects, where a key is, or outside the shot; nothing that says where)."""
    if prompts and len(shot.keys) > 1:
        raise RunnerError("points, boxes and strokes mean one object, and there are several", "paint keys for all")
    for frame in prompts:
        if frame not in shot.frames or any(frame in keys for keys in shot.keys.values()):
            raise RunnerError(f"frame {frame} has a key already, or is not in the shot", "point at another frame")
    if not shot.keys and not any(p.says_where for p in prompts.values()):
        raise RunnerError("nothing says what to cut out", "give a key matte, points, a box or strokes")
