"""How a chunk is done: read ► to model space ► task ► back ► write. The page to read first.

A session child calls one of two functions: `run_fit` once a take, `run_chunk` for each chunk of its frames. Reading the next
frame, computing this one and writing the last go on at the same time.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pipeline.compose import compose
from pipeline.errors import PipelineError, RunnerError
from pipeline.jobs.chunks import Chunk
from pipeline.jobs.spec import JobSpec, TakeSpec
from pipeline.media.exr import Frame, write_frame
from pipeline.media.stream import FrameWriter
from pipeline.plate import FramePattern
from pipeline.plate_shot import PlateShot, Reporter
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
) -> dict[str, Any]:
    """Let the runner learn the shot; what it keeps lies in `folder`, facts for the report come back.

    Raises: PlateError, KeyframeError, RunnerError, Cancelled.
    """
    started = time.monotonic()
    with PlateShot(
        spec,
        take,
        definition,
        frames=frames.frames.frames,
        context=frames.context.frames,
        folder=folder,
        report=report,
        with_all_channels=False,
    ) as shot:
        facts = dict(_told(lambda: runner.fit(shot), f"fit of {definition.name}"))
    _check_finite(facts, f"the fit of {definition.name}")
    facts["seconds"] = round(time.monotonic() - started, 3)
    (folder / STEP_REPORT).write_text(json.dumps(facts, sort_keys=True))
    return facts


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
) -> dict[str, Any]:
    """Do one chunk: read, bring to model space, run, bring back, write.

    Frames: `chunk.frames` are written as `folder/frame.####.exr`; `chunk.context` are read only.
    Returns `{"frames": {frame: quality}, "layers": added layer names, "changes_picture", "makes_alpha", "seconds"}`, also
    kept as `step.json` beside the frames.
    Raises: PlateError (frame missing or unreadable), RunnerError (the model failed or left a frame out), StorageError, Cancelled.
    """
    started = time.monotonic()
    plate = spec.plate.plate()
    pattern = frame_pattern(folder)
    quality: dict[int, dict[str, float]] = {}
    layers: list[str] = []
    changes = alpha = False

    def write(frame: int, made: Frame) -> None:
        write_frame(pattern.path(frame), made, codec=spec.codec)
        report.frame_done(frame)

    with (
        PlateShot(
            spec,
            take,
            definition,
            frames=chunk.frames.frames,
            context=chunk.context.frames,
            folder=fit_folder or folder,
            report=report,
            with_all_channels=True,
        ) as shot,
        FrameWriter(write) as writer,
    ):
        results = runner.run(shot)
        for expected in chunk.frames:
            result: FrameResult | None = _told(lambda: next(results, None), f"{definition.name} at frame {expected}")
            if result is None or result.frame != expected:
                got = "stopped" if result is None else f"gave frame {result.frame}"
                raise RunnerError(f"the runner of {definition.name} {got} where frame {expected} was due")
            quality[expected] = {name: float(value) for name, value in result.quality.items()}
            _check_finite(quality[expected], f"{definition.name} at frame {expected}")
            layers = list(result.layers)
            changes = changes or result.rgb is not None
            alpha = alpha or result.alpha is not None
            beneath = expected if expected in shot.available else shot.nearest(expected)
            writer.put(
                expected, compose(shot.source(beneath), result, plate, windows=take.windows(plate), from_frame=beneath)
            )
            report.progress(len(quality) / len(chunk.frames), f"frame {expected}")
    facts = {
        "frames": {str(frame): values for frame, values in quality.items()},
        "layers": layers,
        "changes_picture": changes,
        "makes_alpha": alpha,
        "seconds": round(time.monotonic() - started, 3),
    }
    (folder / STEP_REPORT).write_text(json.dumps(facts, sort_keys=True))
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
