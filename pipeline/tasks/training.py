"""The contract between a task's trainer and everything round it: from finished shots to weights, and to a score of them.

A trainer sees nothing but its context: no versions' folders, no registry, no network. Arrays are those of
`pipeline.tasks.contract`. What it leaves as `WEIGHTS` in its folder is what becomes a model card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.parameters import Parameters
from pipeline.tasks.contract import ModelRef, ShotContext

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.tasks.contract import Array

WEIGHTS = "weights.safetensors"
"""What a trainer leaves in its folder."""


class FinishedShot(Protocol):
    """An approved version of a shot: its plate's picture with what was delivered for it on every frame."""

    name: str
    """Address and version, for logs and reports: `show/sequence/shot roto v003`."""
    frames: Sequence[int]
    """Frames of the version, rising. All of them can be read."""
    cuts: Sequence[int]
    """First frames of other shots inside the range."""

    def linear(self, frame: int) -> Array:
        """(3, height, width) scene-linear RGB of the version's picture. Raises: PlateError."""
        ...

    def display(self, frame: int, height: int | None = None) -> Array:
        """(3, height, width) RGB in model space, scaled by area to at most `height` lines. Raises: PlateError."""
        ...

    def layer(self, name: str, frame: int) -> Array | None:
        """A delivered layer: its A, or its only channel, (height, width) float32; None when the version has no such."""
        ...

    def as_shot(
        self,
        parameters: Parameters,
        *,
        keys: Mapping[str, Mapping[int, Array]],
        folder: Path,
        seed: int = 0,
        frames: Sequence[int] = (),
    ) -> ShotContext:
        """The shot as its task's runner would get it, were only `keys` painted: to score a model by what it makes.

        `frames`: which of them to do; all when none are named. Nothing that was delivered can be seen through it.
        """
        ...


class Checkpoints(Protocol):
    """States of a training, kept where the next attempt finds them: a killed one goes on from the newest."""

    def newest(self) -> tuple[int, Mapping[str, Tensor], Mapping[str, object]] | None:
        """(steps done, tensors, plain facts) of the newest whole state; None when there is none."""
        ...

    def due(self) -> bool:
        """Whether it is time for another: a state costs a write."""
        ...

    def keep(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
        """Write a state whole; older ones go. Raises: StorageError."""
        ...


class TrainingContext(Protocol):
    """All that a trainer may touch while it learns."""

    parameters: Parameters
    """Of the class that `TrainingDefinition.parameters` names."""
    seed: int
    shots: Sequence[FinishedShot]
    """What to learn from. Held-out shots aren't among them."""
    folder: Path
    """The attempt's own: `WEIGHTS` is left here."""
    checkpoints: Checkpoints

    def progress(self, fraction: float, note: str = "") -> None:
        """Report how much is done (0 … 1). Raises: Cancelled."""
        ...


class ScoringContext(Protocol):
    """All that a trainer may touch while it scores a model on one held-out shot."""

    parameters: Parameters
    seed: int
    shot: FinishedShot
    folder: Path

    def progress(self, fraction: float, note: str = "") -> None:
        """Report how much is done (0 … 1). Raises: Cancelled."""
        ...


class TaskTrainer(Protocol):
    """Makes a studio's own weights for a task, and tells how good weights are."""

    def train(self, training: TrainingContext, base: ModelRef) -> Mapping[str, float | str | int]:
        """Learn from the shots, starting from `base` (without a path: the task's own), and leave `WEIGHTS`.

        The same shots, parameters, seed, base and machine give the same bits, whether or not it was interrupted. Returns
        facts for the card. Raises: ModelError, RunnerError, PlateError, Cancelled.
        """
        ...

    def score(self, scoring: ScoringContext, model: ModelRef) -> Mapping[str, float]:
        """How well `model` (without a path: the task's own) does on the shot: the measures that the definition names.

        Deterministic, and the same protocol for every model, so that two scores of a shot can be compared.
        Raises: ModelError, RunnerError, PlateError, Cancelled.
        """
        ...
