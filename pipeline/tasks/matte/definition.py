"""Matte: a roto, a trimap or a screen in; a soft matte and the subject's own colours out."""

from __future__ import annotations

from typing import Literal

from pipeline.parameters import Color, Kind, Parameters, Stroke, parameter
from pipeline.tasks.definition import CONFIDENCE, Measure, TaskDefinition


class MatteParameters(Parameters):
    """What an artist can set for a matte."""

    source: Literal["roto", "trimap", "screen"] = parameter(
        "roto",
        group="Source",
        help="What says where the subject is: a roto, a trimap, or the colour of the screen behind it.",
    )
    roto: str | None = parameter(
        None,
        kind=Kind.MASK,
        group="Source",
        help="Hard or soft mattes of the subject; empty takes the plate's own layer matte. With a trimap it says where the edge is "
        "likely, with a screen what is surely subject and what is surely not.",
    )
    trimap: str | None = parameter(
        None,
        kind=Kind.MASK,
        group="Source",
        help="White is subject, black is background, grey is for the task to find out.",
    )
    screen: Color = parameter(
        (0.06, 0.36, 0.09),
        kind=Kind.COLOR,
        group="Screen",
        help="The screen's colour in the plate, lit as it mostly is.",
    )
    clean_plate: str | None = parameter(
        None,
        kind=Kind.PLATE,
        group="Screen",
        help="The same view without the subject; empty makes one from the screen around.",
    )
    despill: float = parameter(
        1.0,
        min=0.0,
        max=1.0,
        group="Screen",
        help="How much of the screen's light is taken off the subject; 0 takes none.",
    )
    method: Literal["closed_form", "guided"] = parameter(
        "closed_form",
        group="Edge",
        help="How the edge is found: solved for hair, or by a guided filter, which is rougher and takes half the time.",
    )
    edge: float = parameter(
        3.0,
        min=0.5,
        max=64.0,
        unit="px",
        label="Edge width",
        group="Edge",
        help="How wide the soft edge mostly is and how far the roto may be off. Hair is followed to five times as far.",
    )
    detail_strokes: tuple[Stroke, ...] = parameter(
        (),
        kind=Kind.STROKE,
        label="Hair brush",
        group="Edge",
        help="Brush over hair that reaches farther out, or over gaps in it. "
        "Between frames with strokes they move from one to the next; before and after they stay.",
    )
    detail_radius: float = parameter(
        20.0, min=1.0, max=400.0, unit="px", label="Brush radius", group="Edge", help="Radius of the hair brush."
    )
    steady: int = parameter(
        2,
        min=0,
        max=2,
        unit="frames",
        group="Edge",
        help="So many frames on either side steady the edge, moved along the motion; 0 leaves each frame alone.",
    )


MATTE = TaskDefinition(
    name="matte",
    label="Matte",
    help="A roto, a trimap or a screen colour in; soft alpha and clean foreground out, hair and motion blur kept.",
    parameters=MatteParameters,
    runner="pipeline.tasks.matte.runner:MatteRunner",
    product="matte",
    fits=True,
    learns=False,
    context_frames=lambda p: int(getattr(p, "steady", 0)),
    chunk_frames=16,
    memory_mb=2500,
    default_model="matte-closed-form",
    families=("vitmatte", "rvm-onnx"),
    inspect="pipeline.tasks.matte.intake:check",
    measures={
        "confidence": CONFIDENCE,
        "edge": Measure(
            label="Edge alignment", help="How well the matte's edge lies on the picture's, 0 to 1.", better="higher"
        ),
        "coverage": Measure(
            label="Coverage", help="Part of the picture that the subject fills, 0 to 1.", better="higher"
        ),
        "unknown": Measure(
            label="Unknown",
            help="Part of the picture that had to be solved, 0 to 1; rotos and trimaps decide the rest.",
            better="lower",
        ),
        "unsteady": Measure(
            label="Unsteadiness",
            help="How far the edge was from what its neighbours say, moved along the motion: mean difference in the soft edge, 0 to 1.",
            better="lower",
        ),
    },
)
