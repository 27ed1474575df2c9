"""What people say of versions over HTTP, and a version's request again."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from farm import reviews
from farm.api import jobs
from farm.api.common import Number, identity, services
from farm.reviews import ReviewKind
from farm.tokens import Identity, Scope
from farm.turn import Turn
from farm.wire import RecallBody, ReviewBody
from pipeline.jobs.recall import recalled
from pipeline.jobs.spec import JobRequest

router = APIRouter(prefix="/v1/versions", tags=["reviews"])


@router.post("/{version}/reviews")
async def add(version: Number, body: ReviewBody, request: Request) -> dict[str, Any]:
    """Pick, rate, note or approve. Answers with what is thought of the version now."""
    who = identity(request, Scope.REVIEW)
    here = services(request)
    say = partial(
        reviews.add,
        version=version,
        who=who,
        kind=ReviewKind(body.kind),
        value=body.value,
        text=body.text,
        approvers=reviews.by_rules(here.settings.rules, who.studio),
    )
    taste = await here.dispatcher.write(say)
    return taste.as_json()


@router.get("/{version}/reviews")
async def one(version: Number, request: Request) -> dict[str, Any]:
    """What is thought of a version, and everything that was said of it, oldest first."""
    who = identity(request, Scope.REVIEW)

    def look(turn: Turn) -> dict[str, Any]:
        said = reviews.history(turn.tx, who.studio, version)
        taste = reviews.of_versions(turn.tx, who.studio, [version], user=who.name)[version]
        return {"taste": taste.as_json(), "history": [review.as_json() for review in said]}

    return await asyncio.to_thread(services(request).dispatcher.read, look)


@router.get("/{version}/recall")
async def recall(version: Number, request: Request) -> dict[str, Any]:
    """The request that makes a version again, so that a panel can be filled with it."""
    who = identity(request, Scope.REVIEW)
    return (await asyncio.to_thread(_recalled, request, who, version, RecallBody())).model_dump(mode="json")


@router.post("/{version}/recall", status_code=201)
async def recall_now(
    version: Number,
    body: RecallBody,
    request: Request,
    response: Response,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Hand in a version's request again, with changes; as any other submission."""
    who = identity(request, Scope.SUBMIT)
    asked = await asyncio.to_thread(_recalled, request, who, version, body)
    return await jobs.submit(asked, request, response, idempotency_key, dry_run)


def _recalled(request: Request, who: Identity, version: int, body: RecallBody) -> JobRequest:
    dispatcher = services(request).dispatcher
    view = dispatcher.version(who.studio, version)
    asked = recalled(dispatcher.spec(who.studio, view.job_id), view.take, changes=body.parameters)
    return asked if body.use is None else asked.model_copy(update={"use": body.use})
