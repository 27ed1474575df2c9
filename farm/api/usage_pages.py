"""The page of costs: what a period took, by day and by everything that it can be told apart by; budgets; how good estimates were."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import HTMLResponse

from farm import estimates
from farm import usage as costs
from farm.api.common import identity, services
from farm.api.page_route import page, page_router
from farm.api.usage import moment
from farm.cards import list_cards
from farm.gate import usage_of
from farm.rules import read_rules
from farm.tokens import Identity, Scope
from farm.turn import Turn
from farm.web import spending
from pipeline.errors import PipelineError

router = page_router()
PERIODS = ("7d", "30d", "90d", "all")
TABLES: tuple[costs.By, ...] = ("show", "shot", "task", "model", "user", "worker")
_MOST_BUDGETS = 40
"""Shows whose budgets are looked at: those that cost most."""


@router.get("/usage")
async def usage(
    request: Request, since: str = "30d", more: Annotated[str, Query(max_length=16)] = "", part: bool = False
) -> HTMLResponse:
    """What the studio's work has cost; `more` names a table that is shown whole. `part` gives only what changes."""
    who = identity(request, Scope.REVIEW)
    period = since if since in PERIODS else "30d"
    shown = await asyncio.to_thread(services(request).dispatcher.read, lambda turn: _look(turn, who, period, more))
    return page(request, "_usage_live.html" if part else "usage.html", **shown)


def _look(turn: Turn, who: Identity, period: str, more: str) -> dict[str, Any]:
    settings = turn.settings
    begin = moment(period, turn.now, "since")

    def table(by: costs.By, *, show: str | None = None, limit: int = costs.MOST_ROWS) -> costs.UsageTable:
        return costs.usage(
            turn.tx, who.studio, by=by, now=turn.now, since=begin, show=show, currency=settings.currency, limit=limit
        )

    tables = {by: table(by, limit=costs.MOST_ROWS if by == more else spending.MOST_LINES) for by in TABLES}
    days = table("day")
    cards = {card.sha256[:12]: (card.id, card.label) for card in list_cards(turn.tx, who.studio)[::-1]}
    shows = [row.key for row in tables["show"].rows][: spending.MOST_SHOWS]
    by_show = {show: table("day", show=show) for show in shows}
    first = None if begin is None else spending.day_of(begin)
    total = days.total
    return {
        "period": period,
        "periods": PERIODS,
        "total": total,
        "currency": settings.currency,
        "priced": settings.machine_hour > 0 or settings.gpu_hour > 0 or total.money > 0,
        "days": spending.day_plot(days, by_show, first=first, last=spending.day_of(turn.now)),
        "tables": [
            {"by": by, "rows": spending.shares(found, cards), "more": found.more, "whole": by == more}
            for by, found in tables.items()
        ],
        "accuracy": estimates.accuracy(turn.tx, who.studio, since=begin),
        "budgets": _budgets(turn, who.studio),
        "rules": settings.rules is not None,
        "now": turn.now,
    }


def _budgets(turn: Turn, studio: str) -> list[dict[str, Any]]:
    """Each show with its budgets, or with why its rules can't be read."""
    every = costs.usage(turn.tx, studio, by="show", now=turn.now, limit=_MOST_BUDGETS)
    found: list[dict[str, Any]] = []
    for show in (row.key for row in every.rows if row.key):
        try:
            rules = read_rules(turn.settings.rules, studio, show)
            used = usage_of(turn, rules, turn.settings, studio=studio, show=show, estimate=None)
            lines = spending.budget_lines(show, rules, used)
            if lines:
                found.append({"show": show, "lines": lines, "fault": "", "hint": ""})
        except PipelineError as error:
            found.append({"show": show, "lines": (), "fault": error.message, "hint": error.hint})
    return found
