"""What is asked. A `JobRequest` is what a person gave; a `JobSpec` is that, checked against the files and complete.

The way from one to the other is `resolve()`, and nothing else makes a spec: every fault of a submission is found there,
all at once, before anything is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.curves import Curve, KeyedCurve
from pipeline.edit.context import EditContext
from pipeline.errors import Fault, PipelineError, SubmissionRefused, fault_of
from pipeline.frames import FrameRange
from pipeline.layer import Layer
from pipeline.parameters import Kind, Parameters, describe, validate_keyed
from pipeline.plate import FramePattern, Plate, Window
from pipeline.rate import FrameRate
from pipeline.shot import Shot, check_name, safe_name
from pipeline.tasks.definition import Bound, TaskDefinition

Codec = Literal["zips", "zip", "piz", "none"]
"""Lossless only: DWAA corrupts data channels, and a plate is data."""
RESERVED_LAYERS = frozenset({"rgba", "rgb", "matte"})
MOST_KEYS = 10_000
MOST_TAKES = 64
MOST_SIDE = 32_768


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
    `seed_from` is an earlier version of this product, `v003`: its seed is taken again.
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
    codec: Codec = "zips"
    chunk_frames: int | None = Field(None, ge=1, le=10_000)
    priority: int = Field(50, ge=0, le=100)
    pool: str = Field("default", pattern=r"^[A-Za-z0-9][A-Za-z0-9.\-]{0,63}$")
    out: str | None = Field(None, max_length=4096)
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
    """Which weights a take uses: a name that the task knows, or a path that was looked into."""

    name: str = ""
    path: str | None = None
    family: str = ""
    sha256: str = ""

    @property
    def identity(self) -> str:
        """What warm sessions are matched by."""
        return self.name if self.path is None else f"{Path(self.path).name}@{self.sha256[:12]}"


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
    faults: tuple[FaultText, ...] = ()
    warnings: tuple[str, ...] = ()


def frames_to_deliver(
    request: JobRequest, edit: EditContext | None, available: FrameRange, *, extends: bool = False
) -> FrameRange:
    """What a request asks for: the frames it names, else the clip with its handles, else the whole plate.

    Frames before or behind the plate that the cut asks for are left to a task that `extends` the shot; for any other a hole
    inside it is a fault, which shows when the frames are looked at.
    Raises: FrameRangeError (the text), PlateError-like faults are the caller's.
    """
    if request.frames:
        return FrameRange.parse(request.frames)
    if edit is not None and extends:
        ends = [edit.head_in, edit.tail_out, *(frame for part in edit.missing for frame in part)]
        return FrameRange.span(min(ends), max(ends))
    if edit is not None:
        return FrameRange.span(max(edit.head_in, available.first), min(edit.tail_out, available.last))
    return FrameRange.span(available.first, available.last)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a dispatcher adds to a request that doesn't say.

    `bounds`: show → task → measure → what the show asks for; see `bounds_for`.
    """

    studio: str
    show: str
    publish_root: Path
    bounds: Mapping[str, Mapping[str, Mapping[str, Bound]]] = field(default_factory=dict)


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
    takes, take_faults = _takes(request, facts, found, definition)
    faults += take_faults
    faults += _key_faults(request, found.frames, definition)
    rate, rate_faults = _rate(request, found)
    faults += rate_faults
    names, name_faults = _names(request, found, defaults)
    faults += name_faults
    if found.plate is not None and not found.frames and not facts.faults:
        faults.append(_nothing_to_deliver(request, found.plate, found.edit))
    if faults or facts.plate is None:
        raise SubmissionRefused(list(dict.fromkeys(faults)) or [Fault("plate", "could not be read")])
    unseeded = {take.index for take in takes if _given_seed(definition, take.parameters) is None}
    if unseeded:
        # One drawn seed serves all takes that name none: they differ in what the wedge says, and in nothing else.
        drawn = draw_seed()
        takes = tuple(t.model_copy(update={"seed": drawn}) if t.index in unseeded else t for t in takes)
    return JobSpec(
        task=definition.name,
        studio=defaults.studio,
        **names,
        plate=facts.plate.model_copy(update={"rate": rate and str(rate)}),
        frames=facts.frames,
        missing=facts.missing,
        beside=facts.beside,
        keys=facts.keys,
        edit=facts.edit,
        cut_path=request.cut if facts.edit is not None else None,
        cut_sha256=facts.cut_sha256,
        cuts=() if found.edit is None else found.edit.cuts,
        takes=takes,
        model=request.model or definition.default_model,
        codec=request.codec,
        chunk_frames=request.chunk_frames,
        priority=request.priority,
        pool=request.pool,
        publish_root=request.out or str(defaults.publish_root),
        user=request.user,
        input_hashes=facts.hashes,
        bounds={**definition.bounds, **bounds_for(defaults.bounds, names["show"], definition.name)},
        warnings=facts.warnings,
    )


