"""What a submission's files hold: the timeline parsed, the plate decoded, the keys looked at. Faults are gathered, not raised.

Runs in a child process with limits (`farm/inspector.py`): the files are a stranger's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.colorspace import interop_id
from pipeline.edit.context import EditContext
from pipeline.edit.otio_in import edit_context, read_timeline
from pipeline.errors import PipelineError, fault_of
from pipeline.frames import FrameRange, FrameRangeError
from pipeline.jobs.spec import FaultText, JobRequest, KeySpec, PlateSpec, SubmissionFacts, frames_to_deliver
from pipeline.media.inspect import inspect_key, inspect_plate
from pipeline.media.sequence import find_sequence
from pipeline.parameters import PATH_KINDS, describe
from pipeline.paths import allowed_path, check_output
from pipeline.plate import Plate
from pipeline.tasks.registry import task

_MATTE_SHARE = 1.25
"""A published frame's size over the plate's own, with its matte and proxies: what the output must have room for."""


def look_at(request: JobRequest, *, roots: Sequence[Path], publish_root: Path) -> SubmissionFacts:
    """Everything that `resolve` needs to know of a request's files, with every fault in them."""
    return _Intake(request, roots, publish_root).facts()


class _Intake:
    def __init__(self, request: JobRequest, roots: Sequence[Path], publish_root: Path) -> None:
        self.request = request
        self.roots = roots
        self.root = publish_root
        self.faults: list[FaultText] = []
        self.warnings: list[str] = []

    def facts(self) -> SubmissionFacts:
        request = self.request
        edit, cut_hash = self._edit()
        frames = FrameRange()
        plate: Plate | None = None
        source_space = ""
        hashes: dict[int, str] = {}
        try:
            text = self._path(request.plate)
            _, available = find_sequence(text)
            frames = self._frames(edit, available)
            if len(frames):
                found = inspect_plate(text, frames=frames, colorspace=self._colorspace())
                plate, hashes, source_space = found.plate, dict(found.hashes), found.source_colorspace
                self.faults += [FaultText(where=f.where, message=f.message, hint=f.hint) for f in found.faults]
                self.warnings += found.warnings
            else:
                plate = inspect_plate(
                    text, frames=FrameRange.span(available.first, available.first), colorspace=self._colorspace()
                ).plate
        except PipelineError as error:
            self._fault(error, "plate")
        keys = self._keys(plate)
        self._parameter_paths()
        if edit is not None:
            self.warnings += edit.warnings
            self.warnings += [
                f"the cut plays {a}-{b}, which the media hasn't: a shot extension can make them"
                for a, b in edit.missing
            ]
        self._output(plate, frames)
        return SubmissionFacts(
            plate=None if plate is None else PlateSpec.of(plate, source_space or plate.colorspace),
            frames=str(frames),
            edit=None if edit is None else edit.as_json(),
            cut_sha256=cut_hash,
            keys=keys,
            hashes=hashes,
            faults=tuple(self.faults),
            warnings=tuple(dict.fromkeys(self.warnings)),
        )

    def _frames(self, edit: EditContext | None, available: FrameRange) -> FrameRange:
        try:
            return frames_to_deliver(self.request, edit, available)
        except FrameRangeError as error:
            self._fault(error, "frames")
            return FrameRange()

    def _fault(self, error: PipelineError, where: str) -> None:
        fault = fault_of(error, where)
        self.faults.append(FaultText(where=fault.where, message=fault.message, hint=fault.hint))

    def _path(self, text: str) -> str:
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
                found = inspect_key(path, window=plate.data_window, display=plate.display_window)
            except PipelineError as error:
                self._fault(error, where)
                continue
            self.faults += [FaultText(where=where, message=f.message, hint=f.hint) for f in found.faults]
            values: dict[str, Any] = {**key.model_dump(), "path": path}
            out.append(KeySpec(**values, hash=found.hash, coverage=found.coverage))
        return tuple(out)

    def _parameter_paths(self) -> None:
        """Paths among the parameters are held to the roots like any other. Wrong values are told when they are validated."""
        for entry in describe(task(self.request.task).parameters)["parameters"]:
            value = self.request.parameters.get(entry["name"])
            if entry["kind"] in PATH_KINDS and isinstance(value, str):
                try:
                    self._path(value)
                except PipelineError as error:
                    self._fault(error, f"parameter {entry['name']}")

    def _output(self, plate: Plate | None, frames: FrameRange) -> None:
        try:
            needed = 0
            if plate is not None:
                sizes = [plate.pattern.path(f).stat().st_size for f in frames if plate.pattern.path(f).exists()]
                needed = int(sum(sizes) * _MATTE_SHARE)
            check_output(self.root, needed_bytes=needed)
        except PipelineError as error:
            self._fault(error, "out")
