"""The frames of one job's plate as a task's runner sees them: the `ShotContext` that reads from disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from pipeline.errors import KeyframeError, PipelineError, RunnerError
from pipeline.frames import FrameRange
from pipeline.inputs import (
    SPLINES,
    is_sequence,
    other_plate,
    painted_picture,
    reference_pictures,
    sequence_of,
    spline_at,
)
from pipeline.jobs.spec import JobSpec, TakeSpec
from pipeline.media.exr import Frame
from pipeline.media.image import read_image, read_matte
from pipeline.media.stream import FrameReader
from pipeline.media.transform import SHOT_CURVE, to_display
from pipeline.parameters import Parameters, for_fit
from pipeline.plate import FramePattern
from pipeline.tasks.definition import TaskDefinition

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.tasks.contract import Array

PICTURE = "picture"
"""The name under which a preview shows a picture of its own."""
_PREVIEW_HEIGHT = 180


class Reporter(Protocol):
    """Where a session's news goes. Each call may raise `Cancelled`."""

    def progress(self, fraction: float, note: str) -> None:
        """How much of the chunk is done, 0 … 1."""
        ...

    def preview(self, frame: int, picture: NDArray[np.uint8]) -> None:
        """A small early picture, (height, width, 3) RGB, display-referred."""
        ...

    def frame_done(self, frame: int) -> None:
        """One frame lies whole on disk."""
        ...


class PlateShot:
    """A `ShotContext` over a job's files. Frames come through a prefetching reader, each read once while it is near.

    `in_fit`: only the picture is read, and the parameters are those that a fit may go by. A chunk reads whole frames, since it
    writes them again.
    """

    def __init__(
        self,
        spec: JobSpec,
        take: TakeSpec,
        definition: TaskDefinition,
        *,
        frames: Sequence[int],
        context: Sequence[int],
        folder: Path,
        report: Reporter,
        in_fit: bool,
    ) -> None:
        plate = spec.plate.plate()
        given = definition.parameters.model_validate(take.parameters)
        self.parameters: Parameters = for_fit(given) if in_fit else given
        self.seed = take.seed
        self.frames: Sequence[int] = tuple(frames)
        self.context: Sequence[int] = tuple(context)
        missing = FrameRange.parse(spec.missing)
        self.available: Sequence[int] = tuple(sorted({f for f in (*frames, *context) if f not in missing}))
        self.plate_window, self.display_window = plate.data_window, plate.display_window
        self.window = take.windows(plate)[0]
        self.folder = folder
        self.cuts: Sequence[int] = spec.cuts
        self.keys: Mapping[str, Mapping[int, Array]] = _read_keys(spec, definition)
        self._take = take
        self._in_fit = in_fit
        self._report = report
        self._sequences: dict[str, tuple[FramePattern, FrameRange]] = {}
        self._small: dict[int, NDArray[np.uint8]] = {}
        self._stack = ExitStack()
        only = {"R", "G", "B", "Y"} if in_fit else None
        space = self._space = spec.plate.source_colorspace

        def load(frame: int) -> Frame:
            return read_image(plate.pattern.path(frame), colorspace=space, only=only)

        self._path = plate.pattern.path
        self._reader: FrameReader[Frame] = self._stack.enter_context(FrameReader(load, self.available))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def source(self, frame: int) -> Frame:
        """The whole frame as it was read: every part, layer and header. Raises: RunnerError (the plate hasn't this one)."""
        if frame not in self.available:
            raise RunnerError(
                f"frame {frame} can't be read here", "a runner may read its frames and their context only"
            )
        return self._reader.get(frame)

    def nearest(self, frame: int) -> int:
        """The plate frame that is closest; of two, the earlier. Raises: RunnerError (there is none)."""
        if not self.available:
            raise RunnerError(
                f"frame {frame} isn't in the plate, and no frame of it is near", "ask for frames that lie nearer to it"
            )
        return min(self.available, key=lambda f: (abs(f - frame), f))

    def at(self, frame: int) -> Parameters:
        """See ShotContext.at."""
        if self._in_fit:
            return self.parameters
        keyed = {name: values[frame] for name, values in self._take.curves.items() if frame in values}
        return self.parameters.model_copy(update=keyed) if keyed else self.parameters

    def linear(self, frame: int) -> Array:
        """See ShotContext.linear."""
        return self.source(frame).rgb()

    def display(self, frame: int, height: int | None = None) -> Array:
        """See ShotContext.display."""
        rgb = self.linear(frame)
        picture = to_display(rgb, SHOT_CURVE, height or rgb.shape[1])
        if frame not in self._small:
            self._small[frame] = _small_picture(picture)
        return picture

    def from_display(self, picture: Array) -> Array:
        """See ShotContext.from_display."""
        return SHOT_CURVE.inverse(picture)

    def layer(self, name: str, frame: int) -> Array | None:
        """See ShotContext.layer."""
        for part in self._whole(frame).parts:
            mine = [n for n in part.channels if n.rpartition(".")[0] == name]
            for channel in (f"{name}.A", *(mine if len(mine) == 1 else ())):
                if channel in part.channels and part.data_window == self.plate_window:
                    return part.channels[channel].astype(np.float32)
        return None

    def _whole(self, frame: int) -> Frame:
        """With every channel: a fit's frames were read without."""
        found = self.source(frame)
        return read_image(self._path(frame), colorspace=self._space) if self._in_fit else found

    def mask(self, parameter: str, frame: int) -> Array | None:
        """See ShotContext.mask."""
        return self._still(parameter, frame, self._mask_file)

    def _mask_file(self, path: Path, frame: int) -> Array:
        if path.suffix.lower() in SPLINES:
            return spline_at(path, frame, window=self.plate_window, display=self.display_window)
        return read_matte(path, window=self.plate_window, display=self.display_window)

    def pictures(self, parameter: str) -> Sequence[Array]:
        """See ShotContext.pictures."""
        path = self._path_of(parameter)
        return () if path is None else reference_pictures(path)

    def other(self, parameter: str, frame: int) -> Array | None:
        """See ShotContext.other."""
        return self._still(parameter, frame, lambda path, _: other_plate(path, window=self.plate_window))

    def _path_of(self, parameter: str) -> Path | None:
        found = self._take.inputs.get(parameter)
        return None if found is None else Path(found.path)

    def _still(self, parameter: str, frame: int, read: Callable[[Path, int], Array]) -> Array | None:
        """What `read` makes of a parameter's file for a frame: the only one, or the sequence's own."""
        path = self._path_of(parameter)
        if path is None:
            return None
        if is_sequence(path):
            if parameter not in self._sequences:
                self._sequences[parameter] = sequence_of(path)
            pattern, available = self._sequences[parameter]
            if frame not in available:
                return None
            path = pattern.path(frame)
        return read(path, frame)

    def prefetch(self, frames: Sequence[int], height: int | None = None) -> None:
        """See ShotContext.prefetch. The reader already runs ahead in rising order; this asks for another one."""
        del height
        self._reader.expect(frames)

    def progress(self, fraction: float, note: str = "") -> None:
        """See ShotContext.progress."""
        self._report.progress(fraction, note)

    def preview(self, frame: int, layers: Mapping[str, Array]) -> None:
        """See ShotContext.preview: the mattes are laid over the small picture in colour."""
        mattes = {name: plane for name, plane in layers.items() if name != PICTURE}
        if PICTURE in layers:
            under = _small_picture(layers[PICTURE])
        elif (known := self._small.get(frame)) is not None:
            under = known
        else:
            under = _small_picture(self.display(frame, _PREVIEW_HEIGHT))
        self._report.preview(frame, _overlay(under, mattes))


