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

from sqlalchemy import Select, func, insert, literal_column, select, update

from farm.events import Draft, EventKind
from farm.records import Record
from farm.states import MODEL_MOVES, ModelState, check_move
from farm.store import Transaction
from farm.tables import MODEL, PROMOTION, SCORE
from farm.turn import Turn
from pipeline.errors import ModelError, NotFoundError, StateError, TaskError
from pipeline.shot import check_name
from pipeline.tasks.registry import task

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


@dataclass(frozen=True, slots=True)
class PromotionView(Record):
    """One change of an alias. `reason`: `won`, `override` or `rollback`; `evidence` holds the scores, or the person's words."""

    id: int
    task: str
    alias: str
    model: int | None
    label: str
    by: str
    reason: str
    evidence: Mapping[str, Any]
    at: float


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
    mine = (MODEL.c.studio == new.studio) & (MODEL.c.task == new.task) & (MODEL.c.name == new.name)
    same = turn.tx.first(select(MODEL.c.number).where(mine, MODEL.c.sha256 == new.sha256))
    if same is not None:
        raise StateError(f"these weights are {new.name}@v{same.number:03d} already", "nothing needs to be done")
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
    _tell(turn, card)
    return card


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
    """The card that a training made, None before its end and for any other job."""
    found = _cards(tx, studio, select(MODEL).where(MODEL.c.studio == studio, MODEL.c.job == job))
    return found[0] if found else None


def find_card(tx: Transaction, studio: str, text: str, *, task: str | None = None) -> CardView:
    """The card that a text means: `name@v003`, `roto@production`, `sha256:…` (12 signs or more), a card's number, or a name
    alone for its newest card that isn't retired.

    Raises: NotFoundError (none of this studio, or several), StateError (the alias stands for the task's own weights).
    """
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
    name, _, alias = text.partition("@")
    if alias:
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


def paths_of_cards(tx: Transaction, studio: str, texts: Collection[str]) -> set[str]:
    """Those of some texts that are paths of this studio's cards."""
    paths = [text for text in texts if "/" in text or "\\" in text]
    if not paths:
        return set()
    return {row.path for row in tx.rows(select(MODEL.c.path).where(MODEL.c.studio == studio, MODEL.c.path.in_(paths)))}


# Promotion


def promote(turn: Turn, card: CardView, *, alias: str = PRODUCTION, by: str, override: str = "") -> PromotionView:
    """Let an alias stand for a card: it did better on held-out shots than the one that is there, or `by` answers for it.

    Raises: StateError (retired; there already; no score, or a lost one, and no override), ShotNameError (the alias).
    """
    check_name(alias, "alias")
    if card.state is ModelState.RETIRED:
        raise StateError(f"{card.label} is retired", "take it up again first: plates models retire --undo")
    there = in_production(turn.tx, card.studio, card.task, alias)
    if there is not None and there.id == card.id:
        raise StateError(f"{card.task}@{alias} is {card.label} already", "nothing needs to be done")
    evidence = _evidence(turn.tx, card, there)
    if override:
        reason, evidence = "override", {**evidence, "said": override}
    elif "refused" in evidence:
        raise StateError(str(evidence["refused"]), str(evidence["hint"]))
    else:
        reason = "won"
    if card.state is ModelState.CANDIDATE:
        _move(turn, card, ModelState.APPROVED)
    return _point(turn, card.studio, card.task, alias, card, by=by, reason=reason, evidence=evidence)


def _evidence(tx: Transaction, card: CardView, there: CardView | None) -> dict[str, Any]:
    """The two scores that were measured alike, and what speaks against a promotion."""
    against = "the task's own weights" if there is None else there.label
    again = f"measure both: plates models score {card.label}; or answer for it: --override 'WHY'"
    mine = scores(tx, card.studio, card.task, model=card.id)
    if not mine:
        return {
            "refused": f"{card.label} has no score: nobody knows whether it is better than {against}",
            "hint": again,
        }
    newest = mine[0]
    theirs = next(
        (s for s in scores(tx, card.studio, card.task, model=None if there is None else there.id)
         if (s.protocol, s.measure) == (newest.protocol, newest.measure)),
        None,
    )  # fmt: skip
    found: dict[str, Any] = {"candidate": newest.as_json(), "present": None, "against": against}
    if theirs is None:
        return {**found, "refused": f"{card.label} was not measured beside {against} on the same shots", "hint": again}
    found["present"] = theirs.as_json()
    better = _better(card.task, newest.measure)
    gain = newest.value - theirs.value if better == "higher" else theirs.value - newest.value
    found["gain"] = gain
    if gain <= 0:
        words = f"{newest.measure} {newest.value:.4f} against {theirs.value:.4f} of {against}, {better} is better"
        hint = "train on more and other shots; or answer for it: --override 'WHY'"
        return {**found, "refused": f"{card.label} didn't win: {words}", "hint": hint}
    return found


def _better(name: str, measure: str) -> str:
    """Which way of a measure is better. Higher, where its task isn't installed here any more."""
    try:
        training = task(name).training
    except TaskError:
        return "higher"
    known = {} if training is None else training.measures
    return known[measure].better if measure in known else "higher"


