"""The frames of one job's plate as a task's runner sees them: the `ShotContext` that reads from disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from pipeline.errors import KeyframeError, PipelineError
from pipeline.jobs.spec import JobSpec, TakeSpec
from pipeline.media.exr import Frame
from pipeline.media.image import read_image, read_matte
from pipeline.media.stream import FrameReader
from pipeline.media.transform import HybridCurve, to_display
from pipeline.parameters import Parameters
from pipeline.plate import FramePattern

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.tasks.contract import Array

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

    `with_all_channels` reads whole frames (a chunk writes them again); a fit only needs the picture.
    """

    def __init__(
        self,
        spec: JobSpec,
        take: TakeSpec,
        *,
        parameters: Parameters,
        frames: Sequence[int],
        context: Sequence[int],
        folder: Path,
        report: Reporter,
        with_all_channels: bool,
    ) -> None:
        self.parameters = parameters
        self.seed = take.seed
        self.frames: Sequence[int] = tuple(frames)
        self.context: Sequence[int] = tuple(context)
        self.folder = folder
        self.cuts: Sequence[int] = spec.cuts
        self.keys: Mapping[str, Mapping[int, Array]] = _read_keys(spec)
        self._report = report
        self._curve = HybridCurve(
            peak=1.0
        )  # sRGB up to 1, a log shoulder above: the same on every frame and in fit and chunk
        self._small: dict[int, NDArray[np.uint8]] = {}
        self._stack = ExitStack()
        pattern = FramePattern.parse(spec.plate.pattern)
        assert pattern is not None  # written by PlateSpec.of
        only = None if with_all_channels else {"R", "G", "B", "Y"}
        space = spec.plate.source_colorspace

        def load(frame: int) -> Frame:
            return read_image(pattern.path(frame), colorspace=space, only=only)

        order = sorted({*self.frames, *self.context})
        self._reader: FrameReader[Frame] = self._stack.enter_context(FrameReader(load, order))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def source(self, frame: int) -> Frame:
        """The whole frame as it was read: every part, layer and header."""
        return self._reader.get(frame)

    def linear(self, frame: int) -> Array:
        """See ShotContext.linear."""
        return self.source(frame).rgb()

    def display(self, frame: int, height: int | None = None) -> Array:
        """See ShotContext.display."""
        rgb = self.linear(frame)
        picture = to_display(rgb, self._curve, height or rgb.shape[1])
        if frame not in self._small:
            self._small[frame] = _small_picture(picture)
        return picture

    def prefetch(self, frames: Sequence[int], height: int | None = None) -> None:
        """See ShotContext.prefetch. The reader already runs ahead in rising order; this asks for another one."""
        del height
        self._reader.expect(frames)

    def progress(self, fraction: float, note: str = "") -> None:
        """See ShotContext.progress."""
        self._report.progress(fraction, note)

    def preview(self, frame: int, layers: Mapping[str, Array]) -> None:
        """See ShotContext.preview: the mattes are laid over the small picture in colour."""
        under = self._small.get(frame)
        if under is None:
            under = _small_picture(self.display(frame, _PREVIEW_HEIGHT))
        self._report.preview(frame, _overlay(under, layers))


def _read_keys(spec: JobSpec) -> dict[str, dict[int, Array]]:
    keys: dict[str, dict[int, Array]] = {}
    plate = spec.plate.plate()
    for key in spec.keys:
        try:
            matte = read_matte(Path(key.path), window=plate.data_window, display=plate.display_window)
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
