"""Workers over HTTP: claim, complete, fail, progress. The hottest routes: they read and write JSON without detours."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from farm.api.common import identity, services
from farm.api.jobs import preview_folder
from farm.logbook import LogBook
from farm.prices import price_of, tags_of
from farm.records import Assignment, Failure, WorkerHello
from farm.tokens import Scope
from farm.wire import ChunkRef, ClaimBody, CompleteBody, FailBody, Hello, ProgressBody, Wire
from pipeline.errors import StorageError

log = logging.getLogger("platewright.api")
router = APIRouter(prefix="/v1/workers", tags=["workers"])

T = TypeVar("T", bound=Wire)


@router.get("")
async def listing(request: Request) -> list[dict[str, Any]]:
    """Every worker that was seen."""
    who = identity(request, Scope.REVIEW)
    found = await asyncio.to_thread(services(request).dispatcher.workers, who.studio)
    return [worker.as_json() for worker in found]


@router.post("/{name}/arrive")
async def arrive(name: str, request: Request) -> Response:
    """A worker process starts: what an earlier one of its name held is taken back at once."""
    who = identity(request, Scope.WORKER)
    hello = await _body(Hello, request)
    _check_price(hello, request)
    await services(request).dispatcher.arrive(_hello(name, who.studio, hello))
    return _json({})


@router.post("/{name}/leave")
async def leave(name: str, request: Request) -> Response:
    """A worker ends in good order: what it holds goes back without blame."""
    who = identity(request, Scope.WORKER)
    await services(request).dispatcher.leave(who.studio, name)
    return _json({})


@router.post("/{name}/claim")
async def claim(name: str, request: Request) -> Response:
    """Ask for a chunk; waits up to `wait_s` for one. 204 when there is none."""
    who = identity(request, Scope.WORKER)
    body = await _body(ClaimBody, request)
    _check_price(body.hello, request)
    dispatcher = services(request).dispatcher
    got = await dispatcher.claim(_hello(name, who.studio, body.hello), wait_s=body.wait_s)
    if got is None:
        return Response(status_code=204)
    return _json(_assignment(got, request, who.studio))


@router.post("/{name}/complete")
async def complete(name: str, request: Request) -> Response:
    """Report a chunk as done; with `hello`, take the next one along. An attempt that is not the newest is not accepted."""
    who = identity(request, Scope.WORKER)
    body = await _body(CompleteBody, request)
    here = services(request)
    hello = None if body.hello is None else _hello(name, who.studio, body.hello)
    done = await here.dispatcher.complete(who.studio, name, body.chunk_id, body.attempt, body.result, claim=hello)
    _log(here.logbook, who.studio, body, body.log)
    following = None if done.next is None else _assignment(done.next, request, who.studio)
    return _json({"accepted": done.accepted, "next": following})


@router.post("/{name}/fail")
async def fail(name: str, request: Request) -> Response:
    """Report that an attempt came to nothing, and why."""
    who = identity(request, Scope.WORKER)
    body = await _body(FailBody, request)
    here = services(request)
    failure = Failure(body.kind, body.message, body.hint)
    accepted = await here.dispatcher.fail(who.studio, name, body.chunk_id, body.attempt, failure)
    lines = (*body.log, f"FAILED ({body.kind}): {body.message}", *([body.hint] if body.hint else []))
    _log(here.logbook, who.studio, body, lines)
    return _json({"accepted": accepted})


@router.post("/{name}/progress")
async def progress(name: str, request: Request) -> Response:
    """A sign of life. `stop` in the answer says why to stop, null to go on."""
    who = identity(request, Scope.WORKER)
    body = await _body(ProgressBody, request)
    here = services(request)
    verdict = await here.dispatcher.progress(
        who.studio,
        name,
        body.chunk_id,
        body.attempt,
        fraction=body.fraction,
        done_frames=body.done_frames,
        note=body.note,
        advanced=body.advanced,
        previews=tuple(p.frame for p in body.previews),
    )
    _log(here.logbook, who.studio, body, body.log)
    return _json({"stop": verdict.stop, "lease_s": verdict.lease_s})


async def _body(model: type[T], request: Request) -> T:
    """What a worker sent. Raises: RequestValidationError, which is answered as every other refusal."""
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from error


def _log(logbook: LogBook, studio: str, about: ChunkRef, lines: Sequence[str]) -> None:
    """Keep log lines. What the worker reported counts already: a log that can't be written must not make it ask again."""
    try:
        logbook.append(studio, chunk=about.chunk_id, attempt=about.attempt, lines=lines)
    except StorageError as error:
        log.warning("log lines of chunk %d are lost: %s", about.chunk_id, error.message)


def _check_price(hello: Hello, request: Request) -> None:
    """Refuse work to a worker whose price can't be read; what it has done already is taken. Raises: SettingsError."""
    price_of(tags_of(hello.tags), services(request).settings)


def _hello(name: str, studio: str, hello: Hello) -> WorkerHello:
    return WorkerHello(
        name=name,
        studio=studio,
        host=hello.host,
        pools=hello.pools,
        memory_mb=hello.memory_mb,
        model=hello.warm,
        tags=tags_of(hello.tags),
        software=hello.version,
    )


def _assignment(got: Assignment, request: Request, studio: str) -> dict[str, Any]:
    """The wire's form of an assignment: with where previews go and, for a publish, how proxies are made."""
    settings = services(request).settings
    # The attempt's folder lies in its job's: <root>/.platewright/work/<job>/take0/infer-3/a2
    root = got.folder.partition("/.platewright/")[0]
    out = {**got.as_json(), "preview_folder": str(preview_folder(root, studio, got.job_id, got.take))}
    if got.step == "publish":
        out["proxy"] = settings.proxy_settings()
    return out


def _json(body: Any) -> Response:
    return Response(json.dumps(body), media_type="application/json")
