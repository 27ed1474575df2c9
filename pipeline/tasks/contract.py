"""The contract between a task's runner and everything round it. Any model that keeps it can fill a task.

Arrays are NumPy, planar (channels, height, width), float32 unless said, in the plate's data window, y down.
A runner sees nothing but its context: no paths to publish, no database, no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.parameters import Parameters
from pipeline.plate import Window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]


class Cancelled(Exception):
    """Whoever asked for the work no longer wants it; raised out of `progress` at the next step."""


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What a runner made of one frame. Every plane covers the shot's `window`: (height, width) float32 where not said.

    `layers`: layer name → channel → plane; added beside the plate's own, e.g. `{"matte": {"A": alpha}}`.
    `rgb`: (3, height, width) scene-linear in the plate's colour space when the picture itself changes, else None;
    `alpha`: the picture's own A, when the task makes one; the picture is then premultiplied by it, as OpenEXR means it.
    `changed`: (height, width) bool: where the picture changes; all other pixels stay those of the plate, bit for bit. None
    means everywhere that `rgb` reaches. Of a frame that the plate hasn't, all is made.
    `quality`: per-frame measures for the report; `confidence` (0 … 1, 1 is sure) always is among them.
    """

    frame: int
    layers: Mapping[str, Mapping[str, Array]]
    quality: Mapping[str, float]
    rgb: Array | None = None
    changed: NDArray[np.bool_] | None = None
    alpha: Array | None = None


class ShotContext(Protocol):
    """All that a runner may touch, in a fit as in a chunk. The reasons: a runner that can't reach paths can't escape
    them, and one that gets frames by number can be fed from disk, memory or a test alike."""

    parameters: Parameters
    """As given, for the whole shot: what a fit goes by. A chunk asks `at`, since floats may be keyed over frames."""
    seed: int
    frames: Sequence[int]
    """What to do: the chunk's frames, or in a fit the whole shot's. Rising. Some may be missing from the plate."""
    context: Sequence[int]
    """Plate frames that may be read beside them: the nearest on either side, as many as the task's `context_frames`; in a
    fit, those beside the range where a task extends it. Rising."""
    available: Sequence[int]
    """Of `frames` and `context`, those that the plate has: any of them can be read. Rising."""
    plate_window: Window
    """Data window of the plate."""
    display_window: Window
    """Display window of the plate."""
    window: Window
    """Data window of what is delivered: the plate's own, unless the task's `windows` says otherwise."""
    keys: Mapping[str, Mapping[int, Array]]
    """Object → frame → what was painted there, in the plate's data window: a matte, (height, width) 0 … 1, or for a task
    whose keys are pictures (3, height, width) in model space."""
    folder: Path
    """The fit's own folder: a fit writes what its chunks need, a chunk reads it. Nothing else is kept."""
    cuts: Sequence[int]
    """First frames of other shots inside the range: nothing is carried across one."""

    def at(self, frame: int) -> Parameters:
        """The parameters on a frame: keyed floats have the value they have there."""
        ...

    def linear(self, frame: int) -> Array:
        """(3, height, width) scene-linear RGB in the plate's colour space, untouched."""
        ...

    def display(self, frame: int, height: int | None = None) -> Array:
        """(3, height, width) RGB in model space (the hybrid curve: sRGB up to a knee, then a log shoulder), scaled by area
        to at most `height` lines, aspect kept. Values may pass 1.0 and fall below 0."""
        ...

    def from_display(self, picture: Array) -> Array:
        """Model space back to scene-linear, any shape. Of an unscaled `display` it gives back the same halves."""
        ...

    def layer(self, name: str, frame: int) -> Array | None:
        """A layer of the plate itself: its A, or its only channel, (height, width) float32; None when it has no such."""
        ...

    def mask(self, parameter: str, frame: int) -> Array | None:
        """What a parameter of kind `mask` shows on a frame, (height, width) 0 … 1 in the plate's data window: a still is the
        same on every frame, a sequence has its own for every frame that the plate has; None when the parameter isn't set."""
        ...

    def pictures(self, parameter: str) -> Sequence[Array]:
        """The images of a parameter of kind `reference` — one file, a folder, a sequence — each (3, height, width) in model
        space, at its own size; none when it isn't set."""
        ...

    def other(self, parameter: str, frame: int) -> Array | None:
        """Another plate's frame, of a parameter of kind `plate`: (3, height, width) scene-linear; None when there is none."""
        ...

    def prefetch(self, frames: Sequence[int], height: int | None = None) -> None:
        """Say which frames will be asked for next, and at which height, so that they are read meanwhile."""
        ...

    def progress(self, fraction: float, note: str = "") -> None:
        """Report how much is done (0 … 1). Raises: Cancelled."""
        ...

    def preview(self, frame: int, layers: Mapping[str, Array]) -> None:
        """Show a small early result: layer name → (height, width) 0 … 1, of any small size, laid over the plate in colour.
        The name `picture` with (3, height, width) in model space shows that picture instead of the plate's."""
        ...


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Which weights to load. `path` is local; None for the default that the package itself provides.

    `family` says what lies there: one of the task's `families`, as found when the job was submitted.
    `sha256` is of the weights then; what is loaded must have it still.
    """

    name: str = ""
    path: Path | None = None
    sha256: str = ""
    family: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


class TaskRunner(Protocol):
    """Does one kind of work. One instance lives in one session child and does many fits and chunks."""

    def load(self, model: ModelRef) -> None:
        """Bring the weights into memory. Called once. Raises: ModelError."""
        ...

    def fit(self, shot: ShotContext) -> Mapping[str, float | str | int | list[int]]:
        """Learn this shot from its keys and leave in `shot.folder` what the chunks need. Returns facts for the report.

        The first previews come within a second or two, before anything slow. Raises: RunnerError, Cancelled.
        """
        ...

    def run(self, shot: ShotContext) -> Iterator[FrameResult]:
        """Yield a result for each of `shot.frames`, in their order. Raises: RunnerError, Cancelled."""
        ...

    def unload(self) -> None:
        """Give the memory back."""
        ...
