"""Model cards: what weights a studio has, how they were judged, and which of them is in production.

A card is named `name@v003`; an alias of a task, `roto@production`, stands for the card that was promoted to it last. Neither
promotions nor scores are ever changed: the newest counts, and the history answers who decided what, and why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, func, insert, select

from farm.events import Draft, EventKind
from farm.records import Record
from farm.states import JobKind, ModelState
from farm.store import Transaction
from farm.tables import JOB, MODEL, PROMOTION, SCORE
from farm.turn import Turn
from pipeline.errors import ModelError, NotFoundError, StateError
from pipeline.models.facts import LORA
from pipeline.shot import check_name

PRODUCTION = "production"
"""The alias that stands for a task's model where none is named."""
MOST_LISTED = 500
_LABEL = re.compile(r"(?P<name>[^@]+)@v(?P<number>\d{3,4})")
_DIGEST = re.compile(r"sha256:(?P<hex>[0-9a-f]{12,64})")


@dataclass(frozen=True, slots=True)
class ScoreView(Record):
    """How weights did on held-out shots. `model` None: the task's own weights. `shots`: address → measure → value."""

    model: int | None
    job: int
    protocol: str
    measure: str
    value: float
    shots: Mapping[str, Mapping[str, float]]
    at: float


@dataclass(frozen=True, slots=True)
class CardView(Record):
    """A model card."""

    id: int
    studio: str
    task: str
    name: str
    number: int
    label: str
    state: ModelState
    family: str
    sha256: str
    path: str
    base: str
    base_model: int | None
    licence: str
    job: int | None
    lineage: Mapping[str, Any]
    facts: Mapping[str, Any]
    note: str
    created_by: str
    created_at: float
    retired_at: float | None
    aliases: tuple[str, ...] = ()
    score: ScoreView | None = None
    """The newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCard:
    """What a card is made of."""

    studio: str
    task: str
    name: str
    family: str
    sha256: str
    path: str
    base: str
    licence: str
    created_by: str
    base_model: int | None = None
    job: int | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def add_card(turn: Turn, new: NewCard, *, tasks: Collection[str] = ()) -> CardView:
    """Keep a card, under the next number of its name. `tasks`: names that aliases go by, which no model may have.

    Raises: ShotNameError (the name can't be used), ModelError (it is a task's), StateError (these weights have a card of this
    name already).
    """
    check_name(new.name, "model")
    if new.name in tasks:
        raise ModelError(f"a model can't be called {new.name!r}: that is a task", "give it a name of its own")
    if (same := same_card(turn.tx, new)) is not None:
        raise StateError(f"these weights are {same.label} already", "nothing needs to be done")
    mine = _of_name(new)
    highest = turn.tx.first(select(func.max(MODEL.c.number)).where(mine))
    row = turn.tx.first(
        insert(MODEL).returning(MODEL.c.id),
        {
            "studio": new.studio,
            "task": new.task,
            "name": new.name,
            "number": ((highest[0] if highest else 0) or 0) + 1,
            "state": ModelState.CANDIDATE,
            "family": new.family,
            "sha256": new.sha256,
            "path": new.path,
            "base": new.base,
            "base_model": new.base_model,
            "licence": new.licence,
            "job": new.job,
            "lineage": json.dumps(new.lineage),
            "facts": json.dumps(new.facts),
            "note": new.note,
            "created_by": new.created_by,
            "created_at": turn.now,
        },
    )
    assert row is not None  # INSERT … RETURNING
    card = get_card(turn.tx, new.studio, int(row.id))
    tell(turn, card)
    return card


def _of_name(new: NewCard) -> ColumnElement[bool]:
    return (MODEL.c.studio == new.studio) & (MODEL.c.task == new.task) & (MODEL.c.name == new.name)


def same_card(tx: Transaction, new: NewCard) -> CardView | None:
    """The card of this name that these very weights have already."""
    found = _cards(tx, new.studio, select(MODEL).where(_of_name(new), MODEL.c.sha256 == new.sha256))
    return found[0] if found else None


def list_cards(
    tx: Transaction, studio: str, *, task: str | None = None, name: str | None = None, retired: bool = True
) -> tuple[CardView, ...]:
    """The studio's cards, newest first."""
    statement = select(MODEL).where(MODEL.c.studio == studio)
    if task is not None:
        statement = statement.where(MODEL.c.task == task)
    if name is not None:
        statement = statement.where(MODEL.c.name == name)
    if not retired:
        statement = statement.where(MODEL.c.state != ModelState.RETIRED.value)
    return _cards(tx, studio, statement.order_by(MODEL.c.id.desc()).limit(MOST_LISTED))


def get_card(tx: Transaction, studio: str, card: int) -> CardView:
    """One card by its number. Raises: NotFoundError, also for another studio's."""
    found = _cards(tx, studio, select(MODEL).where(MODEL.c.studio == studio, MODEL.c.id == card))
    if not found:
        raise _no_model(str(card))
    return found[0]


