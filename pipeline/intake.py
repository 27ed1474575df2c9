"""What a submission's files hold: the timeline parsed, the plate decoded, keys, masks, sounds and weights looked at.
Faults are gathered, not raised.

Runs in a child process with limits (`farm/inspector.py`): the files are a stranger's.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.colorspace import interop_id
from pipeline.curves import AudioCurve, Curve, KeyedCurve
from pipeline.edit.context import EditContext
from pipeline.edit.otio_in import edit_context, read_timeline
from pipeline.errors import ModelError, ParameterError, PipelineError, PlateError, fault_of
from pipeline.frames import FrameRange, FrameRangeError
from pipeline.inputs import (
    SPLINES,
    digest_of,
    files_of,
    frames_lacking,
    inspect_input,
    inspect_painted_key,
    inspect_spline_key,
    picture_files,
)
from pipeline.jobs.resolve import frames_to_deliver
from pipeline.jobs.spec import (
    FaultText,
    InputSpec,
    JobRequest,
    KeyRequest,
    KeySpec,
    ModelSpec,
    PlateSpec,
    SubmissionFacts,
    TakeFacts,
    TakeRequest,
)
from pipeline.media.audio import envelope
from pipeline.media.image import read_image
from pipeline.media.inspect import KeyInspection, inspect_key, inspect_plate
from pipeline.media.sequence import find_sequence
from pipeline.models.files import check_sha256, refuse_pickle
from pipeline.models.inspect import inspect_model
from pipeline.parameters import PATH_KINDS, Kind, Parameters, describe, validate_keyed
from pipeline.paths import allowed_path, check_output
from pipeline.plate import Plate
from pipeline.rate import FrameRate
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.intake import Submission, TaskCheck
from pipeline.tasks.registry import task

_MOST_RECORD_BYTES = 64 << 20
_MATTE_SHARE = 1.25
"""A published frame's size over the plate's own, with its matte and proxies: what the output must have room for."""


class KnownModels(BaseModel):
    """The studio's own models that a request names, looked up before: name → card. `trusted`: paths that its registry vouches
    for, wherever they lie → the hash of what must lie there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: dict[str, KnownModel] = Field(default_factory=dict)
    trusted: dict[str, str] = Field(default_factory=dict)


class KnownModel(BaseModel):
    """What a card says of weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    path: str
    sha256: str
    licence: str


def look_at(
    request: JobRequest, *, roots: Sequence[Path], publish_root: Path, known: KnownModels | None = None
) -> SubmissionFacts:
    """Everything that `resolve` needs to know of a request's files, with every fault in them."""
    return _Intake(request, roots, publish_root, known or KnownModels()).facts()


