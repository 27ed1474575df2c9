"""Content keys: what a delivered frame depends on, as one digest. Frames with the same key are the same, bit for bit, so a
frame whose key an earlier version already has need not be made again."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from pipeline import __version__
from pipeline.frames import FrameRange
from pipeline.jobs.spec import InputSpec, JobSpec, TakeSpec
from pipeline.media.sequence import frame_of
from pipeline.parameters import Kind, beside_frames, describe, for_fit, path_parameters
from pipeline.plate import FramePattern
from pipeline.provenance import software
from pipeline.tasks.definition import TaskDefinition
from pipeline.tasks.registry import package_of

_MAKERS = ("numpy", "opencv-python-headless", "torch", "diffusers", "transformers", "onnxruntime", "numba", "scipy")


class ContentKeys:
    """The keys of one take's frames.

    A key holds the task, the weights, the seed, the parameters as they are on the frame, the plate's frame and the context
    that its runner may read, what masks and other plates show on these, and the versions of what computes. Where a fit
    decides the frames (`TaskDefinition.learns`), it holds the fit's key too, and so every frame of the plate; what may be
    keyed over frames no fit goes by, so that changing one key of a curve makes only the frames anew that it reaches.
    """

    def __init__(self, spec: JobSpec, take: TakeSpec, definition: TaskDefinition) -> None:
        self._spec, self._take, self._definition = spec, take, definition
        missing = FrameRange.parse(spec.missing)
        frames = (FrameRange.parse(spec.frames) - missing) | FrameRange.parse(spec.beside)
        self._readable = [*frames]
        self._reach = definition.context_frames(definition.parameters.model_validate(take.parameters))
        self._whole_shot = definition.fits and definition.learns

    def of(self, frame: int) -> str | None:
        """A frame's key; None when something that it depends on was not looked at when the job was submitted."""
        hashes = self._spec.input_hashes
        near = self._near(frame)
        if any(read not in hashes for read in near) or (self._whole_shot and self.of_fit is None):
            return None
        shown = [frame, *near]
        return _digest(
            self._common,
            {
                "frame": frame,
                "fit": self.of_fit if self._whole_shot else None,
                "reads": {str(read): hashes[read] for read in near},
                "values": {n: [values.get(f) for f in shown] for n, values in self._take.curves.items()},
                "inputs": self._inputs(shown),
            },
        )

    @cached_property
    def of_fit(self) -> str | None:
        """The key of the take's fit: takes with the same one share it. None as of a frame."""
        hashes = self._spec.input_hashes
        if any(frame not in hashes for frame in self._readable):
            return None
        seen = for_fit(self._definition.parameters.model_validate(self._take.parameters)).model_dump(mode="json")
        return _digest(
            {name: value for name, value in self._common.items() if name != "parameters"},
            {
                "fit": {name: value for name, value in seen.items() if name not in self._paths},
                "reads": {str(frame): hashes[frame] for frame in self._readable},
                "inputs": {name: found.digests for name, found in self._take.inputs.items()},
                "range": self._spec.frames,
            },
        )

    def _near(self, frame: int) -> Sequence[int]:
        """The plate's frames that a runner may read for this one: itself and its context."""
        left, right = bisect_left(self._readable, frame), bisect_right(self._readable, frame)
        near = self._readable[max(0, left - self._reach) : right + self._reach]
        cuts = sorted(self._spec.cuts)
        shot = bisect_right(cuts, frame)
        return [read for read in near if bisect_right(cuts, read) == shot]

    def _inputs(self, frames: Sequence[int]) -> dict[str, dict[str, str]]:
        """Digests of the files that count on these frames: of a mask or another plate that is a sequence, the frames' own."""
        out: dict[str, dict[str, str]] = {}
        for name, found in self._take.inputs.items():
            by_frame = self._kinds.get(name) in (Kind.MASK, Kind.PLATE) and len(found.digests) > 1
            count = found.digests if not by_frame else _of_frames(found, frames)
            out[name] = {file: found.digests[file] for file in count}
        return out

    @cached_property
    def _kinds(self) -> dict[str, str]:
        return {entry["name"]: entry["kind"] for entry in describe(self._definition.parameters)["parameters"]}

    @cached_property
    def _paths(self) -> frozenset[str]:
        """Parameters that are paths: what they lead to counts, not where it lies."""
        return path_parameters(self._definition.parameters)

    @cached_property
    def _silent(self) -> frozenset[str]:
        """Parameters whose value says nothing of a frame's pixels."""
        return self._paths | beside_frames(self._definition.parameters)

    @cached_property
    def _common(self) -> dict[str, Any]:
        spec, take = self._spec, self._take
        used = software()
        parameters = {n: v for n, v in take.parameters.items() if n not in take.curves and n not in self._silent}
        plate = spec.plate.model_dump(mode="json", exclude={"pattern", "frames", "timecode"})
        return {
            "task": [spec.task, self._definition.runner, __version__, package_of(spec.task)],
            "software": {name: used[name] for name in _MAKERS if name in used},
            # Weights that have a digest are what they are under any name: a card's, a path's, another card's.
            "model": [take.model.sha256 or take.model.name, take.model.family, take.weights],
            "seed": take.seed,
            "parameters": parameters,
            "windows": [take.data_window, take.display_window],
            "plate": plate,
            "codec": spec.codec,
            "cuts": spec.cuts,
            "keys": [[k.object, k.frame, k.hash] for k in spec.keys],
        }


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _of_frames(found: InputSpec, frames: Iterable[int]) -> list[str]:
    """The files of a sequence that are these frames', by name: as its pattern says, or in a folder by their numbers."""
    pattern, wanted = FramePattern.parse(found.path), set(frames)
    names = None if pattern is None else {pattern.name(frame) for frame in wanted}
    return [file for file in found.digests if (frame_of(file) in wanted if names is None else file in names)]