def card_of_job(tx: Transaction, studio: str, job: int) -> CardView | None:
    """The card that a training made, None before its end and for any other job. Where an equal training was there before,
    it is that one's: the same weights have one card."""
    made = select(SCORE.c.model).join(JOB, JOB.c.id == SCORE.c.job)
    # Of a job's two scores the candidate's is kept first.
    row = tx.first(
        made.where(SCORE.c.job == job, JOB.c.studio == studio, JOB.c.kind == JobKind.TRAINING.value)
        .order_by(SCORE.c.id)
        .limit(1)
    )
    return None if row is None else get_card(tx, studio, row.model)


def find_card(tx: Transaction, studio: str, text: str, *, task: str | None = None) -> CardView:
    """The card that a text means: `name@v003`, `roto@production`, `sha256:…` (12 signs or more), a card's number, or a name
    alone for its newest card that isn't retired.

    Raises: NotFoundError (none of this studio, or several), StateError (the alias stands for the task's own weights).
    """
    if "\x00" in text:
        raise _no_model(text)  # no name holds one, and PostgreSQL can't even be asked
    if text.isascii() and text.isdigit() and len(text) < 18:
        return get_card(tx, studio, int(text))
    mine = select(MODEL).where(MODEL.c.studio == studio)
    if task is not None:
        mine = mine.where(MODEL.c.task == task)
    if found := _DIGEST.fullmatch(text):
        cards = _cards(tx, studio, mine.where(MODEL.c.sha256.startswith(found["hex"])).order_by(MODEL.c.id.desc()))
        if len({card.sha256 for card in cards}) > 1:
            raise NotFoundError(f"several models begin with {text}", "give more of the digest")
        return _only(cards[:1], text)
    if found := _LABEL.fullmatch(text):
        named = mine.where(MODEL.c.name == found["name"], MODEL.c.number == int(found["number"]))
        return _only(_cards(tx, studio, named), text)
    name, at, alias = text.partition("@")
    if at:
        if task is not None and name != task:
            raise _no_model(text)
        return _promoted(tx, studio, name, alias)
    newest = mine.where(MODEL.c.name == name, MODEL.c.state != ModelState.RETIRED.value)
    cards = _cards(tx, studio, newest.order_by(MODEL.c.id.desc()))
    return _only(cards if len({card.task for card in cards}) > 1 else cards[:1], text)


def _only(cards: Sequence[CardView], text: str) -> CardView:
    if len(cards) > 1:
        said = ", ".join(sorted(f"{card.task}: {card.label}" for card in cards))
        raise NotFoundError(f"{text} may be any of {said}", "name its task too")
    if not cards:
        raise _no_model(text)
    return cards[0]


def _promoted(tx: Transaction, studio: str, task: str, alias: str) -> CardView:
    rows = tx.rows(_newest_promotion(studio, task, alias))
    if not rows:
        raise NotFoundError(f"nothing was promoted to {task}@{alias} yet", "`plates models list` shows what there is")
    if rows[0].model is None:
        raise StateError(f"{task}@{alias} stands for the task's own weights", "leave the model out, or name another")
    return get_card(tx, studio, rows[0].model)


def in_production(tx: Transaction, studio: str, task: str, alias: str = PRODUCTION) -> CardView | None:
    """The card that an alias stands for; None where that is the task's own weights."""
    rows = tx.rows(_newest_promotion(studio, task, alias))
    return None if not rows or rows[0].model is None else get_card(tx, studio, rows[0].model)


def cards_of_digests(
    tx: Transaction, studio: str, digests: Collection[str]
) -> tuple[dict[str, CardView], frozenset[str]]:
    """Which of some weights have a card here, by hash (the newest card counts), and which have one elsewhere alone."""
    if not digests:
        return {}, frozenset()
    rows = tx.rows(select(MODEL.c.id, MODEL.c.studio, MODEL.c.sha256).where(MODEL.c.sha256.in_(list(digests))))
    own = {row.sha256: int(row.id) for row in sorted(rows, key=lambda row: int(row.id)) if row.studio == studio}
    cards = {digest: get_card(tx, studio, card) for digest, card in own.items()}
    return cards, frozenset(row.sha256 for row in rows) - own.keys()


def trained_elsewhere(tx: Transaction, studio: str, digest: str) -> bool:
    """Whether another studio's training made these weights: they are its alone, wherever a copy lies."""
    made = select(MODEL.c.id).where(MODEL.c.sha256 == digest, MODEL.c.studio != studio, MODEL.c.job.is_not(None))
    return tx.first(made.limit(1)) is not None


