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

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]


class Cancelled(Exception):
    """Whoever asked for the work no longer wants it; raised out of `progress` at the next step."""


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What a runner made of one frame.

    `layers`: layer name → channel → (height, width) float32; added beside the plate's own, e.g. `{"matte": {"A": alpha}}`.
    `rgb`: (3, height, width) scene-linear in the plate's colour space when the picture itself changes, else None;
    `changed`: (height, width) bool: where it does; all other pixels stay those of the plate, bit for bit.
    `quality`: per-frame measures for the report; `confidence` (0 … 1, 1 is sure) always is among them.
    """

    frame: int
    layers: Mapping[str, Mapping[str, Array]]
    quality: Mapping[str, float]
    rgb: Array | None = None
    changed: NDArray[np.bool_] | None = None


class ShotContext(Protocol):
    """All that a runner may touch, in a fit as in a chunk. The reasons: a runner that can't reach paths can't escape
    them, and one that gets frames by number can be fed from disk, memory or a test alike."""

    parameters: Parameters
    seed: int
    frames: Sequence[int]
    """What to do: the chunk's frames, or in a fit the whole shot's. Rising."""
    context: Sequence[int]
    """Frames that may be read beside them; in a fit, none. Rising."""
    keys: Mapping[str, Mapping[int, Array]]
    """Object → frame → (height, width) matte 0 … 1, in the plate's data window."""
    folder: Path
    """The fit's own folder: a fit writes what its chunks need, a chunk reads it. Nothing else is kept."""
    cuts: Sequence[int]
    """First frames of other shots inside the range: nothing is carried across one."""

    def linear(self, frame: int) -> Array:
        """(3, height, width) scene-linear RGB in the plate's colour space, untouched."""
        ...

    def display(self, frame: int, height: int | None = None) -> Array:
        """(3, height, width) RGB in model space (the hybrid curve: sRGB up to a knee, then a log shoulder), scaled by area
        to at most `height` lines, aspect kept. Values may pass 1.0 and fall below 0."""
        ...

    def prefetch(self, frames: Sequence[int], height: int | None = None) -> None:
        """Say which frames will be asked for next, and at which height, so that they are read meanwhile."""
        ...

    def progress(self, fraction: float, note: str = "") -> None:
        """Report how much is done (0 … 1). Raises: Cancelled."""
        ...

    def preview(self, frame: int, layers: Mapping[str, Array]) -> None:
        """Show a small early result: layer name → (height, width) 0 … 1, of any small size."""
        ...


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Which weights to load. `path` is local; empty for the default that the package itself provides."""

    name: str = ""
    path: Path | None = None
    sha256: str = ""
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
