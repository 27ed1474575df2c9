"""The pages of the studio's models: all of them with their scores over time, and one with what it was made from."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Request
from fastapi.responses import HTMLResponse

from farm import cards as registry
from farm import promotions as history
from farm.api.common import identity, services
from farm.api.page_route import page, page_router
from farm.cards import CardView
from farm.heldout import held_out
from farm.lessons import text_of
from farm.queries import versions_made_with
from farm.states import ModelState
from farm.tokens import Scope
from farm.turn import Turn
from farm.web import cards as views
from pipeline.errors import TaskError
from pipeline.tasks.registry import task as task_of

router = page_router()
_HISTORY = 30
"""Promotions that a task's history shows."""


@router.get("/models")
async def models(
    request: Request,
    task: Annotated[list[str] | None, Query(max_length=64)] = None,
    state: Annotated[list[ModelState] | None, Query()] = None,
    part: bool = False,
) -> HTMLResponse:
    """The table of model cards under each task's scores; `part` gives only what changes."""
    who = identity(request, Scope.REVIEW)

    def look(turn: Turn) -> dict[str, Any]:
        every = registry.list_cards(turn.tx, who.studio)
        tasks = sorted({card.task for card in every})
        labels = {card.id: card.label for card in every}
        shown = [card for card in every if not task or card.task in task]
        plots = []
        for name in (t for t in tasks if not task or t in task):
            moved = history.promotions(turn.tx, who.studio, name)
            scored = registry.scores(turn.tx, who.studio, name)
            plots.append(
                {
                    "task": name,
                    "label": views.task_label(name),
                    "plot": views.score_plot(name, scored, moved, labels),
                    "held_out": [text_of(shot) for shot in sorted(held_out(turn.tx, who.studio, name))],
                    "history": moved[:_HISTORY],
                    "production": next((m for m in moved if m.alias == registry.PRODUCTION), None),
                }
            )
        return {
            "tasks": plots,
            "cards": [c for c in shown if (c.state in state if state else c.state is not ModelState.RETIRED)],
            "retired": [] if state else [c for c in shown if c.state is ModelState.RETIRED],
            "chips": _chips(every, task or (), state or ()),
            "filtered": bool(task or state),
            "now": turn.now,
        }

    shown = await asyncio.to_thread(services(request).dispatcher.read, look)
    return page(request, "_models_live.html" if part else "models.html", **shown)


def _chips(cards: Sequence[CardView], tasks: Sequence[str], states: Sequence[str]) -> list[dict[str, Any]]:
    """A chip a state and a task: how many there are, whether it is chosen, where a click leads."""
    chosen = [("task", t) for t in tasks] + [("state", str(s)) for s in states]
    chips = [{"kind": "", "label": "all", "count": len(cards), "on": not chosen, "to": "/models"}]
    found = [("state", str(state), sum(c.state is state for c in cards)) for state in ModelState]
    names = sorted({card.task for card in cards})
    found += [("task", name, sum(c.task == name for c in cards)) for name in names]
    for kind, value, count in found:
        pair = (kind, value)
        query = [p for p in chosen if p != pair] if pair in chosen else [*chosen, pair]
        to = "/models" + (f"?{urlencode(query)}" if query else "")
        chips.append({"kind": kind, "label": value, "count": count, "on": pair in chosen, "to": to})
    return chips


@router.get("/models/{ref}")
async def model(ref: str, request: Request, task: str | None = None, part: bool = False) -> HTMLResponse:
    """One card, by any of its names."""
    who = identity(request, Scope.REVIEW)

    def look(turn: Turn) -> dict[str, Any]:
        card = registry.find_card(turn.tx, who.studio, ref, task=task)
        every = {one.id: one for one in registry.list_cards(turn.tx, who.studio, task=card.task)}
        labels = {number: one.label for number, one in every.items()}
        scored = registry.scores(turn.tx, who.studio, card.task)
        moved = history.promotions(turn.tx, who.studio, card.task)
        return {
            "card": card,
            "bases": views.bases(card, every),
            "learned": views.lessons(card, "versions"),
            "held_out": views.lessons(card, "held_out"),
            "training": views.facts_of_training(card),
            "table": views.newest_table(card, scored, labels),
            "scores": [(s, views.measure_of(card.task, s.measure)) for s in scored if s.model == card.id],
            "promotions": [p for p in moved if p.model == card.id],
            "children": [one for one in every.values() if one.base_model == card.id],
            "made": versions_made_with(turn.tx, who.studio, card.sha256),
            "production": registry.in_production(turn.tx, who.studio, card.task),
            "can_learn": _can_learn(card.task),
            "now": turn.now,
        }

    shown = await asyncio.to_thread(services(request).dispatcher.read, look)
    return page(request, "_model_live.html" if part else "model.html", **shown)


def _can_learn(name: str) -> bool:
    """Whether the task is here, and has a way to judge models."""
    try:
        return task_of(name).training is not None
    except TaskError:
        return False
