"""Which model an alias such as `roto@production` stands for: promoted by a won score or by a named person, and taken back.

Promotions are only ever added: the newest counts, and the history answers who decided what, and why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, literal_column, select, update

from farm.cards import (
    PRODUCTION,
    CardView,
    get_card,
    in_production,
    label_of,
    promotions_of,
    scores,
    tell,
    without_card,
)
from farm.events import Draft, EventKind
from farm.records import Record
from farm.states import MODEL_MOVES, ModelState, check_move
from farm.store import Transaction
from farm.tables import MODEL, PROMOTION
from farm.turn import Turn
from pipeline.errors import NotFoundError, StateError, TaskError
from pipeline.shot import check_name
from pipeline.tasks.registry import task


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
    against = without_card(tx, card) if there is None else there.label
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
    rows = turn.tx.rows(promotions_of(studio, task, alias))
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
    tell(turn, after)
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
        row.id: label_of(row)
        for row in tx.rows(select(MODEL.c.id, MODEL.c.name, MODEL.c.number).where(MODEL.c.studio == studio))
    }
    return tuple(
        PromotionView(
            row.id, row.task, row.alias, row.model, labels.get(row.model, ""), row.by, row.reason,
            json.loads(row.evidence), row.at,
        )
        for row in tx.rows(promotions_of(studio, task, alias))
    )  # fmt: skip