class _Intake:
    def __init__(self, request: JobRequest, roots: Sequence[Path], publish_root: Path, known: KnownModels) -> None:
        self.request = request
        self.known = known
        self.roots = roots
        self.root = publish_root
        self.faults: list[FaultText] = []
        self.warnings: list[str] = []
        self.definition = task(request.task)
        self.asked = self._asked()
        self.extends = any(p is not None and self.definition.extends(p) for _, p, _ in self.asked)

    def facts(self) -> SubmissionFacts:
        request = self.request
        edit, cut_hash = self._edit()
        frames = missing = beside = FrameRange()
        plate: Plate | None = None
        source_space = ""
        hashes: dict[int, str] = {}
        try:
            text = self._path(request.plate)
            _, available = find_sequence(text)
            frames = self._frames(edit, available)
            read = frames or FrameRange.span(available.first, available.first)
            if self.extends and frames:
                missing = frames - available
                beside = self._beside(frames, available) if missing else FrameRange()
                read = (frames - missing) | beside
                self._who_makes(missing)
                if not read:
                    message = f"has none of the frames {frames}, nor any that is near enough to make them of"
                    raise PlateError(f"{text} {message}", f"on disk are {available}")
            found = inspect_plate(text, frames=read, colorspace=self._colorspace())
            plate, source_space = found.plate, found.source_colorspace
            if frames:
                hashes = dict(found.hashes)
                self.faults += [FaultText(where=f.where, message=f.message, hint=f.hint) for f in found.faults]
                self.warnings += found.warnings
        except PipelineError as error:
            self._fault(error, "plate")
        keys = self._keys(plate)
        takes = self._takes(plate, edit, frames, missing, source_space)
        if edit is not None:
            self.warnings += edit.warnings
            self.warnings += [
                f"the cut plays {a}-{b}, which the media hasn't: a shot extension can make them"
                for a, b in edit.missing
                if not self.extends
            ]
        self._output(plate, frames)
        return SubmissionFacts(
            plate=None if plate is None else PlateSpec.of(plate, source_space or plate.colorspace),
            frames=str(frames),
            missing=str(missing),
            beside=str(beside),
            edit=None if edit is None else edit.as_json(),
            cut_sha256=cut_hash,
            keys=keys,
            takes=takes,
            hashes=hashes,
            address={} if plate is None else _address_of(plate),
            faults=tuple(dict.fromkeys(self.faults)),
            warnings=tuple(dict.fromkeys(self.warnings)),
        )

    def _asked(self) -> list[tuple[TakeRequest, Parameters | None, dict[str, Curve]]]:
        """Every take with its parameters, None where they can't be used: that is told when they are validated again."""
        try:
            takes = self.request.asked_takes()
        except PipelineError:
            return []
        out: list[tuple[TakeRequest, Parameters | None, dict[str, Curve]]] = []
        for take in takes:
            parameters, curves, faults = validate_keyed(self.definition.parameters, take.parameters)
            out.append((take, None if faults else parameters, curves))
        return out

    def _beside(self, frames: FrameRange, available: FrameRange) -> FrameRange:
        """The plate frames nearest to the range on either side: what makes missing frames may need them."""
        reach = max((self.definition.context_frames(p) for _, p, _ in self.asked if p is not None), default=0)
        before = [f for f in available if f < frames.first][-reach:] if reach else []
        after = [f for f in available if f > frames.last][:reach] if reach else []
        return FrameRange.of(before + after)

    def _who_makes(self, missing: FrameRange) -> None:
        """All takes deliver the same frames: one that makes none can't be beside one that does."""
        for take, parameters, _ in self.asked if missing else ():
            if parameters is not None and not self.definition.extends(parameters):
                message = f"the plate lacks the frames {missing}, which this take doesn't make"
                hint = "submit it by itself, or ask for frames that the plate has"
                self.faults.append(FaultText(where=f"take {take.name}", message=message, hint=hint))

    def _frames(self, edit: EditContext | None, available: FrameRange) -> FrameRange:
        try:
            return frames_to_deliver(self.request, edit, available, extends=self.extends)
        except FrameRangeError as error:
            self._fault(error, "frames")
            return FrameRange()

    def _fault(self, error: PipelineError, where: str) -> None:
        fault = fault_of(error, where)
        self.faults.append(FaultText(where=fault.where, message=fault.message, hint=fault.hint))

    def _path(self, text: str) -> str:
        if text in self.known.trusted:
            return text
        return str(allowed_path(text, self.roots))

    def _colorspace(self) -> str | None:
        return None if self.request.colorspace is None else interop_id(self.request.colorspace)

    def _edit(self) -> tuple[EditContext | None, str | None]:
        request = self.request
        if request.cut is None:
            if request.clip is not None:
                self.faults.append(
                    FaultText(
                        where="clip",
                        message=f"{request.clip!r} is named, but no cut",
                        hint="give --cut with the timeline",
                    )
                )
            return None, None
        try:
            path = Path(self._path(request.cut))
            timeline = read_timeline(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
            return edit_context(timeline, request.clip, handles=request.handles), digest
        except PipelineError as error:
            self._fault(error, "cut")
        except OSError as error:
            self.faults.append(
                FaultText(where="cut", message=f"{request.cut}: {error.strerror}", hint="check the path")
            )
        return None, None

    def _keys(self, plate: Plate | None) -> tuple[KeySpec, ...]:
        out: list[KeySpec] = []
        for key in self.request.keys:
            where = f"key {key.object}:{key.frame}"
            try:
                path = self._path(key.path)
                if plate is None:
                    continue
                found = self._look_at_key(Path(path), key, plate)
            except PipelineError as error:
                self._fault(error, where)
                continue
            self.faults += [FaultText(where=where, message=f.message, hint=f.hint) for f in found.faults]
            values: dict[str, Any] = {**key.model_dump(), "path": path}
            out.append(KeySpec(**values, hash=found.hash, coverage=found.coverage))
        return tuple(out)

    def _look_at_key(self, path: Path, key: KeyRequest, plate: Plate) -> KeyInspection:
        window, display = plate.data_window, plate.display_window
        if self.definition.key_kind == "picture":
            return inspect_painted_key(path, window=window, display=display)
        if path.suffix.lower() in SPLINES:
            return inspect_spline_key(path, key.frame, window=window, display=display, of=key.object)
        return inspect_key(path, window=window, display=display)

    def _takes(
        self, plate: Plate | None, edit: EditContext | None, frames: FrameRange, missing: FrameRange, space: str
    ) -> tuple[TakeFacts, ...]:
        """What every take's paths lead to, and what the task itself has to say. What several takes share is looked at once."""
        seen: dict[tuple[str, str], InputSpec | None] = {}
        weights: dict[tuple[str, str, str], ModelSpec] = {}
        out: list[TakeFacts] = []
        cuts = () if edit is None else edit.cuts
        for take, parameters, curves in self.asked:
            inputs: dict[str, InputSpec] = {}
            digests: dict[str, str] = {}
            for name, kind, value in self._paths_of(take):
                if (name, value) not in seen:
                    seen[name, value] = self._look_at_input(name, kind, value, plate, frames - missing)
                found = seen[name, value]
                if found is not None:
                    inputs[name] = found
                    if kind == Kind.MODEL:
                        digests[name] = found.digests[Path(found.path).name]
            model = self._model(take.model or "", weights)
            sound = self._sound(curves, plate, edit, frames)
            facts = TakeFacts(inputs=inputs, sound=sound, model=model, weights=digests)
            out.append(facts)
            if parameters is not None and plate is not None and frames and not self.faults:
                self._ask_task(parameters, plate, frames, missing, cuts, curves, facts, space)
        return tuple(out)

    def _paths_of(self, take: TakeRequest) -> Iterator[tuple[str, Kind, str]]:
        for entry in describe(self.definition.parameters)["parameters"]:
            value = take.parameters.get(entry["name"])
            if entry["kind"] in PATH_KINDS and isinstance(value, str) and value:
                yield entry["name"], Kind(entry["kind"]), value

    def _look_at_input(
        self, name: str, kind: Kind, value: str, plate: Plate | None, frames: FrameRange
    ) -> InputSpec | None:
        """A parameter's path, held to the roots; its files, read once. None with a fault."""
        try:
            path = Path(self._path(value))
            if kind is Kind.MODEL:
                if path.is_file():
                    refuse_pickle(path)
                return InputSpec(
                    path=str(path), digests={path.name: check_sha256(path, self.known.trusted.get(value, ""))}
                )
            files = {p.name: p for p in picture_files(path)} if kind is Kind.REFERENCE else files_of(path, frames)
            if kind in (Kind.MASK, Kind.PLATE) and (lacking := frames_lacking(path, frames)):
                raise ParameterError(f"{path} lacks the frames {lacking}", "give one file for each frame, or a still")
            for file in files.values():
                self._path(str(file))
            if plate is not None:
                inspect_input(kind, path, files, frames, window=plate.data_window, display=plate.display_window)
            return InputSpec(path=str(path), digests={n: digest_of(p) for n, p in files.items()})
        except PipelineError as error:
            self._fault(error, f"parameter {name}")
            return None

    def _model(self, text: str, known: dict[tuple[str, str, str], ModelSpec]) -> ModelSpec:
        """The weights that a take names: a path is looked into, a name is the task's own."""
        asked = (text, self.request.model_sha256, "")
        if asked in known:
            return known[asked]
        spec = ModelSpec(name=text or self.definition.default_model, licence=self.definition.default_licence)
        try:
            if card := self.known.models.get(text):
                spec = self._carded(card)
            elif text and text != self.definition.default_model:
                if os.sep not in text and not Path(text).suffix:
                    raise ModelError(
                        f"no model is called {text!r}",
                        f"the task's own is {self.definition.default_model or 'none'}; `plates models list` shows the studio's",
                    )
                found = inspect_model(
                    Path(self._path(text)), families=self.definition.families, sha256=self.request.model_sha256
                )
                spec = ModelSpec(name=Path(text).stem, path=str(found.path), family=found.family, sha256=found.sha256)
        except PipelineError as error:
            self._fault(error, "model")
        known[asked] = spec
        return spec

    def _carded(self, card: KnownModel) -> ModelSpec:
        """Weights with a card: they must still be those that it was made of. Raises: ModelError."""
        asked = self.request.model_sha256
        if asked and asked != card.sha256:
            raise ModelError(f"{card.label} has the sha256 {card.sha256[:12]}…, asked for is {asked[:12]}…", "name one")
        try:
            found = inspect_model(Path(card.path), families=self.definition.families, sha256=card.sha256)
        except PipelineError as error:
            raise ModelError(f"{card.label}: {error.message}", error.hint) from error
        return ModelSpec(
            name=card.label,
            path=str(found.path),
            family=found.family,
            sha256=found.sha256,
            card=card.label,
            licence=card.licence,
        )

    def _sound(
        self, curves: Mapping[str, Curve], plate: Plate | None, edit: EditContext | None, frames: FrameRange
    ) -> dict[str, dict[int, float]]:
        """What sounds do to the parameters that they drive, frame by frame."""
        out: dict[str, dict[int, float]] = {}
        for name, curve in curves.items():
            if not isinstance(curve, AudioCurve) or not frames:
                continue
            try:
                rate = self._rate(plate, edit)
                out[name] = envelope(Path(self._path(curve.audio)), curve, [*frames], rate)
            except PipelineError as error:
                self._fault(error, f"parameter {name}")
        return out

    def _rate(self, plate: Plate | None, edit: EditContext | None) -> Fraction:
        if self.request.rate:
            return FrameRate.of(self.request.rate).value
        for known in (plate, edit):
            if known is not None and known.rate is not None:
                return known.rate.value
        raise ParameterError("follows a sound, but nobody knows the frame rate", "give --rate")

    def _ask_task(
        self,
        parameters: Parameters,
        plate: Plate,
        frames: FrameRange,
        missing: FrameRange,
        cuts: Sequence[int],
        curves: Mapping[str, Curve],
        facts: TakeFacts,
        space: str,
    ) -> None:
        """Let the task look for faults of its own."""
        if not self.definition.inspect:
            return
        module, _, function = self.definition.inspect.partition(":")
        check: TaskCheck = getattr(importlib.import_module(module), function)
        keys: dict[str, list[int]] = {}
        for key in self.request.keys:
            keys.setdefault(key.object, []).append(key.frame)
        sampled = {
            name: {f: curve.at(f) for f in frames} if isinstance(curve, KeyedCurve) else curve.of(facts.sound[name])
            for name, curve in curves.items()
        }
        submission = Submission(
            parameters=parameters,
            plate=plate,
            frames=frames,
            missing=missing,
            keys=keys,
            curves=sampled,
            paths={name: Path(found.path) for name, found in facts.inputs.items()},
            model=ModelRef(
                name=facts.model.name,
                path=None if facts.model.path is None else Path(facts.model.path),
                sha256=facts.model.sha256,
                family=facts.model.family,
            ),
            cuts=cuts,
            linear=lambda frame: read_image(plate.pattern.path(frame), colorspace=space or None).rgb(),
        )
        try:
            self.faults += [FaultText(where=f.where, message=f.message, hint=f.hint) for f in check(submission)]
        except PipelineError as error:
            self._fault(error, "parameters")

    def _output(self, plate: Plate | None, frames: FrameRange) -> None:
        try:
            needed = 0
            if plate is not None:
                sizes = [plate.pattern.path(f).stat().st_size for f in frames if plate.pattern.path(f).exists()]
                needed = int(sum(sizes) * _MATTE_SHARE)
            check_output(self.root, needed_bytes=needed)
        except PipelineError as error:
            self._fault(error, "out")


def _address_of(plate: Plate) -> dict[str, str]:
    """Show, sequence and shot of a plate that is one of our versions, as the record beside it says; nothing for any other."""
    path = plate.pattern.folder / f"{plate.pattern.head.rstrip('.')}.json"
    try:
        if path.stat().st_size > _MOST_RECORD_BYTES:
            return {}
        record = json.loads(path.read_text(encoding="utf-8"))
        if not record["schema"].startswith("platewright.provenance/"):
            return {}
        return {name: str(record["shot"][name]) for name in ("show", "sequence", "shot") if record["shot"].get(name)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
