"""What the page of a training, a judgement or a replay shows. Pure functions, as `views`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from farm.records import ChunkView, JobDetail
from farm.states import ChunkState, JobKind
from farm.web.cards import ShotTable, measure_of, plain, shot_table
from farm.web.views import Fact, frame_state
from pipeline.errors import PipelineError
from pipeline.jobs.plan import StepName
from pipeline.jobs.training import TrainingSpec
from pipeline.parameters import describe
from pipeline.tasks.registry import task

KIND_WORDS = {
    JobKind.PLATE: "",
    JobKind.REPLAY: "replay",
    JobKind.TRAINING: "training",
    JobKind.SCORING: "judgement",
}
"""A job's badge; a plate's needs none."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk of a training, as a cell of its strip: it does no frames."""

    chunk: int
    step: str
    about: str
    state: str
    fraction: float
    failures: int


def pieces(detail: JobDetail, spec: TrainingSpec) -> tuple[Piece, ...]:
    """The training, each held-out shot, the registration."""
    about = {
        StepName.TRAIN: f"{len(spec.lessons)} version{'' if len(spec.lessons) == 1 else 's'}",
        StepName.REGISTER: spec.name,
    }
    return tuple(
        Piece(
            chunk=chunk.id,
            step=chunk.step,
            about=_shot(spec, chunk) if chunk.step == StepName.SCORE else about.get(StepName(chunk.step), ""),
            state=frame_state(chunk.state),
            fraction=1.0 if chunk.state in (ChunkState.SUCCEEDED, ChunkState.SKIPPED) else chunk.fraction,
            failures=chunk.failures,
        )
        for chunk in detail.chunks
    )


def _shot(spec: TrainingSpec, chunk: ChunkView) -> str:
    return spec.held_out[chunk.index].address if chunk.index < len(spec.held_out) else ""


def scores_so_far(detail: JobDetail, spec: TrainingSpec) -> ShotTable:
    """Every held-out shot with what is known of it by now."""
    try:
        training = task(spec.task).training
    except PipelineError:
        training = None
    measure = "" if training is None else training.measure
    shots: dict[str, tuple[float | None, float | None]] = {one.address: (None, None) for one in spec.held_out}
    states: dict[str, str] = {}
    for chunk in detail.chunks:
        if chunk.step != StepName.SCORE:
            continue
        states[_shot(spec, chunk)] = frame_state(chunk.state)
        found = chunk.result.get("scores", {})
        if found and chunk.state is ChunkState.SUCCEEDED:
            both = [found.get(who, {}).get(measure) for who in ("candidate", "present")]
            shots[str(chunk.result.get("shot", _shot(spec, chunk)))] = (both[0], both[1])
    candidate = spec.name if spec.candidate is None else spec.candidate.label
    return shot_table(
        measure_of(spec.task, measure), shots, candidate=candidate, against=spec.present.label, states=states
    )


def training_parameters(spec: TrainingSpec) -> tuple[Fact, ...]:
    """How it learns, under the labels of its form."""
    try:
        training = task(spec.task).training
        entries = {} if training is None else {e["name"]: e for e in describe(training.parameters)["parameters"]}
    except PipelineError:
        entries = {}
    found = []
    for name, value in spec.parameters.items():
        entry = entries.get(name, {})
        text = f"{'–' if value is None else plain(value)} {entry.get('unit', '')}".strip()
        changed = "default" in entry and entry["default"] != value
        found.append(Fact(str(entry.get("label", name)), text, changed))
    return (*found, Fact("Seed", str(spec.seed)))


def training_facts(spec: TrainingSpec) -> tuple[Fact, ...]:
    """What was asked for."""
    facts = [
        Fact("Model", spec.name if spec.candidate is None else spec.candidate.label),
        Fact("Starts from", "" if spec.candidate is not None else spec.base.card or spec.base.name),
        Fact("Held against", spec.present.label),
        Fact("Licence", spec.licence),
        Fact("Paid by", spec.show),
        Fact("Pool", spec.pool),
        Fact("Note", spec.note),
    ]
    return tuple(fact for fact in facts if fact.value)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay found. `layers`: those that differ, each with its largest difference."""

    bit_equal: bool
    sentence: str
    version: int
    name: str
    frames: str
    layers: tuple[Mapping[str, Any], ...]
    others: tuple[tuple[str, str], ...]
    software: tuple[tuple[str, str, str], ...]


_OTHERS = {
    "missing_frames": "frames that weren't made again",
    "extra_frames": "frames that weren't there",
    "missing_channels": "channels that weren't made again",
    "extra_channels": "channels that weren't there",
    "missing_layers": "layers that weren't made again",
    "extra_layers": "layers that weren't there",
    "types_differ": "channels of another type",
    "windows_differ": "frames with another window",
    "unreadable": "unreadable frames",
}


def replay_result(found: Mapping[str, Any] | None) -> ReplayResult | None:
    """A replay's result, as its last step kept it; None before that."""
    if not found:
        return None
    compared: Mapping[str, Any] = found.get("comparison", {})
    return ReplayResult(
        bit_equal=bool(found["bit_equal"]),
        sentence=str(found["sentence"]),
        version=int(found["version"]),
        name=str(found["name"]),
        frames=str(compared.get("frames", "")),
        layers=tuple(
            layer for layer in compared.get("layers", ()) if layer.get("largest") or layer.get("pixels_differ")
        ),
        others=tuple((words, _told(compared[name])) for name, words in _OTHERS.items() if compared.get(name)),
        software=tuple(
            (str(name), str(was or "absent"), str(now or "absent"))
            for name, (was, now) in found.get("software", {}).items()
        ),
    )


def _told(value: Any) -> str:
    return ", ".join(f"{k} ({v})" for k, v in value.items()) if isinstance(value, Mapping) else str(value)
