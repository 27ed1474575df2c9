"""The tables of jobs and workers, and how a browser comes in. The other pages have modules of their own."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.staticfiles import StaticFiles

from farm.api import job_pages, model_pages, usage_pages
from farm.api.auth import COOKIE, COOKIE_LIFE_S
from farm.api.common import Number, identity, services
from farm.api.headers import PageHeaders
from farm.api.page_route import page, page_router
from farm.records import JobFilter, JobView
from farm.states import JobState
from farm.tokens import Scope
from farm.web import views
from farm.web.render import DOOR_POLICY, STATIC, door
from pipeline import __version__
from pipeline.errors import PathError

PAGE_JOBS = 100
SEARCHED_JOBS = 1_000
"""A search looks through so many of the newest jobs."""
_LOCAL = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")


router = APIRouter(tags=["pages"])
_pages = page_router()


def mount_static(app: FastAPI) -> None:
    """Serve the pages' scripts and styles, and put the headers on every answer."""
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(PageHeaders)


# How a browser comes in


class TicketBody(BaseModel):
    """Where a ticket leads to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: str = Field("/jobs", max_length=2048)


def local_path(text: str) -> str:
    """A path on this dispatcher, and nothing that a browser could read as another host. Raises: PathError."""
    if not _LOCAL.fullmatch(text):
        raise PathError(f"{text!r} is not a page of this dispatcher", "name a path such as /jobs/3")
    return text


@router.post("/v1/tickets")
async def ticket(body: TicketBody, request: Request) -> dict[str, str]:
    """A path that opens the page once, for whoever asks with a token."""
    who = identity(request, Scope.REVIEW)
    to = local_path(body.to)
    return {"path": f"/enter?ticket={services(request).door.ticket(who)}&to={quote(to, safe='')}"}


@_pages.get("/enter")
async def enter(request: Request, ticket: str = "", to: str = "/jobs") -> Response:
    """Spend a ticket: a cookie, and on to the page."""
    try:
        path = local_path(to)
    except PathError as error:
        return _closed(error.message)
    cookie = services(request).door.redeem(ticket)
    if cookie is None:
        return _closed("This link has been used, or is more than ten minutes old.")
    response = RedirectResponse(path, 303)
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=COOKIE_LIFE_S,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


def _closed(message: str) -> HTMLResponse:
    closed = door("The door is closed", message, "For a new link run")
    return HTMLResponse(closed, 403, headers={"Content-Security-Policy": DOOR_POLICY})


# What programs ask


@router.get("/healthz")
async def healthz() -> dict[str, Any]:
    """Whether the dispatcher is up. Open to everyone, and says nothing else."""
    return {"ok": True, "version": __version__}


@router.get("/v1/status")
async def status(request: Request) -> dict[str, Any]:
    """How the dispatcher is doing."""
    who = identity(request, Scope.REVIEW)
    here = services(request)
    counts = await asyncio.to_thread(here.dispatcher.counts, who.studio)
    database = "postgresql" if here.settings.database_url.startswith("postgresql") else "sqlite"
    return {"version": __version__, "database": database, **counts.as_json()}


# The pages. Each route reads what it shows in a thread, and asks `farm.web.views` what to make of it.


@_pages.get("/")
async def root() -> Response:
    """To the jobs."""
    return RedirectResponse("/jobs", 303)


@_pages.get("/jobs")
async def jobs(
    request: Request,
    state: Annotated[list[JobState] | None, Query()] = None,
    show: str | None = None,
    shot: str | None = None,
    task: str | None = None,
    user: str | None = None,
    q: Annotated[str, Query(max_length=200)] = "",
    before: Number | None = None,
    part: bool = False,
) -> HTMLResponse:
    """The table of jobs; `part` gives only what changes."""
    who = identity(request, Scope.REVIEW)
    here = services(request)
    chosen = {"show": show, "shot": shot, "task": task, "user": user}
    wanted = JobFilter(states=state or None, show=show, shot=shot, task=task, user=user)

    def read() -> tuple[list[JobView], Mapping[str, int]]:
        counts = here.dispatcher.counts(who.studio).jobs
        words = q.casefold().split()
        limit = SEARCHED_JOBS if words else PAGE_JOBS + 1
        found = here.dispatcher.jobs(who.studio, wanted, limit=limit, before=before)
        return [job for job in found if views.matches(job, words)][: PAGE_JOBS + 1], counts

    found, counts = await asyncio.to_thread(read)
    now = time.time()
    query: list[tuple[str, str]] = [("state", str(s)) for s in state or ()]
    query += [(name, value) for name, value in {**chosen, "q": q}.items() if value]
    older = found[PAGE_JOBS - 1].id if len(found) > PAGE_JOBS else None
    return page(
        request,
        "_jobs_live.html" if part else "jobs.html",
        lines=[views.job_line(job, now=now) for job in found[:PAGE_JOBS]],
        now=now,
        chips=_state_chips(query, counts),
        filters=[(name, value, _address(query, without=(name, value))) for name, value in chosen.items() if value],
        q=q,
        older=None if older is None else _address([*query, ("before", str(older))]),
        newest=None if before is None else _address(query),
        filtered=bool(query),
    )


def _address(query: Sequence[tuple[str, str]], *, without: tuple[str, str | None] | None = None) -> str:
    kept = [pair for pair in query if pair != without]
    return "/jobs" + (f"?{urlencode(kept)}" if kept else "")


def _state_chips(query: list[tuple[str, str]], counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """One chip a state: how many there are, whether it is chosen, and where a click leads."""
    others = [pair for pair in query if pair[0] != "state"]
    chosen = {value for name, value in query if name == "state"}
    chips = [{"state": "", "label": "all", "count": sum(counts.values()), "on": not chosen, "to": _address(others)}]
    for state in JobState:
        toggled = [("state", s) for s in JobState if (s in chosen) != (s == state)]
        chips.append(
            {
                "state": str(state),
                "label": str(state),
                "count": counts.get(state, 0),
                "on": state in chosen,
                "to": _address([*toggled, *others]),
            }
        )
    return chips


@_pages.get("/workers")
async def workers(request: Request, part: bool = False) -> HTMLResponse:
    """The workers that were seen; `part` gives only what changes."""
    who = identity(request, Scope.REVIEW)
    found = await asyncio.to_thread(services(request).dispatcher.workers, who.studio)
    return page(request, "_workers_live.html" if part else "workers.html", workers=found, now=time.time())


router.include_router(_pages)
router.include_router(job_pages.router)
router.include_router(model_pages.router)
router.include_router(usage_pages.router)