def _takes(
    request: JobRequest,
    facts: SubmissionFacts,
    found: _Found,
    definition: TaskDefinition,
) -> tuple[tuple[TakeSpec, ...], list[Fault]]:
    """Every take complete but for a seed that wasn't given, or what is wrong with them."""
    try:
        asked = request.asked_takes()
    except SubmissionRefused as refused:
        return (), list(refused.faults)
    takes: list[TakeSpec] = []
    faults: list[Fault] = []
    for index, take in enumerate(asked):
        parameters, curves, wrong = validate_keyed(definition.parameters, take.parameters)
        at = f"take {take.name}: " if len(asked) > 1 else ""
        faults += [Fault(at + f.where, f.message, f.hint) for f in wrong]
        if parameters is None or wrong or found.plate is None:
            continue
        known = facts.takes[index] if index < len(facts.takes) else TakeFacts()
        windows, window_faults = _windows(definition, parameters, found.plate)
        faults += window_faults
        complete = parameters.model_dump(mode="json")
        takes.append(
            TakeSpec(
                index=index,
                name=take.name,
                seed=_given_seed(definition, complete) or 0,  # where none was given, one is drawn for all takes
                parameters=complete,
                curves={name: _sampled(curve, name, found.frames, known) for name, curve in curves.items()},
                inputs=known.inputs,
                model=known.model,
                weights=known.weights,
                data_window=_unless(windows[0], found.plate.data_window),
                display_window=_unless(windows[1], found.plate.display_window),
            )
        )
    return tuple(takes), faults


def _sampled(curve: Curve, name: str, frames: FrameRange, known: TakeFacts) -> dict[int, float]:
    if isinstance(curve, KeyedCurve):
        return {frame: curve.at(frame) for frame in frames}
    return curve.of(known.sound.get(name, {}))


def _unless(window: Window, same: Window) -> tuple[int, int, int, int] | None:
    return None if window == same else (window.x_min, window.y_min, window.x_max, window.y_max)


def _windows(
    definition: TaskDefinition, parameters: Parameters, plate: Plate
) -> tuple[tuple[Window, Window], list[Fault]]:
    """What is delivered: at least the plate's own pixels, at most what an EXR and a machine can hold."""
    try:
        data, display = definition.windows(parameters, plate.data_window, plate.display_window)
    except PipelineError as error:
        return (plate.data_window, plate.display_window), [fault_of(error, "parameters")]
    inner = plate.data_window
    holds = data.x_min <= inner.x_min and data.y_min <= inner.y_min
    holds = holds and data.x_max >= inner.x_max and data.y_max >= inner.y_max
    if not holds or max(data.width, data.height, display.width, display.height) > MOST_SIDE:
        message = f"would deliver {data.as_list()} of a plate with {inner.as_list()}"
        return (data, display), [
            Fault("parameters", message, f"keep the plate's pixels, and within {MOST_SIDE} a side")
        ]
    return (data, display), []


def bounds_for(said: Mapping[str, Mapping[str, Mapping[str, Bound]]], show: str, task: str) -> dict[str, Bound]:
    """What a show asks of a task's measures: `*` stands for every show, and for every task; the nearer word counts."""
    found: dict[str, Bound] = {}
    for of_show in ("*", show):
        for of_task in ("*", task):
            found |= said.get(of_show, {}).get(of_task, {})
    return found


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


def _given_seed(definition: TaskDefinition, parameters: Mapping[str, Any]) -> int | None:
    """The seed that was given, None when it is to be drawn."""
    for entry in describe(definition.parameters)["parameters"]:
        if entry["kind"] == Kind.SEED and parameters[entry["name"]] is not None:
            return int(parameters[entry["name"]])
    return None


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
