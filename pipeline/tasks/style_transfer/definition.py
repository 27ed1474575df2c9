"""Style transfer: painted frames or a mood board in, the whole shot in that manner out."""

from __future__ import annotations

from typing import Literal

from pipeline.models.facts import DIFFUSERS, LORA
from pipeline.parameters import Kind, Parameters, parameter
from pipeline.tasks.definition import CONFIDENCE, Measure, TaskDefinition, TrainingDefinition


class StyleParameters(Parameters):
    """What an artist can set for a style transfer."""

    strength: float = parameter(
        1.0, min=0.0, max=1.0, group="Style", help="How much of the style is laid over the plate; 0 leaves the plate."
    )
    mask: str | None = parameter(
        None, kind=Kind.MASK, group="Style", help="Where the style goes: a still or a sequence; empty means everywhere."
    )
    mood: str | None = parameter(
        None,
        kind=Kind.REFERENCE,
        label="Mood board",
        group="Mood",
        help="Pictures whose colours and brushwork are taken where no frame of the shot was painted.",
    )
    palette: float = parameter(
        1.0, min=0.0, max=1.0, group="Mood", keyable=False, help="How far the plate's colours move to the mood board's."
    )
    texture: float = parameter(
        0.7, min=0.0, max=1.0, group="Mood", keyable=False, help="How much of the mood board's brushwork is laid on."
    )
    flow_blend: float = parameter(
        1.0,
        min=0.0,
        max=1.0,
        group="Time",
        help="How much a frame is averaged with its neighbours along the motion: more is steadier, less is crisper.",
    )
    blend_frames: int = parameter(
        2, min=0, max=4, group="Time", help="How many neighbours on either side are averaged."
    )
    search: int = parameter(
        2,
        min=0,
        max=8,
        label="Search passes",
        group="Patches",
        help="How often the search for fitting strokes goes over a frame; 0 takes the strokes where motion leads.",
    )
    reach: int = parameter(
        8, min=1, max=64, unit="px", group="Patches", help="How far strokes are looked for beside where motion leads."
    )
    keep_highlights: bool = parameter(
        True, group="Range", help="Carry over the plate's light above what a painting can hold, instead of clipping it."
    )
    prompt: str = parameter("", group="Model", help="What the picture shall be, for a diffusers model.")
    negative_prompt: str = parameter("", group="Model", help="What it shall not be, for a diffusers model.")
    change: float = parameter(
        0.5,
        min=0.0,
        max=1.0,
        group="Model",
        keyable=False,
        help="How far a diffusers model may go from the plate: 0 repeats it, 1 starts from noise.",
    )
    steps: int = parameter(20, min=1, max=150, group="Model", help="Denoising steps of a diffusers model.")
    guidance: float = parameter(
        7.5, min=0.0, max=30.0, group="Model", keyable=False, help="How strictly a diffusers model follows the prompt."
    )
    model_lines: int = parameter(
        512, min=64, max=1080, unit="px", group="Model", help="Lines of the picture that a diffusers model works on."
    )
    lora: str | None = parameter(
        None, kind=Kind.MODEL, label="LoRA", group="Model", help="The studio's own LoRA for the diffusers model."
    )
    lora_strength: float = parameter(
        1.0, min=0.0, max=2.0, label="LoRA strength", group="Model", keyable=False, help="How much the LoRA counts."
    )
    controlnet: str | None = parameter(
        None,
        kind=Kind.MODEL,
        label="ControlNet",
        group="Model",
        help="A ControlNet for lines: the picture keeps the plate's drawing.",
    )
    control_lines: Literal["canny", "soft"] = parameter(
        "canny", group="Model", help="What the ControlNet is shown: hard lines, or soft edges."
    )
    control_strength: float = parameter(
        0.7, min=0.0, max=2.0, group="Model", keyable=False, help="How much the ControlNet counts."
    )
    seed: int | None = parameter(
        None,
        kind=Kind.SEED,
        min=0,
        max=2**31 - 1,
        group="Style",
        help="Start of all chance in the search and in a model; empty draws one and records it.",
    )


_PROMPT = "a picture in the studio's look"


