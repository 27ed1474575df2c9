"""How a chunk is done: read ► to model space ► task ► back ► write. The page to read first.

A session child calls one of two functions: `run_fit` once a take, `run_chunk` for each chunk of its frames. Reading the next
frame, computing this one and writing the last go on at the same time.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pipeline.compose import compose
from pipeline.errors import PipelineError, RunnerError
from pipeline.frames import FrameRange
from pipeline.jobs.chunks import Chunk
from pipeline.jobs.fits import KeptFits
from pipeline.jobs.keys import ContentKeys
from pipeline.jobs.spec import JobSpec, TakeSpec
from pipeline.media.exr import Frame, write_frame
from pipeline.media.stream import FrameWriter
from pipeline.plate import FramePattern
from pipeline.plate_shot import PlateShot, Reporter
from pipeline.publish.earlier import EarlierFrame
from pipeline.tasks.contract import Cancelled, FrameResult, TaskRunner
from pipeline.tasks.definition import TaskDefinition

T = TypeVar("T")
STEP_REPORT = "step.json"


def frame_pattern(folder: Path) -> FramePattern:
    """The files of the frames that an attempt wrote into its folder."""
    return FramePattern(folder, "frame.", 4, ".exr")


def run_fit(
    spec: JobSpec,
    take: TakeSpec,
    definition: TaskDefinition,
    *,
    runner: TaskRunner,
    frames: Chunk,
    folder: Path,
    report: Reporter,
    earlier: Mapping[str, EarlierFrame] = MappingProxyType({}),
    kept: KeptFits | None = None,
) -> dict[str, Any]:
    """Let the runner learn the shot; what it keeps lies in `folder`, facts for the report come back.

    Nothing is learned when `earlier` versions have every frame of the take already, or when the same fit is `kept`.
    Raises: PlateError, KeyframeError, RunnerError, Cancelled.
    """
    started = time.monotonic()
    keys = ContentKeys(spec, take, definition)
    if earlier and _all_there(keys, frames.frames, earlier, report):
        facts: dict[str, Any] = {"reused": True, "seconds": 0.0}
        (folder / STEP_REPORT).write_text(json.dumps(facts, sort_keys=True))
        return facts
    fit_key = keys.of_fit if definition.learns else None
    if kept is not None and fit_key is not None and kept.take(fit_key, folder):
        return {**_facts_of(folder), "shared": True}
    with PlateShot(
        spec,
        take,
        definition,
        frames=frames.frames.frames,
        context=frames.context.frames,
        folder=folder,
        report=report,
        in_fit=True,
    ) as shot:
        facts = dict(_told(lambda: runner.fit(shot), f"fit of {definition.name}"))
    _check_finite(facts, f"the fit of {definition.name}")
    facts["seconds"] = round(time.monotonic() - started, 3)
    (folder / STEP_REPORT).write_text(json.dumps(facts, sort_keys=True))
    if kept is not None and fit_key is not None:
        kept.keep(fit_key, folder)
    return facts


def _all_there(keys: ContentKeys, frames: FrameRange, earlier: Mapping[str, EarlierFrame], report: Reporter) -> bool:
    """Whether earlier versions have every frame, each still as it was published: else its chunk would lack the fit."""
    known = [earlier.get(keys.of(frame) or "") for frame in frames]
    for done, frame in enumerate(known):
        report.progress(done / len(known), "looking at an earlier version")
        if frame is None or not frame.is_whole():
            return False
    return True


def run_chunk(
    spec: JobSpec,
    take: TakeSpec,
    definition: TaskDefinition,
    *,
    runner: TaskRunner,
    chunk: Chunk,
    folder: Path,
    fit_folder: Path | None,
    report: Reporter,
    earlier: Mapping[str, EarlierFrame] = MappingProxyType({}),
) -> dict[str, Any]:
    """Do one chunk: read, bring to model space, run, bring back, write.

    Frames: `chunk.frames` are written as `folder/frame.####.exr`; `chunk.context` are read only. A frame whose content key
    `earlier` versions have is linked from there.
    Returns `{"frames": {frame: quality}, "keys": {frame: content key}, "reused": frames, "layers": added layer names,
    "changes_picture", "makes_alpha", "seconds"}`, also kept as `step.json` beside the frames.
    Raises: PlateError (frame missing or unreadable), RunnerError (the model failed or left a frame out), StorageError, Cancelled.
    """
    started = time.monotonic()
    pattern = frame_pattern(folder)
    content = ContentKeys(spec, take, definition)
    keys = {frame: key for frame in chunk.frames if (key := content.of(frame)) is not None}
    made = _Made()
    for frame, key in keys.items():
        known = earlier.get(key)
        if known is not None and known.take_over(pattern.path(frame)):
            made.reuse(frame, known)
            report.frame_done(frame)
            report.progress(len(made.quality) / len(chunk.frames), f"frame {frame}, unchanged")
    new = [frame for frame in chunk.frames if frame not in made.quality]
    if new:
        if fit_folder is not None and _facts_of(fit_folder).get("reused"):
            raise RunnerError(
                f"frames {FrameRange.of(new)} were to be taken from an earlier version, which is gone",
                "submit the job again",
            )
        _make(spec, take, definition, runner, new, chunk, (folder, fit_folder), report, made)
    facts = {
        "frames": {str(frame): made.quality[frame] for frame in chunk.frames},
        "keys": {str(frame): key for frame, key in keys.items()},
        "reused": str(FrameRange.of(made.reused)),
        "layers": list(made.layers),
        "changes_picture": made.changes_picture,
        "makes_alpha": made.makes_alpha,
        "seconds": round(time.monotonic() - started, 3),
    }
    (folder / STEP_REPORT).write_text(json.dumps(facts, sort_keys=True))
    return facts


@dataclass(slots=True)
class _Made:
    """What a chunk has come to so far."""

    quality: dict[int, dict[str, float]] = field(default_factory=dict)
    layers: dict[str, None] = field(default_factory=dict)
    changes_picture: bool = False
    makes_alpha: bool = False
    reused: list[int] = field(default_factory=list)

    def add(self, result: FrameResult) -> None:
        """A frame that the runner made."""
        self.quality[result.frame] = {name: float(value) for name, value in result.quality.items()}
        self.layers.update(dict.fromkeys(result.layers))
        self.changes_picture |= result.rgb is not None
        self.makes_alpha |= result.alpha is not None

    def reuse(self, frame: int, known: EarlierFrame) -> None:
        """A frame that an earlier version has."""
        self.quality[frame] = dict(known.quality)
        self.layers.update(dict.fromkeys(known.layers))
        self.changes_picture |= known.changes_picture
        self.makes_alpha |= known.makes_alpha
        self.reused.append(frame)


def _make(
    spec: JobSpec,
    take: TakeSpec,
    definition: TaskDefinition,
    runner: TaskRunner,
    frames: Sequence[int],
    chunk: Chunk,
    folders: tuple[Path, Path | None],
    report: Reporter,
    made: _Made,
) -> None:
    """Have the runner make these frames of a chunk and write them. The chunk's other frames are context to it."""
    folder, fit_folder = folders
    plate = spec.plate.plate()
    pattern = frame_pattern(folder)
    missing = FrameRange.parse(spec.missing)

    def write(frame: int, composed: Frame) -> None:
        write_frame(pattern.path(frame), composed, codec=spec.codec)
        report.frame_done(frame)

    with (
        PlateShot(
            spec,
            take,
            definition,
            frames=frames,
            context=sorted({*chunk.context, *(f for f in chunk.frames if f not in frames and f not in missing)}),
            folder=fit_folder or folder,
            report=report,
            in_fit=False,
        ) as shot,
        FrameWriter(write) as writer,
    ):
        results = runner.run(shot)
        for expected in frames:
            result: FrameResult | None = _told(lambda: next(results, None), f"{definition.name} at frame {expected}")
            if result is None or result.frame != expected:
                got = "stopped" if result is None else f"gave frame {result.frame}"
                raise RunnerError(f"the runner of {definition.name} {got} where frame {expected} was due")
            made.add(result)
            _check_finite(made.quality[expected], f"{definition.name} at frame {expected}")
            beneath = expected if expected in shot.available else shot.nearest(expected)
            writer.put(
                expected,
                compose(shot.source(beneath), result, plate, windows=take.windows(plate), from_frame=beneath),
            )
            report.progress(len(made.quality) / len(chunk.frames), f"frame {expected}")


def _facts_of(folder: Path) -> dict[str, Any]:
    """What a step left, nothing where it left none."""
    try:
        facts: dict[str, Any] = json.loads((folder / STEP_REPORT).read_text())
    except (OSError, ValueError):
        return {}
    return facts


def _check_finite(facts: Mapping[str, Any], what: str) -> None:
    """A measure that is no number means that the model has gone astray. Raises: RunnerError."""
    for name, value in facts.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise RunnerError(
                f"{what} gave {name} = {value}", "the model diverged: try another seed, or fewer iterations"
            )


def _told(call: Callable[[], T], what: str) -> T:
    """Call into a model; whatever it raises becomes a RunnerError that names the place."""
    try:
        return call()
    except (PipelineError, Cancelled, MemoryError):
        raise
    except Exception as error:
        raise RunnerError(f"{what} failed: {type(error).__name__}: {error}", "the log has the traceback") from error
