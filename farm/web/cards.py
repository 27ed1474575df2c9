"""What the pages show of models: rows, scores over time, what each was made from. Pure functions, as `views`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from farm.cards import PRODUCTION, CardView, ScoreView
from farm.promotions import PromotionView
from farm.web.plots import Axis, moment, of_times, of_values, steps
from pipeline.errors import TaskError
from pipeline.tasks.definition import Measure
from pipeline.tasks.registry import task

OWN = "the task's own weights"


def task_label(name: str) -> str:
    """A task in a person's words; its bare name when it isn't installed here."""
    try:
        return task(name).label
    except TaskError:
        return name


def measure_of(task_name: str, name: str) -> Measure:
    """A measure's words; its bare name, higher is better, when its task doesn't know it (any more)."""
    try:
        training = task(task_name).training
    except TaskError:
        training = None
    known: Mapping[str, Measure] = {} if training is None else training.measures
    return known.get(name) or Measure(label=name, help="", better="higher")


# Scores over time


@dataclass(frozen=True, slots=True)
class Dot:
    """A judged candidate."""

    x: float
    y: float
    title: str
    to: str
    promoted: bool
    stale: bool
    """Judged by other shots or on other terms than the newest: not to be compared."""


@dataclass(frozen=True, slots=True)
class Move:
    """A promotion, where it lies in time."""

    x: float
    title: str


@dataclass(frozen=True, slots=True)
class ScorePlot:
    """One task's scores. `lines`: what was in production, as SVG points, one for each stretch that was judged alike."""

    task: str
    label: str
    measure: Measure
    x: Axis
    y: Axis
    dots: tuple[Dot, ...]
    lines: tuple[str, ...]
    moves: tuple[Move, ...]

    @property
    def words(self) -> str:
        """The plot for whoever doesn't see it."""
        return f"{self.measure.label} of {len(self.dots)} judged models of {self.label} over time"


@dataclass(frozen=True, slots=True)
class _Judgement:
    """Both scores of one job."""

    candidate: ScoreView
    present: ScoreView


def _judgements(scores: Sequence[ScoreView]) -> list[_Judgement]:
    """By job, oldest first. `scores` come newest first; of a job the candidate's was kept first."""
    by_job: dict[int, list[ScoreView]] = {}
    for score in reversed(scores):
        by_job.setdefault(score.job, []).append(score)
    return [_Judgement(both[0], both[1]) for both in by_job.values() if len(both) > 1]


def score_plot(
    task_name: str,
    scores: Sequence[ScoreView],
    promotions: Sequence[PromotionView],
    labels: Mapping[int, str],
) -> ScorePlot | None:
    """A task's scores over time, newest first as they are read; None before anything was judged."""
    judged = _judgements(scores)
    if not judged:
        return None
    newest = judged[-1].candidate
    measured = [one for one in judged if one.candidate.measure == newest.measure]
    moved = [p for p in reversed(promotions) if p.alias == PRODUCTION]
    measure = measure_of(task_name, newest.measure)
    x = of_times([*(one.candidate.at for one in measured), *(p.at for p in moved)])
    y = of_values([v for one in measured for v in (one.candidate.value, one.present.value)])
    promoted = {p.model for p in moved}
    return ScorePlot(
        task=task_name,
        label=task_label(task_name),
        measure=measure,
        x=x,
        y=y,
        dots=tuple(
            Dot(
                x=x.place(one.candidate.at),
                y=y.place(one.candidate.value),
                title=_judged_words(one, measure, labels, stale=one.candidate.protocol != newest.protocol),
                to=f"/models/{one.candidate.model}",
                promoted=one.candidate.model in promoted,
                stale=one.candidate.protocol != newest.protocol,
            )
            for one in measured
        ),
        lines=tuple(_lines(measured, moved, x, y)),
        moves=tuple(Move(x.place(p.at), promotion_words(p)) for p in moved),
    )


def _judged_words(one: _Judgement, measure: Measure, labels: Mapping[int, str], *, stale: bool) -> str:
    candidate, present = one.candidate, one.present
    against = OWN if present.model is None else labels.get(present.model, "a model")
    words = (
        f"{labels.get(candidate.model or 0, OWN)}: {measure.label} {candidate.value:.4f}, {against} {present.value:.4f}"
    )
    shots = len(candidate.shots)
    words += f", on {shots} held-out shot{'' if shots == 1 else 's'}, {moment(candidate.at)}"
    return f"{words}; judged by other shots or on other terms than the newest" if stale else words


def _lines(judged: Sequence[_Judgement], moved: Sequence[PromotionView], x: Axis, y: Axis) -> Iterable[str]:
    """What was in production: measured anew in each judgement, and changed by each promotion in between."""
    stretches: list[list[_Judgement]] = []
    for one in judged:
        if not stretches or stretches[-1][-1].candidate.protocol != one.candidate.protocol:
            stretches.append([])
        stretches[-1].append(one)
    for number, stretch in enumerate(stretches):
        begin = stretch[0].candidate.at
        last = number == len(stretches) - 1
        end = x.high if last else stretches[number + 1][0].candidate.at
        known: dict[int | None, float] = {}
        points: list[tuple[float, float]] = []
        happened: list[tuple[float, _Judgement | PromotionView]] = [(one.candidate.at, one) for one in stretch]
        happened += [(p.at, p) for p in moved if begin <= p.at < end]
        for at, what in sorted(happened, key=lambda item: item[0]):
            if isinstance(what, _Judgement):
                known[what.candidate.model] = what.candidate.value
                known[what.present.model] = what.present.value
                points.append((x.place(at), y.place(what.present.value)))
            elif what.model in known:
                points.append((x.place(at), y.place(known[what.model])))
        yield steps(points, until=100.0 if last else x.place(end))


