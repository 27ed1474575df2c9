"""What a shot extension refuses before a job is made: nothing to extend, nothing to extend it from, more than it can do."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.errors import Fault
from pipeline.frames import FrameRange
from pipeline.plate import Window
from pipeline.tasks.intake import Submission, in_colour
from pipeline.tasks.shot_extension.definition import (
    HONEST_REACH,
    ExtensionParameters,
    in_space,
    in_time,
    windows,
)
from pipeline.tasks.shot_extension.plan import split

MOST_SIDE = 16384
"""Pixels on a side that a delivered frame may have: more is not read again."""
MOST_GROWTH = 4
"""Times the plate's side that a delivered frame may have, and a few pixels."""
_SLACK_PX = 64


def check(submission: Submission) -> Iterator[Fault]:
    """Faults of a submission of this task; see `pipeline.tasks.intake.TaskCheck`."""
    parameters = submission.parameters
    assert isinstance(parameters, ExtensionParameters)
    yield from in_colour(submission.plate)
    wider = False
    if in_space(parameters):
        data, display = submission.plate.data_window, submission.plate.display_window
        window, format_ = windows(parameters, data, display)
        wider = window != data
        yield from _size(window, data)
        if not wider:
            again = "the new format lies inside the plate" if format_ != display else "no side is to grow"
            yield Fault(
                "parameter mode",
                f"nothing to extend in space: {again}, the plate has all the pixels",
                "give overscan, pixels on a side, or a format that reaches beyond the plate; a crop needs no extension",
            )
    missing = tuple(submission.missing)
    if in_time(parameters) and not missing and not (parameters.mode == "both" and wider):
        yield Fault(
            "frames",
            "nothing is missing: the plate has all that the cut asks for",
            "ask for frames beyond the plate, or extend in space",
        )
    if missing and not in_time(parameters):
        yield Fault(
            "frames",
            f"the plate lacks {submission.missing}, and only the picture is to grow",
            "set mode to both, or ask for frames that the plate has",
        )
    if missing and in_time(parameters):
        yield from _reach(submission, parameters)
        for own, wanted in split(tuple(submission.plate.frames), tuple(submission.frames), submission.cuts):
            if not own:
                yield Fault(
                    "frames",
                    f"between its cuts, {FrameRange.of(wanted)} has no frame of the plate to go on",
                    "leave that shot out, or bring its plate",
                )


def _size(window: Window, data: Window) -> Iterator[Fault]:
    """More than a file holds that can be read again, or so much that nearly all of it would be made up."""
    for name, made, own in (("wide", window.width, data.width), ("high", window.height, data.height)):
        if made > MOST_SIDE:
            yield Fault(
                "parameter mode",
                f"the picture would be {made} pixels {name}, at most {MOST_SIDE} are",
                "ask for less overscan, fewer pixels or a smaller format",
            )
        elif made > MOST_GROWTH * own + _SLACK_PX:
            yield Fault(
                "parameter mode",
                f"the picture would be {made} pixels {name}, the plate is {own}: nearly all would be made up",
                f"stay within {MOST_GROWTH} times the plate's size",
            )


def _reach(submission: Submission, parameters: ExtensionParameters) -> Iterator[Fault]:
    """Frames beyond either end: refused above what was allowed."""
    plate = tuple(submission.plate.frames)
    if len(plate) < 2:
        yield Fault(
            "frames", "the plate has a single frame: there is no motion to go on", "give a plate of two frames at least"
        )
        return
    for count, end in (
        (plate[0] - min(submission.missing), f"before its first frame {plate[0]}"),
        (max(submission.missing) - plate[-1], f"after its last frame {plate[-1]}"),
    ):
        if count > parameters.most_frames:
            yield Fault(
                "parameter most_frames",
                f"{count} frames are asked for {end}, at most {parameters.most_frames} may be made",
                f"motion holds for about {HONEST_REACH} frames and ghosts after; raise most_frames to have them all the "
                "same, or give a video model",
            )
