"""Clearances over HTTP: who said yes to what."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from functools import partial
from typing import Any

from fastapi import APIRouter, Request

from farm import clearances
from farm.api.common import Number, identity, services
from farm.tokens import Scope
from farm.wire import ClearanceBody
from pipeline.rules import ClearanceKind

router = APIRouter(prefix="/v1/clearances", tags=["clearances"])


@router.get("")
async def listing(request: Request, show: str | None = None, kind: ClearanceKind | None = None) -> list[dict[str, Any]]:
    """The studio's clearances, withdrawn ones too, oldest first."""
    who = identity(request, Scope.REVIEW)
    shows = None if show is None else [show]
    read = services(request).dispatcher.read
    found = await asyncio.to_thread(
        read, lambda turn: clearances.list_clearances(turn.tx, who.studio, shows=shows, kind=kind)
    )
    return [asdict(one) for one in found]


@router.post("", status_code=201)
async def give(body: ClearanceBody, request: Request) -> dict[str, Any]:
    """Record a yes. Who records it is known by their token; `by` is the name on the paper."""
    who = identity(request, Scope.WRANGLE)
    op = partial(
        clearances.give,
        studio=who.studio,
        kind=body.kind,
        address=(body.show, body.sequence, body.shot),
        by=body.by or who.name,
        recorded_by=who.name,
        reference=body.reference,
        note=body.note,
    )
    return asdict(await services(request).dispatcher.write(op))


@router.post("/{clearance}/withdraw")
async def withdraw(clearance: Number, request: Request) -> dict[str, Any]:
    """End a yes: nothing new goes by it. What was made by it stays as it is."""
    who = identity(request, Scope.WRANGLE)
    op = partial(clearances.withdraw, studio=who.studio, clearance=clearance, by=who.name)
    return asdict(await services(request).dispatcher.write(op))
