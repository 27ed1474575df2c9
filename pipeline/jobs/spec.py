"""What is asked. A `JobRequest` is what a person gave; a `JobSpec` is that, checked against the files and complete.

The way from one to the other is `resolve()` in `pipeline/jobs/resolve.py`, and nothing else makes a spec.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.errors import Fault, SubmissionRefused
from pipeline.frames import FrameRange
from pipeline.layer import Layer
from pipeline.plate import FramePattern, Plate, Window
from pipeline.rate import FrameRate
from pipeline.shot import Shot
from pipeline.tasks.definition import Bound

Codec = Literal["zips", "zip", "piz", "none"]
"""Lossless only: DWAA corrupts data channels, and a plate is data."""
MOST_KEYS = 10_000
MOST_TAKES = 64


class _Text(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class KeyRequest(_Text):
    """One keyframe: an image of a matte at a frame, of an object."""

    frame: int
    path: str = Field(min_length=1, max_length=4096)
    object: str = Field("matte", min_length=1, max_length=64)


class TakeRequest(_Text):
    """One candidate of a wedge: what differs from the request."""

    name: str = Field("", max_length=128)
    parameters: dict[str, Any] = Field(default_factory=dict)
    model: str | None = Field(None, max_length=4096)


class JobRequest(_Text):
    """What a person asked for, as it travels. Only `task` and `plate` are a must.

    A number among `parameters` may be a curve over frames where its form says `keyable`. `takes` are the candidates of a
    wedge one by one; `wedge` names values for some parameters, or for `model`, and makes a take of every combination.
    `seed_from` is an earlier version of this product, `v003`: its seed is taken again. `seed` is the one to take where no parameter
    names one, in place of drawing it.
    """

    task: str = Field(max_length=64)
    plate: str = Field(
        min_length=1, max_length=4096, description="name.####.exr, name.%04d.exr, a folder, or one file of the sequence"
    )
    cut: str | None = Field(None, max_length=4096)
    clip: str | None = Field(None, max_length=512)
    handles: int = Field(8, ge=0, le=10_000)
    frames: str | None = Field(None, max_length=4096)
    keys: tuple[KeyRequest, ...] = Field((), max_length=MOST_KEYS)
    parameters: dict[str, Any] = Field(default_factory=dict)
    show: str | None = None
    sequence: str | None = None
    shot: str | None = None
    colorspace: str | None = Field(None, max_length=128)
    rate: str | None = Field(None, max_length=32)
    model: str = Field("", max_length=4096, description="a model's name, or the path of its weights")
    model_sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    takes: tuple[TakeRequest, ...] = Field((), max_length=MOST_TAKES)
    wedge: dict[str, list[Any]] = Field(default_factory=dict, max_length=8)
    seed_from: str | None = Field(None, pattern=r"^v[0-9]{3,4}$")
    seed: int | None = Field(None, ge=0, lt=2**63)
    codec: Codec = "zips"
    chunk_frames: int | None = Field(None, ge=1, le=10_000)
    priority: int = Field(50, ge=0, le=100)
    pool: str = Field("default", pattern=r"^[A-Za-z0-9][A-Za-z0-9.\-]{0,63}$")
    out: str | None = Field(None, max_length=4096)
    use: Literal["", "temp", "final"] = Field("", description="what the result is for; empty takes the show's word")
    preset: str = Field("", max_length=64)
    user: str = Field("", max_length=128)

    def asked_takes(self) -> tuple[TakeRequest, ...]:
        """Every take complete: its parameters over the request's, its model. One when no wedge is asked for.

        Raises: SubmissionRefused (takes and a wedge at once, an empty or too large one).
        """
        if self.takes and self.wedge:
            raise SubmissionRefused([Fault("takes", "are given beside a wedge", "give the one or the other")])
        if any(not values for values in self.wedge.values()):
            raise SubmissionRefused([Fault("wedge", "names a parameter without values", "give at least one for each")])
        if math.prod(len(values) for values in self.wedge.values()) > MOST_TAKES:
            raise SubmissionRefused([Fault("wedge", f"makes more than {MOST_TAKES} takes", "give fewer values")])
        given = self.takes or tuple(self._combinations()) or (TakeRequest(),)
        return tuple(
            TakeRequest(
                name=take.name or f"take-{number}",
                parameters={**self.parameters, **take.parameters},
                model=self.model if take.model is None else take.model,
            )
            for number, take in enumerate(given, start=1)
        )

    def _combinations(self) -> Iterator[TakeRequest]:
        for values in product(*self.wedge.values()) if self.wedge else ():
            chosen = dict(zip(self.wedge, values, strict=True))
            name = " ".join(f"{key}={_short(value)}" for key, value in chosen.items())
            model = chosen.pop("model", None)
            yield TakeRequest(name=name[:128], parameters=chosen, model=None if model is None else str(model))


def _short(value: Any) -> str:
    return Path(value).name if isinstance(value, str) and "/" in value else str(value)


class PlateSpec(_Text):
    """A `Plate` in text."""

    pattern: str
    frames: str
    layers: tuple[tuple[str, tuple[str, ...], int], ...]
    data_window: tuple[int, int, int, int]
    display_window: tuple[int, int, int, int]
    colorspace: str
    source_colorspace: str
    rate: str | None = None
    timecode: str | None = None

    @classmethod
    def of(cls, plate: Plate, source_colorspace: str) -> Self:
        """The text of a plate; `source_colorspace` is what its files are in, before they are read to scene-linear."""
        return cls(
            pattern=str(plate.pattern),
            frames=str(plate.frames),
            layers=tuple((layer.name, layer.channels, layer.part) for layer in plate.layers),
            data_window=tuple(plate.data_window.as_list()),
            display_window=tuple(plate.display_window.as_list()),
            colorspace=plate.colorspace,
            source_colorspace=source_colorspace,
            rate=None if plate.rate is None else str(plate.rate),
            timecode=plate.timecode,
        )

    def plate(self) -> Plate:
        """The value again."""
        pattern = FramePattern.parse(self.pattern)
        assert pattern is not None  # `of` wrote it
        return Plate(
            pattern=pattern,
            frames=FrameRange.parse(self.frames),
            layers=tuple(Layer(name, channels, part) for name, channels, part in self.layers),
            data_window=Window(*self.data_window),
            display_window=Window(*self.display_window),
            colorspace=self.colorspace,
            rate=None if self.rate is None else FrameRate.of(self.rate),
            timecode=self.timecode,
        )


class KeySpec(KeyRequest):
    """A keyframe that was looked at: not empty, of the plate's size."""

    hash: str = ""
    coverage: float = 0.0


