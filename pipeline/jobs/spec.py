"""What is asked. A `JobRequest` is what a person gave; a `JobSpec` is that, checked against the files and complete.

The way from one to the other is `resolve()`, and nothing else makes a spec: every fault of a submission is found there,
all at once, before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.edit.context import EditContext
from pipeline.errors import Fault, PipelineError, SubmissionRefused, fault_of
from pipeline.frames import FrameRange
from pipeline.layer import Layer
from pipeline.parameters import Kind, describe, validate
from pipeline.plate import FramePattern, Plate, Window
from pipeline.rate import FrameRate
from pipeline.shot import Shot, check_name, safe_name
from pipeline.tasks.definition import TaskDefinition

Codec = Literal["zips", "zip", "piz", "none"]
"""Lossless only: DWAA corrupts data channels, and a plate is data."""
RESERVED_LAYERS = frozenset({"rgba", "rgb", "matte"})
MOST_KEYS = 10_000


class _Text(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class KeyRequest(_Text):
    """One keyframe: an image of a matte at a frame, of an object."""

    frame: int
    path: str = Field(min_length=1, max_length=4096)
    object: str = Field("matte", min_length=1, max_length=64)


class JobRequest(_Text):
    """What a person asked for, as it travels. Only `task` and `plate` are a must."""

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
    model: str = Field("", max_length=128)
    codec: Codec = "zips"
    chunk_frames: int | None = Field(None, ge=1, le=10_000)
    priority: int = Field(50, ge=0, le=100)
    pool: str = Field("default", pattern=r"^[A-Za-z0-9][A-Za-z0-9.\-]{0,63}$")
    out: str | None = Field(None, max_length=4096)
    user: str = Field("", max_length=128)


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


class TakeSpec(_Text):
    """One candidate result of the job: complete parameters and the seed that was given or drawn."""

    index: int
    name: str
    seed: int
    parameters: dict[str, Any]


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
    takes: tuple[TakeSpec, ...]
    model: str
    codec: Codec
    chunk_frames: int | None = None
    priority: int = 50
    pool: str = "default"
    publish_root: str
    user: str = ""
    input_hashes: dict[int, str] = Field(default_factory=dict)
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

    def objects(self) -> tuple[str, ...]:
        """The keyed objects, in order of first appearance."""
        return tuple(dict.fromkeys(key.object for key in self.keys))


class FaultText(_Text):
    """A `Fault` in text."""

    where: str
    message: str
    hint: str = ""


class SubmissionFacts(_Text):
    """What was found on disk for a request, by a child process that may die of it (`pipeline/intake.py`)."""

    plate: PlateSpec | None = None
    frames: str = ""
    """What to deliver."""
    edit: dict[str, Any] | None = None
    cut_sha256: str | None = None
    keys: tuple[KeySpec, ...] = ()
    hashes: dict[int, str] = Field(default_factory=dict)
    faults: tuple[FaultText, ...] = ()
    warnings: tuple[str, ...] = ()


def frames_to_deliver(request: JobRequest, edit: EditContext | None, available: FrameRange) -> FrameRange:
    """What a request asks for: the frames it names, else the clip with its handles, else the whole plate.

    Frames before or behind the plate that the cut asks for are left to a shot extension; a hole inside it is a fault,
    which shows when the frames are looked at.
    Raises: FrameRangeError (the text), PlateError-like faults are the caller's.
    """
    if request.frames:
        return FrameRange.parse(request.frames)
    if edit is not None:
        return FrameRange.span(max(edit.head_in, available.first), min(edit.tail_out, available.last))
    return FrameRange.span(available.first, available.last)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a dispatcher adds to a request that doesn't say."""

    studio: str
    show: str
    publish_root: Path


