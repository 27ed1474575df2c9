"""From what was asked to what is known to be right: the one way from a `JobRequest` to a `JobSpec`.

Every fault of a submission is found here, all at once, before anything is written. Pure: what the files hold was found before,
by `pipeline/intake.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.curves import Curve, KeyedCurve
from pipeline.edit.context import EditContext
from pipeline.errors import Fault, PipelineError, SubmissionRefused, fault_of
from pipeline.frames import FrameRange
from pipeline.jobs.spec import JobRequest, JobSpec, SubmissionFacts, TakeFacts, TakeSpec
from pipeline.parameters import Kind, Parameters, describe, validate_keyed
from pipeline.plate import Plate, Window
from pipeline.rate import FrameRate
from pipeline.shot import check_name, safe_name
from pipeline.tasks.definition import Bound, TaskDefinition

RESERVED_LAYERS = frozenset({"rgba", "rgb", "matte"})
MOST_SIDE = 32_768


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
    if request.seed is not None and request.seed_from is not None:
        faults.append(Fault("seed", "is given beside seed_from", "give the one or the other"))
    rate, rate_faults = _rate(request, found)
    faults += rate_faults
    names, name_faults = _names(request, found, facts.address, defaults)
    faults += name_faults
    if found.plate is not None and not found.frames and not facts.faults:
        faults.append(_nothing_to_deliver(request, found.plate, found.edit))
    if faults or facts.plate is None:
        raise SubmissionRefused(list(dict.fromkeys(faults)) or [Fault("plate", "could not be read")])
    unseeded = {take.index for take in takes if _given_seed(definition, take.parameters) is None}
    if unseeded:
        # One seed serves all takes that name none: they differ in what the wedge says, and in nothing else.
        drawn = draw_seed() if request.seed is None else request.seed
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
        handles=request.handles,
        preset=request.preset,
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


def _names(
    request: JobRequest, found: _Found, address: Mapping[str, str], defaults: Defaults
) -> tuple[dict[str, str], list[Fault]]:
    """Show, sequence and shot: what the person says, else what the cut or an earlier version says, else the files' name."""
    if request.shot:
        shot = request.shot
    elif found.edit is not None:
        shot = found.edit.shot
    elif "shot" in address:
        shot = address["shot"]
    elif found.plate is not None:
        shot = safe_name(found.plate.pattern.head.strip("._-") or found.plate.pattern.folder.name)
    else:
        shot = "shot"
    names = {
        "show": request.show or address.get("show") or defaults.show,
        "sequence": request.sequence or address.get("sequence", ""),
        "shot": shot,
    }
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