def rollback(turn: Turn, studio: str, task: str, *, alias: str = PRODUCTION, by: str) -> PromotionView:
    """Let an alias stand for what it stood for before its newest promotion. Twice in a row goes back two.

    Raises: NotFoundError (nothing was promoted), StateError (it stands as it began, or the one before is retired).
    """
    rows = turn.tx.rows(_promotions(studio, task, alias))
    if not rows:
        raise NotFoundError(f"nothing was promoted to {task}@{alias} yet", "`plates models list` shows what there is")
    # Promotions and rollbacks read as a stack: a rollback takes the newest promotion away.
    stack: list[int | None] = [None]
    for row in reversed(rows):
        if row.reason == "rollback":
            stack.pop()
        else:
            stack.append(row.model)
    if len(stack) < 2:
        raise StateError(
            f"{task}@{alias} stands for the task's own weights, as it began", "there is nothing to go back to"
        )
    before = None if stack[-2] is None else get_card(turn.tx, studio, stack[-2])
    if before is not None and before.state is ModelState.RETIRED:
        raise StateError(f"{task}@{alias} was {before.label} before, which is retired", "promote another model")
    left = get_card(turn.tx, studio, stack[-1]) if stack[-1] is not None else None
    evidence = {"from": None if left is None else left.label}
    return _point(turn, studio, task, alias, before, by=by, reason="rollback", evidence=evidence)


def retire(turn: Turn, card: CardView, *, undo: bool = False) -> CardView:
    """Take a model out of use, or back into it as a candidate.

    Raises: StateError (an alias stands for it; it is retired already, or isn't).
    """
    if not undo and card.aliases:
        raise StateError(
            f"{card.label} is {', '.join(f'{card.task}@{alias}' for alias in card.aliases)}",
            "promote another first, or roll back: plates models rollback",
        )
    if undo and card.state is not ModelState.RETIRED:
        raise StateError(f"{card.label} is not retired", "nothing needs to be done")
    _move(turn, card, ModelState.CANDIDATE if undo else ModelState.RETIRED)
    after = get_card(turn.tx, card.studio, card.id)
    _tell(turn, after)
    return after


def _move(turn: Turn, card: CardView, to: ModelState) -> None:
    check_move(MODEL_MOVES, card.state, to, card.label)
    retired_at = turn.now if to is ModelState.RETIRED else None
    turn.tx.execute(
        update(MODEL)
        .where(MODEL.c.id == card.id, MODEL.c.state == literal_column(f"'{card.state}'"))
        .values(state=to.value, retired_at=retired_at)
    )


def _point(
    turn: Turn,
    studio: str,
    task: str,
    alias: str,
    card: CardView | None,
    *,
    by: str,
    reason: str,
    evidence: Mapping[str, Any],
) -> PromotionView:
    row = turn.tx.first(
        insert(PROMOTION).returning(PROMOTION.c.id),
        {
            "studio": studio,
            "task": task,
            "alias": alias,
            "model": None if card is None else card.id,
            "by": by,
            "reason": reason,
            "evidence": json.dumps(evidence),
            "at": turn.now,
        },
    )
    assert row is not None  # INSERT … RETURNING
    data = {"task": task, "alias": alias, "model": None if card is None else card.label, "reason": reason}
    turn.tx.tell(Draft(EventKind.MODEL, studio, None, data))
    label = "" if card is None else card.label
    of_card = None if card is None else card.id
    return PromotionView(int(row.id), task, alias, of_card, label, by, reason, evidence, turn.now)


def promotions(
    tx: Transaction, studio: str, task: str | None = None, alias: str | None = None
) -> tuple[PromotionView, ...]:
    """Every change of the studio's aliases, newest first."""
    labels = {
        row.id: _label(row)
        for row in tx.rows(select(MODEL.c.id, MODEL.c.name, MODEL.c.number).where(MODEL.c.studio == studio))
    }
    return tuple(
        PromotionView(
            row.id, row.task, row.alias, row.model, labels.get(row.model, ""), row.by, row.reason,
            json.loads(row.evidence), row.at,
        )
        for row in tx.rows(_promotions(studio, task, alias))
    )  # fmt: skip


def _promotions(studio: str, task: str | None, alias: str | None) -> Select[Any]:
    statement = select(PROMOTION).where(PROMOTION.c.studio == studio)
    if task is not None:
        statement = statement.where(PROMOTION.c.task == task)
    if alias is not None:
        statement = statement.where(PROMOTION.c.alias == alias)
    return statement.order_by(PROMOTION.c.id.desc())


def _newest_promotion(studio: str, task: str, alias: str) -> Select[Any]:
    return _promotions(studio, task, alias).limit(1)


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
            label=_label(row),
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


def _label(row: Any) -> str:
    return f"{row.name}@v{row.number:03d}"


def _no_model(text: str) -> NotFoundError:
    return NotFoundError(f"no model is called {text!r}", "`plates models list` shows what there is")


def _tell(turn: Turn, card: CardView) -> None:
    data = {"model": card.label, "task": card.task, "state": card.state}
    turn.tx.tell(Draft(EventKind.MODEL, card.studio, card.job, data))