class StyleTrainingParameters(Parameters):
    """What a person can set when a studio's look is learned."""

    prompt: str = parameter(
        _PROMPT,
        group="Look",
        help="Words that shall bring the look: give the same ones as the prompt where the LoRA is used.",
    )
    iterations: int = parameter(800, min=1, max=100_000, group="Learning", help="How many steps are learned.")
    batch: int = parameter(
        1, min=1, max=64, group="Learning", help="Pictures that each step learns from: more is steadier, and slower."
    )
    learning_rate: float = parameter(
        1e-4, min=1e-7, max=0.1, group="Learning", keyable=False, help="How far a step goes, at its largest."
    )
    rank: int = parameter(
        16, min=1, max=256, group="LoRA", help="How much the LoRA can hold; more also learns the shots by heart sooner."
    )
    alpha: float | None = parameter(
        None,
        min=0.1,
        max=1024.0,
        group="LoRA",
        keyable=False,
        help="How strongly what is learned counts, over the rank; empty takes the rank itself.",
    )
    snr_gamma: float = parameter(
        5.0,
        min=0.0,
        max=100.0,
        label="Min-SNR gamma",
        group="Learning",
        keyable=False,
        help="Most that steps with little noise count for, against those with much; 0 counts all alike.",
    )
    lines: int = parameter(
        512,
        min=64,
        max=2048,
        unit="px",
        group="Pictures",
        help="Lines of the pictures that are learned from: as many as the model will draw on, and no more than they have.",
    )
    frames_a_shot: int = parameter(
        8,
        min=1,
        max=500,
        label="Frames a shot",
        group="Pictures",
        help="How many frames of each shot are learned from, spread evenly over it.",
    )
    flip: bool = parameter(
        True,
        group="Pictures",
        help="Learn from mirrored pictures too; switch off where the look has a left and a right.",
    )
    seed: int | None = parameter(
        None,
        kind=Kind.SEED,
        min=0,
        max=2**31 - 1,
        group="Learning",
        help="Start of all chance in the learning; empty takes the training's own.",
    )
    score_prompt: str = parameter(
        _PROMPT,
        group="Score",
        help="Words that a model is judged with; a LoRA that was learned here is judged with its own prompt instead.",
    )
    score_frames: int = parameter(
        4, min=1, max=200, group="Score", help="Frames of a held-out shot that are judged, spread evenly over it."
    )


STYLE_TRAINING = TrainingDefinition(
    trainer="pipeline.tasks.style_transfer.trainer:LoraTrainer",
    parameters=StyleTrainingParameters,
    products=("style",),
    makes=LORA,
    parameter="lora",
    base_families=(DIFFUSERS,),
    needs_base=True,
    effort=lambda p, _: float(p.iterations * p.batch) if isinstance(p, StyleTrainingParameters) else 1.0,
    memory_mb=10_000,
    measure="denoising_loss",
    measures={
        "denoising_loss": Measure(
            label="Denoising loss",
            help="How far the model is from the noise that was laid over finished frames, over all amounts of noise. It tells how "
            "well the look is known, on one base; not whether a redrawn shot looks right or is steady.",
            better="lower",
        ),
        "loss_fine": Measure(
            label="Loss, fine",
            help="The same over the half of the steps with little noise, where brushwork is decided.",
            better="lower",
        ),
        "loss_coarse": Measure(
            label="Loss, coarse",
            help="The same over the half of the steps with much noise, where palette and forms are decided.",
            better="lower",
        ),
    },
)


STYLE_TRANSFER = TaskDefinition(
    name="style_transfer",
    label="Style transfer",
    help="Painted frames or a mood board in, the whole shot in that manner out, steady in time.",
    parameters=StyleParameters,
    runner="pipeline.tasks.style_transfer.runner:StyleTransferRunner",
    product="style",
    keys_min=0,
    key_kind="picture",
    fits=True,
    context_frames=lambda p: max(1, p.blend_frames) if isinstance(p, StyleParameters) else 1,
    chunk_frames=16,
    memory_mb=2500,
    default_model="patch_synthesis-1",
    families=("diffusers",),
    inspect="pipeline.tasks.style_transfer.intake:check",
    measures={
        "confidence": CONFIDENCE,
        "patch_error": Measure(
            label="Patch error",
            help="How far the strokes' places in the painted frame differ from this one, 0 to 1 of the full range.",
            better="lower",
        ),
        "flicker": Measure(
            label="Flicker",
            help="Mean change against the neighbours along the motion, in model space: the warping error.",
            better="lower",
        ),
        "key_distance": Measure(
            label="Distance to a key",
            help="Frames to the nearest painted frame; -1 where there is none.",
            better="lower",
        ),
        "coverage": Measure(
            label="Coverage", help="Part of the picture that the style changes, 0 to 1.", better="higher"
        ),
    },
    training=STYLE_TRAINING,
)