def paths_of_cards(tx: Transaction, studio: str, texts: Collection[str]) -> dict[str, str]:
    """Those of some texts that are paths of this studio's cards, each with the hash that its newest card tells."""
    paths = [text for text in texts if "/" in text or "\\" in text]
    if not paths:
        return {}
    mine = select(MODEL.c.path, MODEL.c.sha256).where(MODEL.c.studio == studio, MODEL.c.path.in_(paths))
    return {row.path: row.sha256 for row in tx.rows(mine.order_by(MODEL.c.id))}


def promotions_of(studio: str, task: str | None, alias: str | None) -> Select[Any]:
    """The rows of a studio's promotions, newest first."""
    statement = select(PROMOTION).where(PROMOTION.c.studio == studio)
    if task is not None:
        statement = statement.where(PROMOTION.c.task == task)
    if alias is not None:
        statement = statement.where(PROMOTION.c.alias == alias)
    return statement.order_by(PROMOTION.c.id.desc())


def _newest_promotion(studio: str, task: str, alias: str) -> Select[Any]:
    return promotions_of(studio, task, alias).limit(1)


# Scores


def add_score(turn: Turn, studio: str, task: str, score: ScoreView) -> None:
    """Keep how weights did."""
    turn.tx.execute(
        insert(SCORE),
        {
            "studio": studio,
            "task": task,
            "model": score.model,
            "job": score.job,
            "protocol": score.protocol,
            "measure": score.measure,
            "value": score.value,
            "shots": json.dumps(score.shots),
            "at": turn.now,
        },
    )


_ANY = object()


def scores(tx: Transaction, studio: str, task: str, *, model: object = _ANY) -> tuple[ScoreView, ...]:
    """How models did, newest first; of one `model`, or with None of the task's own weights."""
    statement = select(SCORE).where(SCORE.c.studio == studio, SCORE.c.task == task)
    if model is not _ANY:
        statement = statement.where(SCORE.c.model.is_(None) if model is None else SCORE.c.model == model)
    return tuple(_score(row) for row in tx.rows(statement.order_by(SCORE.c.id.desc()).limit(MOST_LISTED)))


def without_card(tx: Transaction, card: CardView) -> str:
    """What a card is held against where nothing was promoted: its base alone for a LoRA, else what comes with the task."""
    if card.family == LORA and card.base_model is not None:
        return f"{get_card(tx, card.studio, card.base_model).label} alone"
    return "the task's own weights"


def judged(tx: Transaction, card: CardView) -> list[dict[str, Any]]:
    """A card's scores, newest first, each with what was judged `beside` it in the same job: its label, value and shots."""
    every = scores(tx, card.studio, card.task)
    others = {score.job: score for score in every if score.model != card.id}
    found = []
    for score in (score for score in every if score.model == card.id):
        other = others.get(score.job)
        beside = None
        if other is not None:
            label = without_card(tx, card) if other.model is None else get_card(tx, card.studio, other.model).label
            beside = {"label": label, "value": other.value, "shots": other.shots}
        found.append({**score.as_json(), "beside": beside})
    return found


def _score(row: Any) -> ScoreView:
    return ScoreView(row.model, row.job, row.protocol, row.measure, row.value, json.loads(row.shots), row.at)


# Rows as records


def _cards(tx: Transaction, studio: str, statement: Select[Any]) -> tuple[CardView, ...]:
    rows = tx.rows(statement)
    if not rows:
        return ()
    numbers = [row.id for row in rows]
    newest: dict[int, ScoreView] = {}
    for row in tx.rows(select(SCORE).where(SCORE.c.model.in_(numbers)).order_by(SCORE.c.id)):
        newest[row.model] = _score(row)
    aliases: dict[tuple[str, str], int | None] = {}
    for row in tx.rows(select(PROMOTION).where(PROMOTION.c.studio == studio).order_by(PROMOTION.c.id)):
        aliases[row.task, row.alias] = row.model
    return tuple(
        CardView(
            **{name: getattr(row, name) for name in _PLAIN},
            label=label_of(row),
            state=ModelState(row.state),
            lineage=json.loads(row.lineage),
            facts=json.loads(row.facts),
            aliases=tuple(sorted(a for (task, a), model in aliases.items() if model == row.id and task == row.task)),
            score=newest.get(row.id),
        )
        for row in rows
    )


_PLAIN = (
    "id", "studio", "task", "name", "number", "family", "sha256", "path", "base", "base_model", "licence", "job", "note",
    "created_by", "created_at", "retired_at",
)  # fmt: skip


def label_of(row: Any) -> str:
    """`name@v003`."""
    return f"{row.name}@v{row.number:03d}"


def _no_model(text: str) -> NotFoundError:
    return NotFoundError(f"no model is called {text!r}", "`plates models list` shows what there is")


def tell(turn: Turn, card: CardView) -> None:
    """Tell listeners of a card."""
    data = {"model": card.label, "task": card.task, "state": card.state}
    turn.tx.tell(Draft(EventKind.MODEL, card.studio, card.job, data))
