"""Roto: keyframe mattes in, a matte on every frame out."""

from __future__ import annotations

from pipeline.parameters import Box, Kind, Parameters, Point, Stroke, parameter
from pipeline.tasks.definition import Measure, TaskDefinition, TrainingDefinition


class RotoParameters(Parameters):
    """What an artist can set for a roto."""

    iterations: int = parameter(
        500,
        min=0,
        max=5000,
        group="Fit",
        help="How long the shot's own net learns from the keys; 0 gives an instant result: a studio model's, else flow's.",
    )
    edge_refine: bool = parameter(
        True, affects="frames", group="Edge", help="Follow the plate's own edges at full resolution."
    )
    feather: float = parameter(
        0.0, min=0.0, max=64.0, unit="px", group="Edge", help="Soften the matte's edge by this much."
    )
    islands: bool = parameter(
        True, affects="frames", group="Clean-up", help="Drop small pieces that neither the keys nor the motion explain."
    )
    invert: bool = parameter(False, affects="frames", group="Edge", help="Give the background instead of the subject.")
    prompt_frame: int | None = parameter(
        None, group="Prompts", help="The frame that the points and the box are on; empty takes the first."
    )
    points: tuple[Point, ...] = parameter(
        (), kind=Kind.POINTS, unit="px", group="Prompts", help="Points inside the object, in place of a painted matte."
    )
    points_off: tuple[Point, ...] = parameter(
        (), kind=Kind.POINTS, unit="px", group="Prompts", help="Points that do not belong to the object."
    )
    box: Box | None = parameter(
        None, kind=Kind.BOX, unit="px", group="Prompts", help="A box drawn closely round the object."
    )
    strokes: tuple[Stroke, ...] = parameter(
        (), kind=Kind.STROKE, unit="px", group="Prompts", help="Strokes inside the object, on any frames."
    )
    splines: bool = parameter(
        False,
        affects="report",
        group="Splines",
        help="Write the mattes as editable shapes too, for Nuke, Blender and as SVG, beside the frames.",
    )
    spline_accuracy: float = parameter(
        0.95,
        min=0.8,
        max=0.995,
        keyable=False,
        affects="report",
        group="Splines",
        help="How well the shapes must cover the matte on every frame, as intersection over union; higher takes more keys.",
    )
    seed: int | None = parameter(
        None,
        kind=Kind.SEED,
        min=0,
        max=2**31 - 1,
        group="Fit",
        help="Start of all chance in the fit; empty draws one and records it.",
    )


class RotoTrainingParameters(Parameters):
    """What a person can set for a studio's own roto net."""

    iterations: int = parameter(
        1500,
        min=1,
        max=200_000,
        group="Training",
        help="How long the net learns, in samples; more shots want more.",
    )
    frames_a_shot: int = parameter(
        24,
        min=2,
        max=200,
        group="Training",
        help="Frames of each shot that are learned from, spread evenly; many shots teach more than many frames.",
    )
    score_iterations: int = parameter(
        100,
        min=0,
        max=5000,
        group="Score",
        help="Steps of the fit on a held-out shot before it is measured; 0 measures the net as it is.",
    )
    score_frames: int = parameter(
        60, min=3, max=1000, group="Score", help="Frames of a held-out shot that are measured at most."
    )


ROTO = TaskDefinition(
    name="roto",
    label="Roto",
    help="Mattes on a few frames in, or points and a box; a matte on every frame out, with a confidence per frame and the next "
    "frame worth painting.",
    parameters=RotoParameters,
    runner="pipeline.tasks.roto.runner:RotoRunner",
    product="roto",
    keys_min=0,
    fits=True,
    # The flow of two frames takes about half as long as a step of the net.
    fit_effort=lambda p, frames, _: (p.iterations if isinstance(p, RotoParameters) else 0) + 0.5 * frames,
    # Each frame is held against the one on either side, where a net answers: a studio's own does without a fit too.
    context_frames=lambda _: 1,
    chunk_frames=12,
    memory_mb=2500,
    default_model="efficientnet-lite0",
    default_licence="Apache-2.0",
    splines=lambda p: p.spline_accuracy if isinstance(p, RotoParameters) and p.splines else None,
    families=("net", "sam2", "saliency-onnx"),
    inspect="pipeline.tasks.roto.intake:check",
    training=TrainingDefinition(
        trainer="pipeline.tasks.roto.trainer:RotoTrainer",
        parameters=RotoTrainingParameters,
        products=("roto", "matte"),
        makes="net",
        # Reading a shot takes about as long as thirty steps; judging one is two fits, and their frames twice.
        effort=lambda p, lessons: (p.iterations if isinstance(p, RotoTrainingParameters) else 0) + 30.0 * lessons,
        score_effort=lambda p: (
            2.0 * (p.score_iterations + p.score_frames) if isinstance(p, RotoTrainingParameters) else 1.0
        ),
        measure="jf",
        measures={
            "jf": Measure(label="J&F", help="Overlap and contour, mean of one key and three.", better="higher"),
            "jf_1": Measure(label="J&F, 1 key", help="With the first frame painted.", better="higher"),
            "jf_3": Measure(label="J&F, 3 keys", help="With first, middle and last frame painted.", better="higher"),
            "worst": Measure(label="Worst J", help="Overlap on the worst frame of both.", better="higher"),
        },
        layer="matte",
        base_families=("net",),
    ),
    stand_in="net",
)
