"""Presets over HTTP: listed by how they did, saved, taken away."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from fastapi import APIRouter, Request

from farm import presets
from farm.api.common import Number, identity, services
from farm.tokens import Scope
from farm.turn import Turn
from farm.wire import PresetBody

router = APIRouter(prefix="/v1/presets", tags=["presets"])


@router.get("")
async def listing(request: Request, task: str | None = None, show: str | None = None) -> list[dict[str, Any]]:
    """The studio's presets: those whose takes were picked most come first."""
    who = identity(request, Scope.REVIEW)

    def look(turn: Turn) -> list[dict[str, Any]]:
        return [preset.as_json() for preset in presets.listed(turn.tx, who.studio, show=show, task=task)]

    return await asyncio.to_thread(services(request).dispatcher.read, look)


@router.post("", status_code=201)
async def save(body: PresetBody, request: Request) -> dict[str, Any]:
    """Keep parameters under a name: those given, over those of a version where one is named."""
    who = identity(request, Scope.SUBMIT)
    kept = await services(request).dispatcher.write(partial(presets.save, who=who, **body.model_dump()))
    return kept.as_json()


@router.post("/{preset}/delete")
async def delete(preset: Number, request: Request) -> dict[str, Any]:
    """Take a preset away. Who saved it may; a wrangler may with any."""
    who = identity(request, Scope.SUBMIT, Scope.WRANGLE)
    gone = await services(request).dispatcher.write(partial(presets.delete, preset=preset, who=who))
    return gone.as_json()
