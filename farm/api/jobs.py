"""Jobs over HTTP: submit, look, act, follow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse

from farm.api.common import Number, identity, services
from farm.cards import card_of_job
from farm.dispatcher import Dispatcher
from farm.folders import job_folder
from farm.outcome import outcome
from farm.records import JobFilter, JobView
from farm.sheets import contact_sheet
from farm.states import JobState
from farm.submitting import prepare
from farm.tokens import Scope
from farm.wire import ActBody, SubmitReply
from pipeline.errors import NotFoundError
from pipeline.frames import FrameRange
from pipeline.jobs.spec import JobRequest, JobSpec

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("", status_code=201)
async def submit(
    body: JobRequest,
    request: Request,
    response: Response,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Hand in a job. The same Idempotency-Key with the same request is the same job, however often it is sent."""
    who = identity(request, Scope.SUBMIT)
    here = services(request)
    # Only an admin, such as a host's service account, may submit in somebody else's name.
    user = body.user if body.user and who.allows(Scope.ADMIN) else who.name
    asked = body.model_copy(update={"user": user})
    if idempotency_key is not None and not dry_run:
        # Before anything is looked at: a request that is sent again must find its job, whatever became of plate, rules or budget.
        known = await asyncio.to_thread(_known, here.dispatcher, who.studio, idempotency_key, asked.model_dump_json())
        if known is not None:
            response.status_code = 200
            return _reply(known.job, False, known.spec, known.estimate, here.settings.url)
    prepared = await asyncio.to_thread(
        prepare,
        asked,
        studio=who.studio,
        user=who.name,
        settings=here.settings,
        dispatcher=here.dispatcher,
        inspector=here.inspector,
    )
    if dry_run:
        response.status_code = 200
        steps = [
            {"take": s.take, "step": s.name, "chunks": len(s.chunks), "after": list(s.after)} for s in prepared.steps
        ]
        return {"spec": prepared.spec.model_dump(mode="json"), "steps": steps, "estimate": prepared.estimate}
    submitted = await here.dispatcher.submit(
        prepared.spec,
        prepared.steps,
        work=prepared.work,
        key=idempotency_key,
        asked=asked.model_dump_json(),
        taken_on_disk=prepared.taken_on_disk,
    )
    response.status_code = 201 if submitted.created else 200
    return _reply(submitted.job, submitted.created, prepared.spec, prepared.estimate, here.settings.url)


@dataclass(frozen=True, slots=True)
class _Known:
    """A job that was handed in before."""

    job: JobView
    spec: JobSpec
    estimate: Mapping[str, Any] | None


def _known(dispatcher: Dispatcher, studio: str, key: str, asked: str) -> _Known | None:
    """The job that a key stands for. Raises: StateError when it stands for another request."""
    job = dispatcher.job_of_key(studio, key, asked)
    if job is None:
        return None
    return _Known(job, dispatcher.spec(studio, job.id), dispatcher.job(studio, job.id).estimate)


def _reply(job: JobView, created: bool, spec: JobSpec, estimate: Mapping[str, Any] | None, url: str) -> dict[str, Any]:
    return SubmitReply(
        job=job.id,
        created=created,
        state=job.state,
        version=job.versions[0].name if job.versions else "",
        takes=len(spec.takes),
        frames=spec.frames,
        warnings=spec.warnings,
        estimate=None if estimate is None else dict(estimate),
        use=spec.use,
        url=f"{url}/jobs/{job.id}",
    ).model_dump()


@router.get("")
async def listing(
    request: Request,
    state: Annotated[list[JobState] | None, Query()] = None,
    show: str | None = None,
    shot: str | None = None,
    task: str | None = None,
    user: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Number | None = None,
) -> list[dict[str, Any]]:
    """The studio's jobs, newest first."""
    who = identity(request, Scope.REVIEW)
    wanted = JobFilter(states=state, show=show, shot=shot, task=task, user=user)
    found = await asyncio.to_thread(services(request).dispatcher.jobs, who.studio, wanted, limit=limit, before=before)
    return [job.as_json() for job in found]


@router.get("/{job}")
async def one(job: Number, request: Request) -> dict[str, Any]:
    """A job with its takes, chunks and attempts."""
    who = identity(request, Scope.REVIEW)
    dispatcher = services(request).dispatcher
    detail = await asyncio.to_thread(dispatcher.job, who.studio, job)
    why = await asyncio.to_thread(dispatcher.why_waiting, who.studio, job)
    return {**detail.as_json(), "why_waiting": why}


