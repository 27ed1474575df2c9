"""What a task is, light enough for a dispatcher: its name, its parameters, and where its runner lives as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from pipeline.errors import TaskError
from pipeline.parameters import Parameters
from pipeline.plate import Window


class Bound(BaseModel):
    """What a measure must keep to on every frame. A task may have bounds of its own; a show sets others over them.

    `unless` names a bool parameter with which the artist accepts what breaks it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    least: float | None = None
    most: float | None = None
    unless: str = ""

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"the least, {self.least:g}, is above the most, {self.most:g}")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A per-frame number of a report: what it means, and which way is better."""

    label: str
    help: str
    better: Literal["higher", "lower"]


CONFIDENCE = Measure(label="Confidence", help="How sure the model is of the frame, 0 to 1.", better="higher")
"""Every task's: `FrameResult.quality` always has it, under the name `confidence`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingDefinition:
    """How a task learns a studio's look from its own approved versions; see `pipeline.tasks.training`."""

    trainer: str
    """`"package.module:Class"`, loaded only in a session child."""
    parameters: type[Parameters]
    """What a person can set for a training: its form is drawn like the task's own. Those whose names begin with `score_` say
    how models are judged: scores are compared only where they are equal."""
    products: tuple[str, ...]
    """Products whose versions can be learned from. Where a `layer` is learned, the picture of the first is the plate's; that of
    the others is taken from the plate that they were made of."""
    makes: str
    """Family of the weights that come out, as `pipeline.models.facts` names them."""
    measure: str
    """The measure that decides whether a model is better: one of `measures`."""
    measures: Mapping[str, Measure]
    """What a score holds, by name."""
    parameter: str = ""
    """The task's parameter of kind `model` that takes the weights, beside their base; empty where they are the model itself."""
    layer: str = ""
    """Layer that every version must have, such as `matte`; empty where the picture itself is learned."""
    base_families: tuple[str, ...] = ()
    """Families of weights that a training may start from."""
    needs_base: bool = False
    """Whether a base must be named; else the task's own weights are the start."""
    memory_mb: int = 4000
    """What a session may use at most."""
    effort: Callable[[Parameters, int], float] = lambda _, lessons: float(lessons)
    """How much work a training is with so many lessons, in any unit of its own: what an estimate scales by."""
    score_effort: Callable[[Parameters], float] = lambda _: 1.0
    """The same of judging a model on one shot."""

    def __post_init__(self) -> None:
        if self.measure not in self.measures:
            raise TaskError(f"the measure {self.measure!r} that decides is none of {', '.join(self.measures)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDefinition:
    """One kind of work. Importing it costs nothing heavy; `runner` is `"package.module:Class"`, loaded only in a session child."""

    name: str
    label: str
    help: str
    parameters: type[Parameters]
    runner: str
    product: str
    """The published product's name in file names."""
    keys_min: int | None = None
    """How many keyframe mattes there must be at least; None where the task takes none."""
    fits: bool = False
    """Whether a per-shot fit comes before the chunks."""
    context_frames: Callable[[Parameters], int] = lambda _: 0
    """Frames beside a chunk that its runner also reads, on either side."""
    chunk_frames: int = 16
    """Frames a chunk holds unless the submission says otherwise."""
    memory_mb: int = 2500
    """What a session may use at most on an HD plate."""
    default_model: str = ""
    """Identity of the weights that are used when no model is named: warm sessions are matched by it."""
    default_licence: str = ""
    """Licence of those weights, as an SPDX identifier; empty where the task computes without any."""
    families: tuple[str, ...] = ()
    """Families of weights that its runner can load from a path, as `pipeline.models.inspect` names them."""
    key_kind: Literal["matte", "picture"] = "matte"
    """What a keyframe is: a matte of an object, or a painted picture."""
    learns: bool = True
    """Whether what a fit leaves behind decides the frames. One that only shows previews doesn't: then a frame's content key
    hangs on that frame and its context alone, and frames whose neighbours changed need not be made again."""
    extends: Callable[[Parameters], bool] = lambda _: False
    """Whether frames are made that the plate hasn't: then the whole range of the cut is delivered, with its handles."""
    windows: Callable[[Parameters, Window, Window], tuple[Window, Window]] = lambda _, data, display: (data, display)
    """Data and display window of what is delivered, from the plate's two."""
    splines: Callable[[Parameters], float | None] = lambda _: None
    """The intersection over union at which a publish writes the mattes as editable shapes too; None writes none."""
    fit_effort: Callable[[Parameters, int, float], float] = lambda _, frames, megapixels: frames * megapixels
    """How much a fit is to do, in any unit of the task's own, from the parameters, the number of frames and the megapixels of
    each: what a fit takes is estimated by it from what others took."""
    inspect: str = ""
    """`"package.module:function"` that looks at a submission's files for faults of this task's own, loaded only in the child
    that reads them; see `pipeline.tasks.intake.TaskCheck`."""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    """What `FrameResult.quality` holds, by name: what a show may set a bound on."""
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    """Measure → the bound that holds where the show sets none."""
    training: TrainingDefinition | None = None
    """How a studio's own model of the task is made; None where it can't be."""
    stand_in: str = ""
    """Family of weights that do what the task's own do, only better: a studio's production model of it is used wherever no
    model is named. Empty: a studio's model has to be named."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise TaskError(f"task name {self.name!r} must be an identifier")
        module, _, cls = self.runner.partition(":")
        if not module or not cls:
            raise TaskError(f"task {self.name}: runner {self.runner!r} must be 'package.module:Class'")
        if self.default_licence and not self.default_model:
            raise TaskError(f"task {self.name}: default_licence is of no weights", "name them as default_model")
