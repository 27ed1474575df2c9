"""What routes share: the services, and who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Request
from pydantic import Field

from farm.tokens import Identity, Scope

if TYPE_CHECKING:
    from farm.api.app import Services


Number = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""A number that a database can look for, whether it is there or not."""


def services(request: Request) -> Services:
    """The application's services."""
    return cast("Services", request.app.state.services)


def identity(request: Request, *scopes: Scope) -> Identity:
    """Whoever asks, when they have one of these rights. Raises: AuthError."""
    who = cast("Identity", request.scope["identity"])
    if not any(who.allows(scope) for scope in scopes):
        who.require(scopes[0])
    return who
