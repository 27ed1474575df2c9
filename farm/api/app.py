"""The dispatcher's HTTP face, put together: guard, routes, pages, one handler for every error that a person can act on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from farm.api import clearances, events, jobs, models, pages, presets, reviews, tasks, tokens, usage, versions, workers
from farm.api.auth import Doorkeeper, Guard, TokenBook
from farm.databases import DatabaseFullError
from farm.dispatcher import Dispatcher
from farm.inspector import Inspector
from farm.janitor import keep_clean
from farm.logbook import LogBook
from farm.settings import FarmSettings
from pipeline import __version__
from pipeline.errors import (
    AuthError,
    NotFoundError,
    PathError,
    PipelineError,
    ServerError,
    StateError,
    StorageError,
    SubmissionRefused,
)

log = logging.getLogger("platewright.api")

STATUS: dict[type[PipelineError], int] = {
    SubmissionRefused: 422,
    NotFoundError: 404,
    StateError: 409,
    AuthError: 403,
    PathError: 422,
    DatabaseFullError: 507,
    StorageError: 503,
    ServerError: 503,
    PipelineError: 422,
}
"""What each error means over HTTP; the nearest base class counts."""


@dataclass(frozen=True, slots=True)
class Services:
    """What routes may use. They hold no logic: they take a request apart, ask one of these, and put the answer together."""

    settings: FarmSettings
    dispatcher: Dispatcher
    inspector: Inspector
    door: Doorkeeper
    logbook: LogBook


def create_app(services: Services, token_book: TokenBook) -> FastAPI:
    """The application. Its lifespan runs the reaper and the janitor; the caller opens and closes the store."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(services.inspector.warm_up)
        chores = [
            asyncio.create_task(_reap(services.dispatcher, services.settings.reap_s)),
            asyncio.create_task(keep_clean(services.dispatcher, services.settings.studio)),
        ]
        try:
            yield
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            services.inspector.close()

    app = FastAPI(title="Platewright", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.services = services
    app.add_middleware(Guard, tokens=token_book, door=services.door, hosts=services.settings.host_names())
    app.add_exception_handler(PipelineError, _answer)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(ValidationError, _unreadable)
    for module in (jobs, versions, models, clearances, reviews, presets, tasks, tokens, usage, workers, events, pages):
        app.include_router(module.router)
    pages.mount_static(app)
    return app


async def _reap(dispatcher: Dispatcher, every_s: float) -> None:
    """Give back what dead workers hold. A database that is away for a while must not end this."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await dispatcher.reap()
        except StorageError as error:
            log.warning("leases could not be looked at: %s", error.message)


def status_of(error: PipelineError) -> int:
    """The HTTP status of an error."""
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def body_of(error: PipelineError) -> dict[str, object]:
    """`{error, message, hint, faults}`: what hosts, command line and page show as it is."""
    faults = error.faults if isinstance(error, SubmissionRefused) else ()
    return {
        "error": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "faults": [{"where": f.where, "message": f.message, "hint": f.hint} for f in faults],
    }


async def _answer(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PipelineError)
    return JSONResponse(body_of(error), status_of(error))


async def _unreadable(_: Request, error: Exception) -> JSONResponse:
    """A body or query of the wrong shape: the same kind of answer as any other refusal."""
    assert isinstance(error, RequestValidationError | ValidationError)
    faults = [
        {"where": ".".join(str(part) for part in e["loc"] if part != "body") or "body", "message": e["msg"], "hint": ""}
        for e in error.errors()
    ]
    body = {
        "error": "SubmissionRefused",
        "message": f"{faults[0]['where']}: {faults[0]['message']}",
        "hint": "",
        "faults": faults,
    }
    return JSONResponse(body, 422)
