"""How a chunk is done: read ► to model space ► task ► back ► write. The page to read first.

A session child calls one of two functions: `run_fit` once a take, `run_chunk` for each chunk of its frames. Reading the next
frame, computing this one and writing the last go on at the same time.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pipeline.colorspace import CHROMATICITIES
from pipeline.errors import PipelineError, PublishError, RunnerError
from pipeline.jobs.chunks import Chunk
from pipeline.jobs.spec import JobSpec, TakeSpec
from pipeline.media.exr import Frame, Part, picture_channels, write_frame
from pipeline.media.half import to_half
from pipeline.media.stream import FrameWriter
from pipeline.parameters import Parameters
from pipeline.plate import FramePattern, Plate
from pipeline.plate_shot import PlateShot, Reporter
from pipeline.tasks.contract import Cancelled, FrameResult, TaskRunner
from pipeline.tasks.definition import TaskDefinition

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
        parameters=_parameters(definition, take),
        frames=frames.frames.frames,
        context=(),
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
    Returns `{"frames": {frame: quality}, "layers": added layer names, "changes_picture", "seconds"}`, also kept as
    `step.json` beside the frames.
    Raises: PlateError (frame missing or unreadable), RunnerError (the model failed or left a frame out), StorageError, Cancelled.
    """
    started = time.monotonic()
    plate = spec.plate.plate()
    pattern = frame_pattern(folder)
    quality: dict[int, dict[str, float]] = {}
    layers: list[str] = []
    changes = False

    def write(frame: int, made: Frame) -> None:
        write_frame(pattern.path(frame), made, codec=spec.codec)
        report.frame_done(frame)

    with (
        PlateShot(
            spec,
            take,
            parameters=_parameters(definition, take),
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
            writer.put(expected, compose(shot.source(expected), result, plate))
            report.progress(len(quality) / len(chunk.frames), f"frame {expected}")
    facts = {
        "frames": {str(frame): values for frame, values in quality.items()},
        "layers": layers,
        "changes_picture": changes,
        "seconds": round(time.monotonic() - started, 3),
    }
    (folder / STEP_REPORT).write_text(json.dumps(facts, sort_keys=True))
    return facts


def compose(source: Frame, result: FrameResult, plate: Plate) -> Frame:
    """The delivered frame: the plate's own pixels, bit for bit, but where the task changed them, and the new layers.

    New layers are half, in the main part and its data window. A layer of the same name that the plate has is replaced
    whole, in the part where it lies.
    Raises: PublishError (a layer of another size, a picture without R, G and B), PlateError (a value that half can't hold).
    """
    main = source.main
    channels = [{n: p for n, p in part.channels.items() if _layer_of(n) not in result.layers} for part in source.parts]
    at_home = next(i for i, part in enumerate(source.parts) if part is main)
    if result.rgb is not None:
        channels[at_home] |= _changed_picture(main, result)
    for layer, planes in result.layers.items():
        home = next((i for i, part in enumerate(source.parts) if layer in map(_layer_of, part.channels)), at_home)
        window = source.parts[home].data_window
        for short, plane in planes.items():
            if plane.shape != (window.height, window.width) or window != main.data_window:
                size, room = plane.shape[::-1], (window.width, window.height)
                raise PublishError(f"layer {layer}.{short} is {size}, its place in the plate {room} pixels")
            full = f"{layer}.{short}"
            channels[home][full] = to_half(plane, channel=full)
    return Frame(
        tuple(
            Part(
                name=part.name,
                header=_stamped(part.header, plate) if part is main else part.header,
                channels=kept,
                data_window=part.data_window,
                display_window=part.display_window,
            )
            for part, kept in zip(source.parts, channels, strict=True)
        )
    )


def _layer_of(channel: str) -> str:
    return channel.rpartition(".")[0]


def _changed_picture(main: Part, result: FrameResult) -> dict[str, NDArray[Any]]:
    """The picture's channels with what the task made of them, each in its own type."""
    assert result.rgb is not None
    names = picture_channels(main.channels)
    if len(set(names)) < 3:
        raise PublishError(
            f"the picture was changed in colour, the plate has only {names[0]}", "give a plate with R, G and B"
        )
    out: dict[str, NDArray[Any]] = {}
    for name, made in zip(names, result.rgb, strict=True):
        own = main.channels[name]
        wanted = made if result.changed is None else np.where(result.changed, made, 0)
        kept = to_half(wanted, channel=name) if own.dtype == np.float16 else wanted.astype(own.dtype)
        out[name] = kept if result.changed is None else np.where(result.changed, kept, own)
    return out


def _stamped(header: Mapping[str, Any], plate: Plate) -> dict[str, Any]:
    """The plate's own header, with its rate and colour space said in the standard attributes."""
    out = dict(header)
    if plate.rate is not None:
        out.setdefault("framesPerSecond", Fraction(plate.rate.value))
    if out.get("colorInteropID") != plate.colorspace:
        # Silent, or overruled by whoever submitted it: what is delivered must say what it is.
        out["colorInteropID"] = plate.colorspace
        out.pop("chromaticities", None)
    if plate.colorspace in CHROMATICITIES:
        out.setdefault("chromaticities", CHROMATICITIES[plate.colorspace])
    return out


def _parameters(definition: TaskDefinition, take: TakeSpec) -> Parameters:
    return definition.parameters.model_validate(take.parameters)


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
