"""A shot's place in the cut, in whole frames of its own media."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

from pipeline.rate import FrameRate


@dataclass(frozen=True, slots=True)
class Retime:
    """How the clip plays its media. `speed` is media frames per record frame: -1 is reverse, 0 a freeze."""

    speed: Fraction = Fraction(1)

    @property
    def freeze(self) -> bool:
        """One media frame is held."""
        return self.speed == 0

    @property
    def reverse(self) -> bool:
        """The media plays backwards; the lowest frame still is `source_first`."""
        return self.speed < 0


@dataclass(frozen=True, slots=True)
class Transition:
    """A transition at one end of the clip. Offsets are record frames on either side of the cut point."""

    kind: str
    in_offset: int
    out_offset: int


@dataclass(frozen=True, slots=True)
class EditContext:
    """One clip's place in a cut. Frames are inclusive and in the media's own numbers: file numbers for
    sequences, timecode frames for movies. Record frames are in the timeline's.

    `head_in ≤ cut_in ≤ cut_out ≤ tail_out`. `cut_*` is the clip between its cut points; `source_*` is all that the
    cut uses, transitions' overlaps included, so `source_first ≤ cut_in`. A retimed clip uses every frame that its media time
    touches: 24 record frames at 2× are 48 of the media (`timing.py` has the rule and why). `head_in`/`tail_out` add the handles,
    ceil(handles · |speed|) frames, as far as the media has them. `missing` is what the cut uses and the media hasn't: a request to
    extend the shot.
    """

    clip: str
    shot: str
    media: str
    """The media's address: a path pattern with `####` for sequences; a name when there is no address; empty when missing."""
    rate: FrameRate
    cut_in: int
    cut_out: int
    head_in: int
    tail_out: int
    source_first: int
    source_last: int
    available_first: int | None = None
    available_last: int | None = None
    missing: tuple[tuple[int, int], ...] = ()
    retime: Retime = field(default_factory=Retime)
    transition_in: Transition | None = None
    transition_out: Transition | None = None
    record_in: int = 0
    record_out: int = 0
    cuts: tuple[int, ...] = ()
    """Frames strictly inside head_in…tail_out at which another clip's use of the same media begins: no model window crosses one."""
    track: str = ""
    enabled: bool = True
    """Whether the clip and all that encloses it are switched on."""
    warnings: tuple[str, ...] = ()
    """What a person should know, in sentences they can act on; each of `refusals` is among them."""
    refusals: tuple[str, ...] = ()
    """Why no job can be made of this clip; empty when one can."""
    address: str = ""
    """What names this clip alone in its cut: its name, or `name#2` for the second of that name in cut order."""
    plays: bool = True
    """Whether any of it can reach the screen: not when switched off, of no length, or trimmed away by what encloses it."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON: the rate and the speed as exact fractions in text, ranges as [first, last]."""
        out = asdict(self)
        out["rate"] = str(self.rate)
        out["retime"] = {"speed": str(self.retime.speed), "freeze": self.retime.freeze, "reverse": self.retime.reverse}
        out["missing"] = [list(r) for r in self.missing]
        out["cuts"] = list(self.cuts)
        out["warnings"] = list(self.warnings)
        out["refusals"] = list(self.refusals)
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EditContext:
        """The value that `as_json` wrote."""
        values = dict(data)
        values["rate"] = FrameRate.of(values["rate"])
        values["retime"] = Retime(Fraction(values["retime"]["speed"]))
        values["missing"] = tuple((a, b) for a, b in values["missing"])
        for side in ("transition_in", "transition_out"):
            if values.get(side) is not None:
                values[side] = Transition(**values[side])
        values["cuts"] = tuple(values.get("cuts", ()))
        values["warnings"] = tuple(values.get("warnings", ()))
        values["refusals"] = tuple(values.get("refusals", ()))
        return cls(**values)
