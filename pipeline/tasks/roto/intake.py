"""What a roto looks at before a job is made: that something says what to cut out, and that it lies in the picture."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.errors import Fault
from pipeline.models.facts import SALIENCY_ONNX
from pipeline.tasks.intake import Submission
from pipeline.tasks.roto.definition import ROTO, RotoParameters
from pipeline.tasks.roto.prompts import prompts_of

_COUNTED = "positions count in pixels from the top left corner of the display window"


def check(submission: Submission) -> Iterator[Fault]:
    """The faults of a roto's keys and prompts."""
    parameters = submission.parameters
    assert isinstance(parameters, RotoParameters)
    display = submission.plate.display_window
    prompts = prompts_of(parameters, [*submission.frames], submission.plate.data_window, display)
    keyed = any(submission.keys.values())
    if not keyed and not any(p.says_where for p in prompts.values()) and submission.model.family != SALIENCY_ONNX:
        if prompts:
            yield Fault("parameter points_off", "says what is outside, and nothing says what is inside", "add points")
        else:
            yield Fault(
                "keys",
                f"{ROTO.label} needs at least 1 keyframe matte, or points, a box or strokes on a frame",
                "give --key FRAME=MATTE; the first, middle and last frame are a good start",
            )
    if prompts and len(submission.keys) > 1:
        yield Fault(
            "parameter points",
            f"points, boxes and strokes mean one object, the keys have {len(submission.keys)}",
            "rotoscope this object in a job of its own, or paint it",
        )
    if prompts and submission.model.family == SALIENCY_ONNX:
        yield Fault(
            "model", "a saliency model takes no points, boxes or strokes", "give keys, which limit what it finds"
        )
    for frame in prompts:
        if frame not in submission.frames:
            yield Fault(
                "parameter prompt_frame" if frame == parameters.prompt_frame else "parameter strokes",
                f"frame {frame} is none of {submission.frames}",
                "point at a frame that is delivered",
            )
        if any(frame in frames for frames in submission.keys.values()):
            yield Fault(
                "parameter prompt_frame",
                f"frame {frame} has a key and prompts: the key says all there is to say",
                "point at another frame, or leave the key out",
            )
    yield from _outside(parameters, display.width, display.height)


def _outside(parameters: RotoParameters, width: int, height: int) -> Iterator[Fault]:
    """Positions beyond the picture, which counts from its top left corner."""
    places = {
        "points": parameters.points,
        "points_off": parameters.points_off,
        "strokes": tuple((x, y) for stroke in parameters.strokes for _, x, y in stroke),
    }
    for name, points in places.items():
        for x, y in points:
            if not (0 <= x <= width and 0 <= y <= height):
                yield Fault(f"parameter {name}", f"{x:g}, {y:g} lies outside the picture, {width}×{height}", _COUNTED)
                break
    if not all(parameters.strokes):
        yield Fault("parameter strokes", "one of them has no sample", "leave it out, or draw it")
    if parameters.box is not None:
        x_min, y_min, x_max, y_max = parameters.box
        if x_max - x_min < 2 or y_max - y_min < 2:
            yield Fault("parameter box", "is empty", "give its left, top, right and bottom, in this order")
        elif x_min >= width or y_min >= height or x_max <= 0 or y_max <= 0:
            yield Fault("parameter box", f"lies outside the picture, {width}×{height}", _COUNTED)