class InputSpec(_Text):
    """A file, folder or sequence that a parameter names: its place, and a digest of each of its files by name."""

    path: str
    digests: dict[str, str] = Field(default_factory=dict)


class ModelSpec(_Text):
    """Which weights a take uses: a name that the task knows, or a path that was looked into.

    `card`: the studio's card of them, `name@v003`, where they have one; `licence` is the card's, or the task's own weights'.
    """

    name: str = ""
    path: str | None = None
    family: str = ""
    sha256: str = ""
    card: str = ""
    licence: str = ""

    @property
    def identity(self) -> str:
        """What warm sessions are matched by."""
        return self.name if self.path is None else f"{Path(self.path).name}@{self.sha256[:12]}"


class ReplaySpec(_Text):
    """The version that a replay makes again, to be compared with it. Nothing is published."""

    version: int
    name: str
    folder: str
    pattern: str
    frames: str
    software: dict[str, str] = Field(default_factory=dict)
    """What made it, by the record beside it."""


class TakeSpec(_Text):
    """One candidate result of the job: complete parameters, and the seed that was given or drawn.

    `curves`: float parameter → frame → its value there, for those that are keyed. `inputs`: what the parameters that are paths
    lead to. The windows are those of what is delivered, None where they are the plate's.
    """

    index: int
    name: str
    seed: int
    parameters: dict[str, Any]
    curves: dict[str, dict[int, float]] = Field(default_factory=dict)
    inputs: dict[str, InputSpec] = Field(default_factory=dict)
    model: ModelSpec = ModelSpec()
    data_window: tuple[int, int, int, int] | None = None
    display_window: tuple[int, int, int, int] | None = None
    weights: dict[str, str] = Field(default_factory=dict)
    """Parameter of kind `model` → SHA-256 of what its path leads to."""

    @property
    def identity(self) -> str:
        """Of all weights that the take loads: a session that holds them is warm for it."""
        more = (f"{name}@{digest[:12]}" for name, digest in self.weights.items())
        return "+".join(part for part in (self.model.identity, *more) if part)

    def windows(self, plate: Plate) -> tuple[Window, Window]:
        """Data and display window of what is delivered."""
        data = plate.data_window if self.data_window is None else Window(*self.data_window)
        return data, plate.display_window if self.display_window is None else Window(*self.display_window)