def resolve(
    request: JobRequest,
    facts: SubmissionFacts,
    definition: TaskDefinition,
    *,
    defaults: Defaults,
    draw_seed: Callable[[], int],
) -> JobSpec:
    """Make the spec of a request, from what was found of its files.

    Raises: SubmissionRefused with every fault: those of the files, the parameters, the keys, the names, the edit.
    """
    found = _Found.of(facts)
    faults = [Fault(f.where, f.message, f.hint) for f in facts.faults]
    parameters, parameter_faults = validate(definition.parameters, request.parameters)
    faults += parameter_faults
    faults += _key_faults(request, found.frames, definition)
    rate, rate_faults = _rate(request, found)
    faults += rate_faults
    names, name_faults = _names(request, found, defaults)
    faults += name_faults
    if found.plate is not None and not found.frames and not facts.faults:
        faults.append(_nothing_to_deliver(request, found.plate, found.edit))
    if faults or parameters is None or facts.plate is None:
        raise SubmissionRefused(list(dict.fromkeys(faults)) or [Fault("plate", "could not be read")])
    complete = parameters.model_dump(mode="json")
    return JobSpec(
        task=definition.name,
        studio=defaults.studio,
        **names,
        plate=facts.plate.model_copy(update={"rate": rate and str(rate)}),
        frames=facts.frames,
        keys=facts.keys,
        edit=facts.edit,
        cut_path=request.cut if facts.edit is not None else None,
        cut_sha256=facts.cut_sha256,
        cuts=() if found.edit is None else found.edit.cuts,
        takes=(TakeSpec(index=0, name="take-1", seed=_seed(definition, complete, draw_seed), parameters=complete),),
        model=request.model or definition.default_model,
        codec=request.codec,
        chunk_frames=request.chunk_frames,
        priority=request.priority,
        pool=request.pool,
        publish_root=request.out or str(defaults.publish_root),
        user=request.user,
        input_hashes=facts.hashes,
        warnings=facts.warnings,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """The facts as values."""

    plate: Plate | None
    frames: FrameRange
    edit: EditContext | None

    @classmethod
    def of(cls, facts: SubmissionFacts) -> _Found:
        return cls(
            plate=None if facts.plate is None else facts.plate.plate(),
            frames=FrameRange.parse(facts.frames),
            edit=None if facts.edit is None else EditContext.from_json(facts.edit),
        )


def _seed(definition: TaskDefinition, parameters: dict[str, Any], draw: Callable[[], int]) -> int:
    """The seed that was given, or a drawn one: either way it is on record."""
    for entry in describe(definition.parameters)["parameters"]:
        if entry["kind"] == Kind.SEED and parameters[entry["name"]] is not None:
            return int(parameters[entry["name"]])
    return draw()


def _key_faults(request: JobRequest, frames: FrameRange, definition: TaskDefinition) -> list[Fault]:
    faults: list[Fault] = []
    if definition.keys_min is None and request.keys:
        faults.append(Fault("keys", f"{definition.label} takes no keyframes", "leave --key out"))
    if len(request.keys) < (definition.keys_min or 0):
        need = f"{definition.label} needs at least {definition.keys_min} keyframe matte"
        faults.append(Fault("keys", need, "give --key FRAME=MATTE; the first, middle and last frame are a good start"))
    seen: set[tuple[str, int]] = set()
    for key in request.keys:
        where = f"key {key.object}:{key.frame}"
        if (key.object, key.frame) in seen:
            faults.append(Fault(where, "is given twice", "keep one matte a frame and object"))
        seen.add((key.object, key.frame))
        try:
            check_name(key.object, "object")
        except PipelineError as error:
            faults.append(fault_of(error, where))
        if len(frames) and key.frame not in frames:
            faults.append(
                Fault(
                    where,
                    f"lies outside the frames to deliver, {frames}",
                    "paint a frame inside the range, or widen --frames",
                )
            )
    objects = {key.object for key in request.keys}
    if len(objects) > 1:
        for name in sorted(objects & RESERVED_LAYERS):
            faults.append(
                Fault(
                    f"key {name}",
                    "this name is taken by the layer of all objects together",
                    "call the object something else",
                )
            )
    return faults


def _rate(request: JobRequest, found: _Found) -> tuple[FrameRate | None, list[Fault]]:
    """The one frame rate that everybody who knows one agrees on."""
    rates: dict[str, FrameRate] = {}
    if request.rate:
        try:
            rates["--rate"] = FrameRate.of(request.rate)
        except PipelineError as error:
            return None, [fault_of(error, "rate")]
    if found.plate is not None and found.plate.rate is not None:
        rates["the plate"] = found.plate.rate
    if found.edit is not None:
        rates["the cut"] = found.edit.rate
    if len(set(rates.values())) > 1:
        said = ", ".join(f"{who} says {rate}" for who, rate in rates.items())
        hint = "conform the plate, or fix the rate in the file that is wrong"
        return None, [Fault("rate", f"the frame rates differ: {said}", hint)]
    return next(iter(rates.values()), None), []


def _names(request: JobRequest, found: _Found, defaults: Defaults) -> tuple[dict[str, str], list[Fault]]:
    if request.shot:
        shot = request.shot
    elif found.edit is not None:
        shot = found.edit.shot
    elif found.plate is not None:
        shot = safe_name(found.plate.pattern.head.strip("._-") or found.plate.pattern.folder.name)
    else:
        shot = "shot"
    names = {"show": request.show or defaults.show, "sequence": request.sequence or "", "shot": shot}
    faults: list[Fault] = []
    for what, name in names.items():
        if what == "sequence" and not name:
            continue
        try:
            check_name(name, what)
        except PipelineError as error:
            faults.append(fault_of(error, what))
    return names, faults


def _nothing_to_deliver(request: JobRequest, plate: Plate, edit: EditContext | None) -> Fault:
    if edit is not None and not request.frames:
        return Fault(
            f"clip {edit.clip}",
            f"the cut plays {edit.source_first}-{edit.source_last}, the plate has {plate.frames}: they never meet",
            "the cut may count timecode where the files count frames: relink the clip to the sequence, or name --frames",
        )
    return Fault("frames", "there is nothing to deliver", "name --frames that the plate has")
