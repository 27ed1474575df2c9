"""A shot in memory: the `ShotContext` over arrays, for a task's own tests, for benchmarks and for a first try in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.media.transform import SHOT_CURVE as CURVE
from pipeline.media.transform import to_display
from pipeline.parameters import Parameters
from pipeline.plate import Window

if TYPE_CHECKING:
    from pipeline.tasks.contract import Array


def _quiet(fraction: float, note: str) -> None:
    del fraction, note


@dataclass(slots=True, kw_only=True)
class MemoryShot:
    """A runner's context whose plate lies in memory. `plate`: frame → (3, height, width) scene-linear, half or float.

    What isn't given is not there: no masks, no pictures, no other plate. `previews` gathers what was shown, in order.
    """

    plate: Mapping[int, Array]
    parameters: Parameters
    folder: Path
    seed: int = 0
    frames: Sequence[int] = ()
    context: Sequence[int] = ()
    available: Sequence[int] = ()
    keys: Mapping[str, Mapping[int, Array]] = field(default_factory=dict)
    cuts: Sequence[int] = ()
    window: Window = field(default=Window(0, 0, -1, -1))
    display_window: Window = field(default=Window(0, 0, -1, -1))
    plate_window: Window = field(default=Window(0, 0, -1, -1))
    curves: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    layers: Mapping[str, Mapping[int, Array]] = field(default_factory=dict)
    masks: Mapping[str, Mapping[int, Array]] = field(default_factory=dict)
    references: Mapping[str, Sequence[Array]] = field(default_factory=dict)
    others: Mapping[str, Mapping[int, Array]] = field(default_factory=dict)
    on_progress: Callable[[float, str], None] = _quiet
    previews: list[tuple[int, dict[str, Array]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        first = next(iter(self.plate.values()))
        whole = Window.of_size(first.shape[2], first.shape[1])
        for name in ("plate_window", "display_window", "window"):
            if getattr(self, name).width == 0:
                setattr(self, name, self.plate_window if name == "window" else whole)
        self.frames = self.frames or sorted(self.plate)
        self.available = self.available or sorted({*self.frames, *self.context} & set(self.plate))

    def at(self, frame: int) -> Parameters:
        """See ShotContext.at."""
        held = {name: curve[frame] for name, curve in self.curves.items() if frame in curve}
        return self.parameters.model_copy(update=held) if held else self.parameters

    def linear(self, frame: int) -> Array:
        """See ShotContext.linear."""
        return self.plate[frame].astype("float32")

    def display(self, frame: int, height: int | None = None) -> Array:
        """See ShotContext.display."""
        rgb = self.linear(frame)
        return to_display(rgb, CURVE, height or rgb.shape[1])

    def from_display(self, picture: Array) -> Array:
        """See ShotContext.from_display."""
        return CURVE.inverse(picture)

    def layer(self, name: str, frame: int) -> Array | None:
        """See ShotContext.layer."""
        return self.layers.get(name, {}).get(frame)

    def mask(self, parameter: str, frame: int) -> Array | None:
        """See ShotContext.mask."""
        return self.masks.get(parameter, {}).get(frame)

    def pictures(self, parameter: str) -> Sequence[Array]:
        """See ShotContext.pictures."""
        return self.references.get(parameter, ())

    def other(self, parameter: str, frame: int) -> Array | None:
        """See ShotContext.other."""
        return self.others.get(parameter, {}).get(frame)

    def prefetch(self, frames: Sequence[int], height: int | None = None) -> None:
        """Nothing to read ahead: the plate is in memory."""

    def progress(self, fraction: float, note: str = "") -> None:
        """See ShotContext.progress."""
        self.on_progress(fraction, note)

    def preview(self, frame: int, layers: Mapping[str, Array]) -> None:
        """See ShotContext.preview."""
        self.previews.append((frame, dict(layers)))


@dataclass(slots=True, kw_only=True)
class MemoryFinishedShot:
    """A finished shot in memory: the `FinishedShot` over arrays. `plate` as of `MemoryShot`; `layers`: name → frame → plane."""

    name: str
    plate: Mapping[int, Array]
    layers: Mapping[str, Mapping[int, Array]] = field(default_factory=dict)
    frames: Sequence[int] = ()
    cuts: Sequence[int] = ()

    def __post_init__(self) -> None:
        self.frames = self.frames or sorted(self.plate)

    def linear(self, frame: int) -> Array:
        """See FinishedShot.linear."""
        return self.plate[frame].astype("float32")

    def display(self, frame: int, height: int | None = None) -> Array:
        """See FinishedShot.display."""
        rgb = self.linear(frame)
        return to_display(rgb, CURVE, height or rgb.shape[1])

    def layer(self, name: str, frame: int) -> Array | None:
        """See FinishedShot.layer."""
        return self.layers.get(name, {}).get(frame)

    def as_shot(
        self,
        parameters: Parameters,
        *,
        keys: Mapping[str, Mapping[int, Array]],
        folder: Path,
        seed: int = 0,
        frames: Sequence[int] = (),
    ) -> MemoryShot:
        """See FinishedShot.as_shot."""
        todo = frames or self.frames
        rest = [f for f in self.frames if f not in todo]
        return MemoryShot(
            plate=self.plate,
            parameters=parameters,
            folder=folder,
            seed=seed,
            frames=todo,
            context=rest,
            keys=keys,
            cuts=self.cuts,
        )
