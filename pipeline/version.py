"""A published take: immutable, named, whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.plate import FramePattern
from pipeline.shot import Shot


@dataclass(frozen=True, slots=True)
class Version:
    """What a job may publish: its number is reserved at submit, its folder appears whole at the end.

    `name` is `<show>_<sequence>_<shot>_<product>_v001`; `folder` ends in that version alone.
    """

    shot: Shot
    product: str
    number: int
    name: str
    folder: Path

    @property
    def label(self) -> str:
        """`v001`."""
        return f"v{self.number:03d}"

    @property
    def pattern(self) -> FramePattern:
        """The published frames' file names."""
        return FramePattern(self.folder, f"{self.name}.", 4, ".exr")
