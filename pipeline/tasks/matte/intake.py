"""What a matte refuses before a job is made: a source that isn't there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import Fault, PipelineError
from pipeline.media.image import read_matte
from pipeline.media.sequence import find_sequence
from pipeline.models.facts import RVM_ONNX
from pipeline.plate import FramePattern
from pipeline.tasks.intake import Submission, in_colour
from pipeline.tasks.matte.definition import MatteParameters
from pipeline.tasks.matte.screen import screen_share, usable

_SAMPLES = 3
"""Frames of the shot that are looked at: the ends and the middle."""
_LEAST_SHARE = 0.01
"""Of the picture: less of a colour than this on every sample is no screen."""
_AREA = np.ones((3, 3), np.uint8)
"""Grey that holds no such square is the smooth edge of a matte, not a trimap's band."""
_SPLINES = (".nk", ".json", ".svg")
"""Shapes have no grey to look for."""
_LAYER = "matte"


def check(submission: Submission) -> Iterator[Fault]:
    """Faults of a submission of this task; see `pipeline.tasks.intake.TaskCheck`."""
    parameters = submission.parameters
    assert isinstance(parameters, MatteParameters)
    yield from in_colour(submission.plate)
    yield from _strokes(submission, parameters)
    if parameters.source == "roto":
        yield from _roto(submission)
    elif parameters.source == "trimap":
        yield from _trimap(submission)
    else:
        yield from _screen(submission, parameters)


def _roto(submission: Submission) -> Iterator[Fault]:
    """RVM alone needs none: it finds people by itself."""
    layers = {layer.name for layer in submission.plate.layers}
    path = submission.paths.get("roto")
    if path is not None and path.suffix.lower() not in _SPLINES and _is_empty(path, submission):
        yield Fault(
            "parameter roto",
            f"{path.name} is black on every frame: it says that there is no subject",
            "give one that shows the subject in white",
        )
    if path is not None or _LAYER in layers or submission.model.family == RVM_ONNX:
        return
    yield Fault(
        "parameter roto",
        f"there is neither a roto nor a layer {_LAYER} in the plate",
        f"give a roto, or a plate that has one; this one has {', '.join(sorted(x.label for x in submission.plate.layers))}",
    )


def _is_empty(path: Path, submission: Submission) -> bool:
    """Whether no frame of a roto shows anything; the first that does ends the search."""
    missing = set(submission.missing)
    try:
        files = dict.fromkeys(_file(path, f) for f in submission.frames if f not in missing)
        return not any(read_matte(file).any() for file in files)
    except (PipelineError, OSError):
        return False  # the file itself is faulted elsewhere, with its own reason


def _strokes(submission: Submission, parameters: MatteParameters) -> Iterator[Fault]:
    """A brush may leave the picture, but not by more than its size."""
    width, height = submission.plate.display_window.width, submission.plate.display_window.height
    for stroke in parameters.detail_strokes:
        if not stroke:
            yield Fault("parameter detail_strokes", "one of them has no sample", "leave it out, or draw it")
        for _, x, y in stroke:
            if not (-width <= x <= 2 * width and -height <= y <= 2 * height):
                yield Fault(
                    "parameter detail_strokes",
                    f"{x:g}, {y:g} lies far outside the picture, {width}×{height}",
                    "positions count in pixels from the top left corner of the display window",
                )
                return


def _trimap(submission: Submission) -> Iterator[Fault]:
    path = submission.paths.get("trimap")
    if path is None:
        yield Fault(
            "parameter trimap", "the source is a trimap, and none is given", "give one, or choose another source"
        )
        return
    if path.suffix.lower() in _SPLINES:
        yield Fault(
            "parameter trimap",
            f"{path.name} holds shapes, which have no unknown",
            "give pictures, or use them as a roto",
        )
        return
    wanted = _sampled(submission)
    unknown = known = False
    for frame in wanted:
        try:
            trimap = read_matte(_file(path, frame))
        except (PipelineError, OSError):
            return  # the file itself is faulted elsewhere, with its own reason
        grey = ((trimap > 0.25) & (trimap < 0.75)).astype(np.uint8)
        unknown |= bool(cv2.erode(grey, _AREA).any())
        known |= bool((trimap >= 0.75).any() and (trimap <= 0.25).any())
    if not unknown:
        yield Fault(
            "parameter trimap",
            f"nothing is unknown in it on the frames {_named(wanted)}: no grey but an edge's own pixels",
            "paint the hair and soft edges grey; for a hard matte choose the source roto",
        )
    elif not known:
        yield Fault(
            "parameter trimap",
            f"it needs black and white beside the grey, and lacks one on the frames {_named(wanted)}",
            "paint what is surely subject white and what is surely background black",
        )


def _screen(submission: Submission, parameters: MatteParameters) -> Iterator[Fault]:
    if not usable(parameters.screen):
        yield Fault(
            "parameter screen",
            f"{_colour(parameters.screen)} is nearly grey: no channel stands out that could be keyed",
            "pick the colour of the screen itself, scene-linear, away from its shadows",
        )
        return
    wanted = _sampled(submission)
    shares = []
    for frame in wanted:
        try:
            rgb = np.nan_to_num(submission.linear(frame)[:, ::2, ::2].transpose(1, 2, 0), posinf=65504.0, neginf=0.0)
        except PipelineError:
            return  # the plate itself is faulted elsewhere
        shares.append(screen_share(rgb, parameters.screen))
    if shares and max(shares) < _LEAST_SHARE:
        yield Fault(
            "parameter screen",
            f"the plate has no screen of the colour {_colour(parameters.screen)}: it fills at most {max(shares):.1%} of the "
            f"frames {_named(wanted)}",
            "pick the colour from the plate, scene-linear, where the screen is evenly lit",
        )


def _sampled(submission: Submission) -> list[int]:
    missing = set(submission.missing)
    frames = [f for f in submission.frames if f not in missing]
    count = min(_SAMPLES, len(frames))
    return sorted({frames[round(i * (len(frames) - 1) / max(1, count - 1))] for i in range(count)})


def _file(path: Path, frame: int) -> Path:
    """The frame's own file of a sequence, or the still."""
    if FramePattern.parse(str(path)) is None and not path.is_dir():
        return path
    return find_sequence(str(path))[0].path(frame)


def _named(frames: list[int]) -> str:
    return ", ".join(str(f) for f in frames)


def _colour(colour: tuple[float, float, float]) -> str:
    return "(" + ", ".join(f"{c:g}" for c in colour) + ")"
