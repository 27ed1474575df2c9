"""What is asked when a model is to learn, or to be judged: a `TrainingRequest`; and that, checked and complete: a `TrainingSpec`.

A training is a job like any other: it waits in the same queue, is done by the same workers, costs, and can be cancelled. Its
steps are train → score → register; judging a model that is there already leaves out the first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline import __version__
from pipeline.frames import FrameRange
from pipeline.jobs.chunks import Chunk
from pipeline.jobs.plan import Step, StepName
from pipeline.jobs.spec import FaultText, JobSpec, ModelSpec, PlateSpec
from pipeline.tasks.contract import ModelRef

MOST_SHOTS = 1_000
_SCHEMA = "platewright.training/1"
_SCORING = "score_"
"""Parameters of a training whose names begin so say how models are judged."""


class _Text(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainingRequest(_Text):
    """What a person asked for. Only `task` and `name` are a must.

    `versions` are learned from, by name or number; none named: every approved version of the task's products, of `show` alone
    where one is named. `hold_out` are shots, `show/sequence/shot`, set aside from now on to judge by.
    """

    task: str = Field(max_length=64)
    name: str = Field(min_length=1, max_length=64)
    base: str = Field("", max_length=4096, description="a model of the studio to start from; empty for the task's own")
    versions: tuple[str, ...] = Field((), max_length=MOST_SHOTS)
    show: str | None = Field(None, max_length=64)
    hold_out: tuple[str, ...] = Field((), max_length=MOST_SHOTS)
    parameters: dict[str, Any] = Field(default_factory=dict)
    licence: str = Field("", max_length=64)
    note: str = Field("", max_length=4000)
    seed: int = Field(0, ge=0, lt=2**31)
    priority: int = Field(50, ge=0, le=100)
    pool: str = Field("default", pattern=r"^[A-Za-z0-9][A-Za-z0-9.\-]{0,63}$")
    user: str = Field("", max_length=128)


class ScoringRequest(_Text):
    """Judge a model of the studio on the held-out shots, beside the one in production."""

    parameters: dict[str, Any] = Field(default_factory=dict)
    priority: int = Field(50, ge=0, le=100)
    pool: str = Field("default", pattern=r"^[A-Za-z0-9][A-Za-z0-9.\-]{0,63}$")
    user: str = Field("", max_length=128)


class LessonSpec(_Text):
    """A published version to learn from or to judge by: where it lies, and who said that models may learn from it."""

    version: int
    name: str
    show: str
    sequence: str
    shot: str
    product: str
    plate: PlateSpec
    """The version's own frames: picture and what was delivered."""
    picture: PlateSpec | None = None
    """The plate that the version was made of, where the version's own picture may be another; else None."""
    cuts: tuple[int, ...] = ()
    clearance: dict[str, Any] = Field(default_factory=dict)

    @property
    def address(self) -> str:
        """`show/sequence/shot`, the sequence left out where there is none."""
        return "/".join(part for part in (self.show, self.sequence, self.shot) if part)


class AskedLesson(_Text):
    """A version that is to be looked at. `layer`: what every frame must have; empty asks for the picture alone.

    `source`: the plate that it was made of, where the picture is to be had from there; `hashes`: its frames' when it was.
    """

    name: str
    pattern: str
    frames: str
    layer: str
    source: PlateSpec | None = None
    hashes: dict[int, str] = Field(default_factory=dict)


class SeenLesson(_Text):
    """What was found of it: its plate, and that which it was made of where that was asked for; or what is wrong."""

    plate: PlateSpec | None = None
    picture: PlateSpec | None = None
    fault: FaultText | None = None


class AdapterSpec(_Text):
    """Weights that go beside a model, under a parameter's name."""

    path: str
    sha256: str


class JudgedSpec(_Text):
    """Weights as they are judged: a card's, or without one the task's own."""

    card: int | None = None
    label: str
    model: ModelSpec
    adapters: dict[str, AdapterSpec] = Field(default_factory=dict)

    def ref(self) -> ModelRef:
        """What a trainer is given."""
        return ModelRef(
            name=self.model.name,
            path=None if self.model.path is None else Path(self.model.path),
            sha256=self.model.sha256,
            family=self.model.family,
            options={name: adapter.path for name, adapter in self.adapters.items()},
        )

    def files(self) -> Iterable[tuple[Path, str]]:
        """Every file or folder that it is loaded from, with its hash."""
        if self.model.path is not None:
            yield Path(self.model.path), self.model.sha256
        yield from ((Path(adapter.path), adapter.sha256) for adapter in self.adapters.values())


class TrainingSpec(_Text):
    """One training, complete and checked; or with a `candidate` and nothing to learn from, one judgement."""

    schema_: Literal["platewright.training/1"] = Field("platewright.training/1", alias="schema")
    task: str
    studio: str
    show: str
    """Whose budget pays."""
    name: str
    """What the card will be called."""
    base: ModelSpec
    base_card: int | None = None
    lessons: tuple[LessonSpec, ...] = Field((), max_length=MOST_SHOTS)
    held_out: tuple[LessonSpec, ...] = Field(max_length=MOST_SHOTS)
    candidate: JudgedSpec | None = None
    present: JudgedSpec
    """What the candidate is held against, on the same shots in the same job."""
    parameters: dict[str, Any]
    seed: int = 0
    licence: str
    note: str = ""
    priority: int = 50
    pool: str = "default"
    publish_root: str
    models_folder: str
    """Where finished weights go."""
    adapter: str = ""
    """The parameter that takes the weights beside the base; empty where they are the model itself."""
    user: str = ""
    policy: dict[str, Any] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True, serialize_by_alias=True
    )

    @property
    def kind(self) -> str:
        """Of job; see `farm.states.JobKind`."""
        return "training" if self.candidate is None else "scoring"

    @property
    def protocol(self) -> str:
        """A digest of how models are judged: only scores of the same may be compared."""
        facts = {
            "task": self.task,
            "software": __version__,
            "shots": sorted((one.address, one.version) for one in self.held_out),
            # What an adapter reaches is its base's doing too; of other trainings the base is only where they began.
            "base": self.base.sha256 if self.adapter else "",
            "parameters": {n: v for n, v in self.parameters.items() if n.startswith(_SCORING)},
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def plan_training(spec: TrainingSpec) -> tuple[Step, ...]:
    """The steps: train in one chunk, score in one chunk a held-out shot, register. Chunks count shots, where another job's
    count frames."""
    one = FrameRange.span(1, 1)
    steps: list[Step] = []
    before: tuple[StepName, ...] = ()
    if spec.candidate is None:
        steps.append(Step(StepName.TRAIN, 0, [Chunk(0, one, FrameRange())]))
        before = (StepName.TRAIN,)
    shots = [Chunk(i, FrameRange.span(i + 1, i + 1), FrameRange()) for i in range(len(spec.held_out))]
    steps.append(Step(StepName.SCORE, 0, shots, before))
    steps.append(Step(StepName.REGISTER, 0, [Chunk(0, one, FrameRange())], (StepName.SCORE,)))
    return tuple(steps)


AnySpec = JobSpec | TrainingSpec


def read_spec(text: str) -> AnySpec:
    """A kept spec, of whichever kind."""
    if f'"schema":"{_SCHEMA}"' in text[:64]:
        return TrainingSpec.model_validate_json(text)
    return JobSpec.model_validate_json(text)
