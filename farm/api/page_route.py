"""What every page is made with: a route whose errors are pages, and a template with whoever looks at it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from farm.tokens import Identity, Scope
from farm.web.render import render
from pipeline.errors import PipelineError


class PageRoute(APIRoute):
    """A route whose errors are pages as well: people read them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handle = super().get_route_handler()

        async def handle_or_explain(request: Request) -> Response:
            try:
                return await handle(request)
            except PipelineError as error:
                # Imported late: the application is made of these routes.
                from farm.api.app import status_of

                return page(request, "error.html", status_of(error), title=error.message, hint=error.hint)
            except RequestValidationError:
                return page(request, "error.html", 404, title="There is no such page", hint="Look at the address.")

        return handle_or_explain


def page_router() -> APIRouter:
    """A router of pages: not in the schema, its errors are pages."""
    return APIRouter(route_class=PageRoute, include_in_schema=False, default_response_class=HTMLResponse)


def page(request: Request, template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """A template as an answer. Every template knows who looks and what they may."""
    who: Identity | None = request.scope.get("identity")
    may = {f"may_{scope}": bool(who and who.allows(scope)) for scope in (Scope.SUBMIT, Scope.WRANGLE)}
    html = render(
        template,
        user=who.name if who else "",
        studio=who.studio if who else "",
        may_act=any(may.values()),
        csrf=request.scope.get("csrf", ""),
        path=request.url.path,
        **may,
        **values,
    )
    return HTMLResponse(html, status)
