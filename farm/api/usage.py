"""What was spent, over HTTP: by job, show, shot, model, task, person, worker, day or use; and how good estimates were."""

from __future__ import annotations

import asyncio
import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from farm import estimates
from farm import usage as costs
from farm.api.common import identity, services
from farm.tokens import Scope
from farm.turn import Turn
from pipeline.errors import Fault, SubmissionRefused

router = APIRouter(prefix="/v1/usage", tags=["usage"])

RECENT = "30d"
_AGO = re.compile(r"(\d{1,6})([hdw])")
_UNITS = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
Moment = Annotated[str, Query(max_length=40)]
"""Seconds since 1970, a day or a time as ISO 8601 writes it (UTC where it names no zone), `30d`, `12h` or `2w` ago, or `all`."""
Text = Annotated[str | None, Query(max_length=128)]


@router.get("")
async def spent(
    request: Request,
    by: costs.By = "show",
    since: Moment = RECENT,
    until: Moment = "all",
    show: Text = None,
    limit: Annotated[int, Query(ge=1, le=costs.MOST_ROWS)] = costs.MOST_ROWS,
) -> dict[str, Any]:
    """What the studio's work has cost, the dearest first: attempts that began from `since` until before `until`."""
    who = identity(request, Scope.REVIEW)
    dispatcher = services(request).dispatcher

    def look(turn: Turn) -> dict[str, Any]:
        found = costs.usage(
            turn.tx,
            who.studio,
            by=by,
            now=turn.now,
            since=moment(since, turn.now, "since"),
            until=moment(until, turn.now, "until"),
            show=show,
            currency=turn.settings.currency,
            limit=limit,
            book=dispatcher.usage_book,
        )
        return found.as_json()

    return await asyncio.to_thread(dispatcher.read, look)


@router.get("/estimates")
async def accuracy(
    request: Request, since: Moment = RECENT, until: Moment = "all", show: Text = None
) -> list[dict[str, Any]]:
    """How far the estimates were off of jobs that were handed in then: by task, and with an empty `task` of all."""
    who = identity(request, Scope.REVIEW)

    def look(turn: Turn) -> list[dict[str, Any]]:
        begin, end = moment(since, turn.now, "since"), moment(until, turn.now, "until")
        found = estimates.accuracy(turn.tx, who.studio, since=begin, until=end, show=show)
        return [one.as_json() for one in found]

    return await asyncio.to_thread(services(request).dispatcher.read, look)


def moment(said: str, now: float, where: str) -> float | None:
    """Seconds since 1970; None for `all`. Raises: SubmissionRefused."""
    said = said.strip()
    if said in ("", "all"):
        return None
    if ago := _AGO.fullmatch(said):
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    if math.isfinite(seconds):
        return seconds
    try:
        at = datetime.fromisoformat(said)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        hint = "write a day such as 2026-11-22, or 30d, 12h or 2w for so long ago, or all"
        raise SubmissionRefused([Fault(where, f"{said!r} is no time", hint)]) from error
