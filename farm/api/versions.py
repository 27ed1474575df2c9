"""Published versions over HTTP, with what is thought of them, and the proxies of their frames."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse

from farm import reviews
from farm.api.common import Number, identity, services
from farm.queries import get_version
from farm.records import VersionFilter
from farm.replay import prepare_replay
from farm.submitting import Prepared
from farm.tokens import Scope
from farm.turn import Turn
from farm.wire import ReplayBody
from pipeline.errors import NotFoundError

router = APIRouter(prefix="/v1/versions", tags=["versions"])


@router.get("")
async def listing(
    request: Request,
    show: str | None = None,
    sequence: str | None = None,
    shot: str | None = None,
    product: str | None = None,
    name: str | None = None,
    approved: bool | None = None,
    picked: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[dict[str, Any]]:
    """The studio's published versions, newest first, each with its `taste`."""
    who = identity(request, Scope.REVIEW)
    wanted = VersionFilter(show=show, sequence=sequence, shot=shot, product=product, name=name)

    def look(turn: Turn) -> list[dict[str, Any]]:
        found = reviews.listed(turn.tx, who.studio, wanted, approved=approved, picked=picked, limit=limit)
        return reviews.shown(turn.tx, found, who=who)

    return await asyncio.to_thread(services(request).dispatcher.read, look)


@router.get("/{version}")
async def one(version: Number, request: Request) -> dict[str, Any]:
    """One version with its report and its `taste`."""
    who = identity(request, Scope.REVIEW)

    def look(turn: Turn) -> dict[str, Any]:
        return reviews.shown(turn.tx, [get_version(turn.tx, who.studio, version)], who=who)[0]

    return await asyncio.to_thread(services(request).dispatcher.read, look)


@router.post("/{version}/replay", status_code=201)
async def replay(version: Number, body: ReplayBody, request: Request) -> dict[str, Any]:
    """Make a version again and compare: nothing is published, the job's result says whether every bit is the same."""
    who = identity(request, Scope.SUBMIT)
    here = services(request)

    def prepare() -> Prepared:
        view = here.dispatcher.version(who.studio, version)
        return prepare_replay(
            view,
            user=who.name,
            pool=body.pool,
            priority=body.priority,
            settings=here.settings,
            dispatcher=here.dispatcher,
            inspector=here.inspector,
        )

    ready = await asyncio.to_thread(prepare)
    submitted = await here.dispatcher.submit(ready.spec, ready.steps, work=ready.work, key=None)
    return {
        "job": submitted.job.id,
        "state": submitted.job.state,
        "frames": ready.spec.frames,
        "estimate": ready.estimate,
        "url": f"{here.settings.url}/jobs/{submitted.job.id}",
    }


@router.get("/{version}/proxy/{kind}/{frame}.jpg")
async def proxy(
    version: Number, kind: Literal["beauty", "matte", "overlay"], frame: Number, request: Request
) -> Response:
    """A frame of a version through the view that its worker baked. It never changes, so a browser may keep it."""
    who = identity(request, Scope.REVIEW)
    found = await asyncio.to_thread(services(request).dispatcher.version, who.studio, version)
    folder = Path(found.folder)
    path = folder / "proxy" / kind / f"{frame:04d}.jpg"
    # The folder is ours by its row, yet what lies in it could be a link that somebody planted.
    if not path.is_file() or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise NotFoundError(f"{found.name} has no {kind} proxy of frame {frame}")
    return FileResponse(path, headers={"Cache-Control": "private, max-age=31536000, immutable"})