class JobSpec(_Text):
    """One job, complete and checked. It is kept as it is, travels to workers as it is, and never changes."""

    schema_: Literal["platewright.job/1"] = Field("platewright.job/1", alias="schema")
    task: str
    studio: str
    show: str
    sequence: str
    shot: str
    plate: PlateSpec
    frames: str
    keys: tuple[KeySpec, ...] = ()
    edit: dict[str, Any] | None = None
    cut_path: str | None = None
    cut_sha256: str | None = None
    cuts: tuple[int, ...] = ()
    handles: int = 8
    """How many were asked for; `edit` says how far the media had them."""
    takes: tuple[TakeSpec, ...]
    model: str = ""
    """Which weights were asked for, in words; what each take loads it says itself."""
    codec: Codec
    chunk_frames: int | None = None
    priority: int = 50
    pool: str = "default"
    publish_root: str
    user: str = ""
    input_hashes: dict[int, str] = Field(default_factory=dict)
    missing: str = ""
    """Frames to deliver that the plate hasn't."""
    beside: str = ""
    """Plate frames that may be read beside those to deliver."""
    bounds: dict[str, Bound] = Field(default_factory=dict)
    """Measure → what it must keep to: a publish that breaks one is refused."""
    use: str = ""
    """What the result is for: `temp` or `final`; empty where no rules ask."""
    policy: dict[str, Any] = Field(default_factory=dict)
    """Which rules were looked at, and what they said."""
    preset: str = ""
    replays: ReplaySpec | None = None
    warnings: tuple[str, ...] = ()

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True, serialize_by_alias=True
    )

    @field_validator("takes")
    @classmethod
    def _at_least_one_take(cls, takes: tuple[TakeSpec, ...]) -> tuple[TakeSpec, ...]:
        if [t.index for t in takes] != list(range(len(takes))) or not takes:
            raise ValueError("takes are numbered from 0 and at least one")
        return takes

    @property
    def address(self) -> Shot:
        """Where the work belongs."""
        return Shot(show=self.show, shot=self.shot, sequence=self.sequence, studio=self.studio)

    @property
    def kind(self) -> str:
        """Of job; see `farm.states.JobKind`."""
        return "plate" if self.replays is None else "replay"

    def objects(self) -> tuple[str, ...]:
        """The keyed objects, in order of first appearance."""
        return tuple(dict.fromkeys(key.object for key in self.keys))


class FaultText(_Text):
    """A `Fault` in text."""

    where: str
    message: str
    hint: str = ""


class TakeFacts(_Text):
    """What was found for one take: its inputs, its curves of sound by frame, its weights."""

    inputs: dict[str, InputSpec] = Field(default_factory=dict)
    sound: dict[str, dict[int, float]] = Field(default_factory=dict)
    model: ModelSpec = ModelSpec()
    weights: dict[str, str] = Field(default_factory=dict)


class SubmissionFacts(_Text):
    """What was found on disk for a request, by a child process that may die of it (`pipeline/intake.py`)."""

    plate: PlateSpec | None = None
    frames: str = ""
    """What to deliver."""
    missing: str = ""
    beside: str = ""
    edit: dict[str, Any] | None = None
    cut_sha256: str | None = None
    keys: tuple[KeySpec, ...] = ()
    takes: tuple[TakeFacts, ...] = ()
    hashes: dict[int, str] = Field(default_factory=dict)
    address: dict[str, str] = Field(default_factory=dict)
    """Show, sequence and shot of a plate that is itself a published version."""
    faults: tuple[FaultText, ...] = ()
    warnings: tuple[str, ...] = ()