def _read_keys(spec: JobSpec, definition: TaskDefinition) -> dict[str, dict[int, Array]]:
    keys: dict[str, dict[int, Array]] = {}
    plate = spec.plate.plate()
    where = {"window": plate.data_window, "display": plate.display_window}
    for key in spec.keys:
        path = Path(key.path)
        try:
            if definition.key_kind == "picture":
                matte = painted_picture(path, colorspace=None, **where)
            elif path.suffix.lower() in SPLINES:
                matte = spline_at(path, key.frame, **where, of=key.object)
            else:
                matte = read_matte(path, **where)
        except PipelineError as error:
            raise KeyframeError(f"key {key.object}:{key.frame}: {error.message}", error.hint) from error
        keys.setdefault(key.object, {})[key.frame] = matte
    return keys


def _small_picture(picture: Array) -> NDArray[np.uint8]:
    """At most 180 lines, 8 bit, by skipping: it is looked at for a second."""
    step = max(1, round(picture.shape[1] / _PREVIEW_HEIGHT))
    small = picture[:, ::step, ::step]
    return np.ascontiguousarray((np.clip(small, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))


_TINTS = ((255, 60, 60), (60, 200, 255), (120, 255, 90), (255, 200, 40))


def _overlay(under: NDArray[np.uint8], layers: Mapping[str, Array]) -> NDArray[np.uint8]:
    out = under.astype(np.float32)
    height, width = under.shape[:2]
    for tint, matte in zip(_cycle(_TINTS, len(layers)), layers.values(), strict=True):
        rows = (np.arange(height) * matte.shape[0]) // height
        columns = (np.arange(width) * matte.shape[1]) // width
        weight = np.clip(matte[rows][:, columns], 0, 1)[..., None] * 0.5
        out = out * (1 - weight) + np.array(tint, np.float32) * weight
    return out.astype(np.uint8)


def _cycle(values: tuple[tuple[int, int, int], ...], count: int) -> list[tuple[int, int, int]]:
    return [values[i % len(values)] for i in range(count)]
