"""What happens, as a stream of server-sent events: one a page, numbered, with the whole state after a gap."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from farm.api.common import identity, services
from farm.events import Subscription
from farm.tokens import Scope

router = APIRouter(prefix="/v1", tags=["events"])

_KEEP_ALIVE_S = 15.0


@router.get("/events")
async def events(
    request: Request, job: int | None = None, last_event_id: Annotated[int | None, Header()] = None
) -> StreamingResponse:
    """Events of the studio, or of one job. `Last-Event-ID` resumes behind it; an event `resync` says: read the state anew."""
    who = identity(request, Scope.REVIEW)
    subscription = services(request).dispatcher.subscribe(who.studio, last_id=last_event_id)
    return StreamingResponse(
        _stream(subscription, job),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(subscription: Subscription, job: int | None) -> AsyncIterator[str]:
    try:
        yield "retry: 1000\n\n"
        while True:
            event = await subscription.next(_KEEP_ALIVE_S)
            if event is None:
                yield ": still here\n\n"
            elif job is None or event.job_id in (None, job):
                body = json.dumps({"job": event.job_id, **event.data})
                yield f"id: {event.id}\nevent: {event.kind}\ndata: {body}\n\n"
    finally:
        subscription.close()
