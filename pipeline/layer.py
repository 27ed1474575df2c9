"""Layers: the named groups of channels inside an EXR."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_ORDER = {name: i for i, name in enumerate("RGBA")}


class PixelType(StrEnum):
    """What a channel's samples are stored as. A channel keeps its type: Cryptomatte dies in half."""

    HALF = "half"
    FLOAT = "float"
    UINT = "uint"


@dataclass(frozen=True, slots=True)
class Layer:
    """Channels that belong together. The main picture's layer has the empty name; its channels are R, G, B, A."""

    name: str
    channels: tuple[str, ...]
    """Short names: `A` of `matte.A`."""
    part: int = 0

    def full_names(self) -> tuple[str, ...]:
        """Channel names as they stand in the file."""
        return tuple(f"{self.name}.{c}" if self.name else c for c in self.channels)

    @property
    def label(self) -> str:
        """What people call it: the main picture is `rgba` or `rgb`."""
        return self.name or "".join(self.channels).lower()


def layers_of(channels: Iterable[str], part: int = 0) -> tuple[Layer, ...]:
    """Group full channel names into layers, in order of first appearance, colours in R G B A order."""
    found: dict[str, list[str]] = {}
    for full in channels:
        name, _, short = full.rpartition(".")
        found.setdefault(name, []).append(short)
    return tuple(
        Layer(name, tuple(sorted(short, key=lambda c: (_ORDER.get(c, 9), c))), part) for name, short in found.items()
    )