@router.get("/{job}/result")
async def result(job: Number, request: Request) -> dict[str, Any]:
    """What became of a job, as `plates submit --wait --json` prints it."""
    who = identity(request, Scope.REVIEW)
    dispatcher = services(request).dispatcher

    def look() -> dict[str, Any]:
        card = dispatcher.read(lambda turn: card_of_job(turn.tx, who.studio, job))
        return outcome(dispatcher.job(who.studio, job), made="" if card is None else card.label)

    return await asyncio.to_thread(look)


@router.get("/{job}/sheet.jpg")
async def sheet(job: Number, request: Request) -> Response:
    """The contact sheet of a job's published takes."""
    who = identity(request, Scope.REVIEW)
    here = services(request)

    def make() -> Path:
        detail = here.dispatcher.job(who.studio, job)
        return contact_sheet(detail, here.inspector, here.settings.data / "sheets" / who.studio)

    return FileResponse(await asyncio.to_thread(make), headers={"Cache-Control": "no-cache"})


@router.post("/{job}/{act}")
async def act(
    job: Number, act: Literal["cancel", "pause", "resume", "retry", "skip", "priority"], body: ActBody, request: Request
) -> dict[str, Any]:
    """Change a job's course; retry and skip may name chunks or frames. Who submitted a job may; a wrangler may with any."""
    who = identity(request, Scope.WRANGLE, Scope.SUBMIT)
    dispatcher = services(request).dispatcher
    if not who.allows(Scope.WRANGLE):
        mine = await asyncio.to_thread(dispatcher.job_view, who.studio, job)
        if mine.user != who.name:
            who.require(Scope.WRANGLE)
    frames = None if body.frames is None else FrameRange.parse(body.frames)
    match act:
        case "cancel":
            view = await dispatcher.cancel(who.studio, job)
        case "pause":
            view = await dispatcher.pause(who.studio, job)
        case "resume":
            view = await dispatcher.resume(who.studio, job)
        case "retry":
            view = await dispatcher.retry(who.studio, job, chunk=body.chunk, frames=frames)
        case "skip":
            view = await dispatcher.skip(who.studio, job, chunk=body.chunk, frames=frames)
        case "priority":
            view = await dispatcher.set_priority(who.studio, job, body.priority if body.priority is not None else 50)
    return view.as_json()


@router.get("/{job}/log")
async def log(
    job: Number,
    request: Request,
    chunk: Number | None = None,
    attempt: Number | None = None,
    after: Annotated[int, Query(ge=0)] = 0,
) -> list[dict[str, Any]]:
    """Log lines of a job's attempts, in the order of their work; of one attempt when it is named."""
    who = identity(request, Scope.REVIEW)
    here = services(request)
    detail = await asyncio.to_thread(here.dispatcher.job, who.studio, job)
    out: list[dict[str, Any]] = []
    for view in detail.chunks:
        if chunk is not None and view.id != chunk:
            continue
        for tried in view.attempts:
            if attempt is not None and tried.number != attempt:
                continue
            lines = here.logbook.read(who.studio, chunk=view.id, attempt=tried.number, after=after)
            place = {
                "step": view.step,
                "chunk": view.id,
                "index": view.index,
                "attempt": tried.number,
                "worker": tried.worker,
            }
            out.append({**place, "state": tried.state, "reason": tried.reason, "hint": tried.hint, "lines": lines})
    return out


@router.get("/{job}/preview/{frame}.jpg")
async def preview(job: Number, frame: Number, request: Request, take: Number = 0) -> Response:
    """The early small picture of a take's frame, while the job still runs."""
    who = identity(request, Scope.REVIEW)
    here = services(request)
    spec = await asyncio.to_thread(here.dispatcher.spec, who.studio, job)
    path = preview_folder(spec.publish_root, who.studio, job, take) / f"{frame}.jpg"
    if not path.is_file():
        raise NotFoundError(f"job {job} has no preview of frame {frame} (yet)")
    return FileResponse(path, headers={"Cache-Control": "no-cache"})


def preview_folder(publish_root: str, studio: str, job: int, take: int) -> Path:
    """Where the sessions that work on a take put its previews."""
    return job_folder(publish_root, studio=studio, job=job) / f"preview-{take}"
