"""What a task is, light enough for a dispatcher: its name, its parameters, and where its runner lives as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import TaskError
from pipeline.parameters import Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDefinition:
    """One kind of work. Importing it costs nothing heavy; `runner` is `"package.module:Class"`, loaded only in a session child."""

    name: str
    label: str
    help: str
    parameters: type[Parameters]
    runner: str
    product: str
    """The published product's name in file names."""
    keys_min: int | None = None
    """How many keyframe mattes there must be at least; None where the task takes none."""
    fits: bool = False
    """Whether a per-shot fit comes before the chunks."""
    context_frames: Callable[[Parameters], int] = lambda _: 0
    """Frames beside a chunk that its runner also reads, on either side."""
    chunk_frames: int = 16
    """Frames a chunk holds unless the submission says otherwise."""
    memory_mb: int = 2500
    """What a session may use at most on an HD plate."""
    default_model: str = ""
    """Identity of the weights that are used when no model is named: warm sessions are matched by it."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise TaskError(f"task name {self.name!r} must be an identifier")
        module, _, cls = self.runner.partition(":")
        if not module or not cls:
            raise TaskError(f"task {self.name}: runner {self.runner!r} must be 'package.module:Class'")