def promotion_words(one: PromotionView) -> str:
    """One change of an alias in a sentence, without its time."""
    to = one.label or OWN
    if one.reason == "rollback":
        return f"{one.task}@{one.alias} went back to {to}, by {one.by}"
    return f"{to} became {one.task}@{one.alias}, by {one.by}: {promotion_reason(one)}"


def promotion_reason(one: PromotionView) -> str:
    """Why: the gain, or the person's words."""
    evidence = one.evidence
    if one.reason == "won" and isinstance(evidence.get("gain"), int | float):
        return f"won by {abs(evidence['gain']):.4f} over {evidence.get('against', 'what was there')}"
    if one.reason == "override":
        lost = f" (without it: {evidence['refused']})" if evidence.get("refused") else ""
        return f"answered for: {evidence.get('said', '')}{lost}"
    if one.reason == "rollback":
        return f"rolled back from {evidence.get('from') or OWN}"
    return one.reason


# Shot by shot


@dataclass(frozen=True, slots=True)
class ShotRow:
    """One held-out shot, both that were judged on it. Bars in percent of the longest; `gain` above 0: the candidate is better."""

    shot: str
    candidate: float | None
    present: float | None
    candidate_bar: float
    present_bar: float
    gain: float | None
    state: str = ""
    """Of the work on it, while there is some."""


@dataclass(frozen=True, slots=True)
class ShotTable:
    """Both models on every held-out shot, and their means."""

    measure: Measure
    candidate: str
    against: str
    rows: tuple[ShotRow, ...]
    mean: ShotRow | None


def shot_table(
    measure: Measure,
    shots: Mapping[str, tuple[float | None, float | None]],
    *,
    candidate: str,
    against: str,
    states: Mapping[str, str] | None = None,
) -> ShotTable:
    """From shot → (candidate, present); None where a value isn't there yet. `states`: shot → state of its work."""
    highest = max((v for both in shots.values() for v in both if v is not None), default=0.0)
    longest = 1.0 if 0 < highest <= 1 else highest

    def row(name: str, mine: float | None, theirs: float | None) -> ShotRow:
        gain = None
        if mine is not None and theirs is not None:
            gain = mine - theirs if measure.better == "higher" else theirs - mine
        bars = [0.0 if v is None or longest <= 0 else round(100 * max(v, 0.0) / longest, 2) for v in (mine, theirs)]
        return ShotRow(name, mine, theirs, bars[0], bars[1], gain, (states or {}).get(name, ""))

    rows = tuple(row(name, *both) for name, both in shots.items())
    whole = [both for both in shots.values() if None not in both]
    mean = None
    if len(rows) > 1 and len(whole) == len(rows):
        mean = row("mean", *(sum(float(both[i] or 0.0) for both in whole) / len(whole) for i in (0, 1)))
    return ShotTable(measure, candidate, against, rows, mean)


def newest_table(card: CardView, scores: Sequence[ScoreView], labels: Mapping[int, str]) -> ShotTable | None:
    """A card's newest judgement, shot by shot: its own, or one that it was held against. `scores` are all of its task."""
    judged = _judgements(scores)[::-1]
    own = [one for one in judged if one.candidate.model == card.id] or [
        one for one in judged if one.present.model == card.id
    ]
    if not own:
        return None
    candidate, present = own[0].candidate, own[0].present
    measure = candidate.measure
    return shot_table(
        measure_of(card.task, measure),
        {
            shot: (found.get(measure), present.shots.get(shot, {}).get(measure))
            for shot, found in candidate.shots.items()
        },
        candidate=labels.get(candidate.model or 0, OWN),
        against=labels.get(present.model or 0, OWN),
    )


# Where it comes from


@dataclass(frozen=True, slots=True)
class Base:
    """One model that another was made from. `to` is empty for weights without a card."""

    label: str
    to: str
    licence: str


def bases(card: CardView, cards: Mapping[int, CardView]) -> tuple[Base, ...]:
    """What a card was made from, nearest first: cards, and in the end the name of the weights that it all began with."""
    found: list[Base] = []
    at: CardView | None = card
    seen: set[int] = set()
    while at is not None and at.id not in seen:
        seen.add(at.id)
        below = None if at.base_model is None else cards.get(at.base_model)
        if below is not None:
            found.append(Base(below.label, f"/models/{below.id}", below.licence))
        elif at.base and at.base != at.label:
            found.append(Base(at.base, "", ""))
        at = below
    return tuple(found)


def lessons(card: CardView, name: str) -> tuple[dict[str, Any], ...]:
    """The `versions` or `held_out` shots of a card's lineage, each with whose consent it had."""
    found = card.lineage.get(name, ())
    return tuple(
        {"consent": {}, "version": None, "name": "", "shot": "", **one} for one in found if isinstance(one, Mapping)
    )


def facts_of_training(card: CardView) -> tuple[tuple[str, str], ...]:
    """What the training said of itself, and how it was set up; nothing for weights that were added."""
    values = {"seed": card.lineage.get("seed"), **card.lineage.get("parameters", {}), **card.facts}
    return tuple(sorted((_named(name), text) for name, value in values.items() if (text := _united(name, value))))


def _named(name: str) -> str:
    return name.removesuffix("_s").replace("_", " ").capitalize()


def _united(name: str, value: Any) -> str:
    if name == "bytes" and isinstance(value, int):
        return f"{value / 1e6:.1f} MB"
    text = plain(value)
    return f"{text} s" if text and name.endswith("_s") else text


def plain(value: Any) -> str:
    """A number in as few digits as tell it; what isn't a single value isn't told."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value) if isinstance(value, int | str) else ""
