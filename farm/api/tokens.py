"""Tokens over HTTP: made, listed and revoked by an admin. A secret is shown once, when it is made."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from farm.api.common import identity, services
from farm.tokens import Scope
from farm.wire import TokenBody

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])


@router.get("")
async def listing(request: Request) -> list[dict[str, Any]]:
    """The studio's tokens, without their secrets."""
    who = identity(request, Scope.ADMIN)
    found = await asyncio.to_thread(services(request).dispatcher.tokens, who.studio)
    return [token.as_json() for token in found]


@router.post("", status_code=201)
async def create(body: TokenBody, request: Request) -> dict[str, Any]:
    """Make a token of the asker's own studio."""
    who = identity(request, Scope.ADMIN)
    token, secret = await services(request).dispatcher.create_token(
        who.studio, body.name, [Scope(scope) for scope in body.scopes]
    )
    return {**token.as_json(), "token": secret}


@router.post("/{token}/revoke")
async def revoke(token: int, request: Request) -> dict[str, Any]:
    """End a token at once."""
    who = identity(request, Scope.ADMIN)
    await services(request).dispatcher.revoke_token(who.studio, token)
    return {}
