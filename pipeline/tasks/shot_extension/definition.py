"""Shot extension: frames that the cut asks for and the plate hasn't, and pixels beyond the plate's edge."""

from __future__ import annotations

import math
from typing import Literal

from pipeline.parameters import Kind, Parameters, parameter
from pipeline.plate import Window
from pipeline.tasks.definition import CONFIDENCE, Bound, Measure, TaskDefinition

HONEST_REACH = 4
"""Frames beyond the plate up to which extrapolated motion looks like the shot; further out it ghosts."""
SOURCE_REACH = 30
"""Plate frames on either side that a wider picture is gathered from."""
SEAM_MOST = 1.0
"""The `seam` above which a version is refused, unless the artist accepts the joins: see `pipeline.quality.seams`."""


class ExtensionParameters(Parameters):
    """What an artist can set for a shot extension."""

    mode: Literal["time", "space", "both"] = parameter(
        "time", group="Extend", help="Make missing frames, a wider picture, or both."
    )
    overscan: float = parameter(
        0.0,
        min=0.0,
        max=100.0,
        unit="%",
        group="Wider",
        keyable=False,
        help="Widen every side by this part of the format's size.",
    )
    left: int = parameter(0, min=0, max=8192, unit="px", group="Wider", help="More pixels on the left.")
    right: int = parameter(0, min=0, max=8192, unit="px", group="Wider", help="More pixels on the right.")
    top: int = parameter(0, min=0, max=8192, unit="px", group="Wider", help="More pixels on top.")
    bottom: int = parameter(0, min=0, max=8192, unit="px", group="Wider", help="More pixels at the bottom.")
    format_width: int | None = parameter(
        None,
        min=16,
        max=16384,
        unit="px",
        group="Reframe",
        help="Width of the new format; overscan is then left aside.",
    )
    format_height: int | None = parameter(
        None, min=16, max=16384, unit="px", group="Reframe", help="Height of the new format."
    )
    shift_x: int = parameter(
        0, min=-8192, max=8192, unit="px", group="Reframe", help="Move the new format right of the old one's centre."
    )
    shift_y: int = parameter(
        0, min=-8192, max=8192, unit="px", group="Reframe", help="Move the new format below the old one's centre."
    )
    most_frames: int = parameter(
        8, min=1, max=48, unit="frames", group="Motion", help="Make at most so many frames beyond an end of the plate."
    )
    motion_decay: float = parameter(
        0.0,
        min=0.0,
        max=1.0,
        group="Motion",
        keyable=False,
        help="Slow objects down by this part each made frame; 0 keeps their speed.",
    )
    grain: float = parameter(
        1.0, min=0.0, max=2.0, group="Grain", help="Strength of the plate's own grain on made pixels; may be keyed."
    )
    accept_joins: bool = parameter(
        False, group="Joins", help="Deliver even where a join against the plate is worse than the stated threshold."
    )
    prompt: str = parameter("", group="Model", help="What a diffusers model should paint where no frame shows it.")
    negative_prompt: str = parameter("", group="Model", help="What it should not paint.")
    steps: int = parameter(30, min=1, max=200, group="Model", help="Denoising steps of a diffusers model.")
    guidance: float = parameter(
        6.0, min=0.0, max=30.0, group="Model", keyable=False, help="How closely a diffusers model follows the prompt."
    )
    strength: float = parameter(
        0.6,
        min=0.05,
        max=1.0,
        group="Model",
        keyable=False,
        help="How freely a video model may repaint made frames; 1 is from nothing.",
    )
    seed: int | None = parameter(
        None,
        kind=Kind.SEED,
        min=0,
        max=2**31 - 1,
        group="Grain",
        help="Start of all chance; empty draws one and records it.",
    )


def in_time(parameters: Parameters) -> bool:
    """Whether missing frames are asked for."""
    return isinstance(parameters, ExtensionParameters) and parameters.mode in ("time", "both")


def in_space(parameters: Parameters) -> bool:
    """Whether a wider picture is asked for."""
    return isinstance(parameters, ExtensionParameters) and parameters.mode in ("space", "both")


def windows(parameters: Parameters, data: Window, display: Window) -> tuple[Window, Window]:
    """Data and display window of what is delivered.

    Overscan widens the data window and leaves the format alone, as OpenEXR means it: percent are of the format's size, rounded
    up, and pixels are added to them. A reframe is a new format, laid over the old one's centre; the data window then covers both it and
    the plate, because the plate's pixels are kept.
    """
    if not in_space(parameters):
        return data, display
    assert isinstance(parameters, ExtensionParameters)
    p = parameters
    if p.format_width is None and p.format_height is None:
        # 1e-9: 12.5 % of 640 is 80, whatever floats make of it.
        across = math.ceil(display.width * p.overscan / 100 - 1e-9)
        down = math.ceil(display.height * p.overscan / 100 - 1e-9)
        wider = Window(
            data.x_min - across - p.left,
            data.y_min - down - p.top,
            data.x_max + across + p.right,
            data.y_max + down + p.bottom,
        )
        return wider, display
    width, height = p.format_width or display.width, p.format_height or display.height
    x = display.x_min + (display.width - width) // 2 + p.shift_x
    y = display.y_min + (display.height - height) // 2 + p.shift_y
    new = Window(x, y, x + width - 1, y + height - 1)
    return covering(data, new), new


def covering(a: Window, b: Window) -> Window:
    """The smallest window round both."""
    return Window(min(a.x_min, b.x_min), min(a.y_min, b.y_min), max(a.x_max, b.x_max), max(a.y_max, b.y_max))


def context_frames(parameters: Parameters) -> int:
    """A wider picture is gathered from far frames; motion alone needs those next to the gap."""
    return SOURCE_REACH if in_space(parameters) else 8


MEASURES = {
    "confidence": CONFIDENCE,
    "coverage": Measure(
        label="Coverage", help="Part of the made pixels that another frame of the plate shows.", better="higher"
    ),
    "seam": Measure(
        label="Seam",
        help="The worst join against the plate, as a part of what is allowed: above 1 it is refused.",
        better="lower",
    ),
    "seam_light": Measure(label="Step in light", help="Step in light across the join, in model space.", better="lower"),
    "seam_shift": Measure(
        label="Shift", help="How far edges miss each other at the join, in pixels of 540 lines.", better="lower"
    ),
    "seam_grain": Measure(
        label="Grain mismatch", help="Grain of the made side against the plate's, in doublings.", better="lower"
    ),
    "made": Measure(label="Made", help="Part of the delivered pixels that the plate doesn't hold.", better="lower"),
}

SHOT_EXTENSION = TaskDefinition(
    name="shot_extension",
    label="Shot extension",
    help="Frames that the cut asks for and the plate hasn't, and a picture wider than the plate, joined to it and measured.",
    parameters=ExtensionParameters,
    runner="pipeline.tasks.shot_extension.runner:ExtensionRunner",
    product="extension",
    fits=True,
    context_frames=context_frames,
    chunk_frames=8,
    memory_mb=2500,
    default_model="mosaic",
    families=("diffusers",),
    extends=in_time,
    windows=windows,
    inspect="pipeline.tasks.shot_extension.intake:check",
    measures=MEASURES,
    bounds={"seam": Bound(most=SEAM_MOST, unless="accept_joins")},
)
