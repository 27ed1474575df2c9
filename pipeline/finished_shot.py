"""A published version as a shot to learn from, or to judge by: the `FinishedShot` that reads from disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from pipeline.errors import PlateError
from pipeline.frames import FrameRange
from pipeline.jobs.spec import JobSpec, PlateSpec, TakeSpec
from pipeline.jobs.training import LessonSpec
from pipeline.media.exr import Frame
from pipeline.media.image import read_image
from pipeline.media.transform import SHOT_CURVE, to_display
from pipeline.parameters import Parameters
from pipeline.plate_shot import PlateShot
from pipeline.tasks.contract import ShotContext
from pipeline.tasks.definition import TaskDefinition

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.tasks.contract import Array


class _Silent:
    """A judgement shows no previews and counts no frames: its progress is the trainer's own."""

    def progress(self, fraction: float, note: str) -> None:
        """See Reporter."""

    def preview(self, frame: int, picture: NDArray[np.uint8]) -> None:
        """See Reporter."""

    def frame_done(self, frame: int) -> None:
        """See Reporter."""


class _BareShot(PlateShot):
    """The shot without what was delivered for it: a model that is judged must not see the answer."""

    def layer(self, name: str, frame: int) -> Array | None:
        """See ShotContext.layer."""
        del name, frame
        return None


class VersionShot:
    """A version's frames, read as they are asked for. Keeps `pipeline.tasks.training.FinishedShot`; a context manager, since
    shots that it gives out read ahead."""

    def __init__(self, lesson: LessonSpec, definition: TaskDefinition, *, studio: str) -> None:
        self._lesson = lesson
        self._definition = definition
        self._studio = studio
        self._plate = lesson.plate.plate()
        self._picture = lesson.picture or lesson.plate
        self.name = f"{lesson.address} {lesson.name}"
        self.frames: Sequence[int] = self._plate.frames.frames
        self.cuts: Sequence[int] = lesson.cuts
        self._last: dict[str, tuple[int, Frame]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._last.clear()
        self._stack.close()

    def linear(self, frame: int) -> Array:
        """See FinishedShot.linear."""
        return self._frame(self._picture, frame).rgb()

    def display(self, frame: int, height: int | None = None) -> Array:
        """See FinishedShot.display."""
        rgb = self.linear(frame)
        return to_display(rgb, SHOT_CURVE, height or rgb.shape[1])

    def layer(self, name: str, frame: int) -> Array | None:
        """See FinishedShot.layer."""
        for part in self._frame(self._lesson.plate, frame).parts:
            mine = [n for n in part.channels if n.rpartition(".")[0] == name]
            for channel in (f"{name}.A", *(mine if len(mine) == 1 else ())):
                if channel in part.channels and part.data_window == self._plate.data_window:
                    return part.channels[channel].astype(np.float32)
        return None

    def as_shot(
        self,
        parameters: Parameters,
        *,
        keys: Mapping[str, Mapping[int, Array]],
        folder: Path,
        seed: int = 0,
        frames: Sequence[int] = (),
    ) -> ShotContext:
        """See FinishedShot.as_shot."""
        todo = tuple(frames or self.frames)
        take = TakeSpec(index=0, name="judged", seed=seed, parameters=parameters.model_dump(mode="json"))
        spec = JobSpec(
            task=self._definition.name,
            studio=self._studio,
            show=self._lesson.show,
            sequence=self._lesson.sequence,
            shot=self._lesson.shot,
            plate=self._picture,
            frames=str(FrameRange.of(todo)),
            cuts=self._lesson.cuts,
            takes=(take,),
            codec="zips",
            publish_root=str(folder),
        )
        shot = _BareShot(
            spec,
            take,
            self._definition,
            frames=todo,
            context=[frame for frame in self.frames if frame not in set(todo)],
            folder=folder,
            report=_Silent(),
            in_fit=False,
        )
        shot.keys = keys
        shot.parameters = parameters
        return self._stack.enter_context(shot)

    def _frame(self, of: PlateSpec, frame: int) -> Frame:
        """A whole frame; the last one is kept, since its picture and its layers are asked for one after the other."""
        if frame not in self._plate.frames:
            raise PlateError(f"{self.name} has no frame {frame}", f"it has {self._plate.frames}")
        known = self._last.get(of.pattern)
        if known is None or known[0] != frame:
            known = frame, read_image(of.plate().pattern.path(frame), colorspace=of.source_colorspace)
            self._last[of.pattern] = known
        return known[1]
