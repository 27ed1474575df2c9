"""The studio's models over HTTP: cards, trainings, judgements, promotions. Another studio's aren't there."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from farm import cards, promotions
from farm.api.common import identity, services
from farm.heldout import hold_out
from farm.learning import PreparedTraining, prepare_scoring, prepare_training
from farm.registry import add_model, exported, may_promote
from farm.tokens import Identity, Scope
from farm.wire import AddModelBody, PromoteBody, RetireBody, RollbackBody
from pipeline.jobs.training import ScoringRequest, TrainingRequest

router = APIRouter(prefix="/v1/models", tags=["models"])

Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]
Ref = str
"""A card by any of its names: `name@v003`, `roto@production`, `sha256:…`, its number, or its name alone."""


@router.get("")
async def listing(
    request: Request, task: str | None = None, name: str | None = None, retired: bool = True
) -> list[dict[str, Any]]:
    """The studio's model cards, newest first."""
    who = identity(request, Scope.REVIEW)
    read = services(request).dispatcher.read
    found = await asyncio.to_thread(
        read, lambda turn: cards.list_cards(turn.tx, who.studio, task=task, name=name, retired=retired)
    )
    return [card.as_json() for card in found]


@router.get("/promotions")
async def moves(request: Request, task: str | None = None, alias: str | None = None) -> list[dict[str, Any]]:
    """Every change of what aliases stand for, newest first."""
    who = identity(request, Scope.REVIEW)
    read = services(request).dispatcher.read
    found = await asyncio.to_thread(read, lambda turn: promotions.promotions(turn.tx, who.studio, task, alias))
    return [one.as_json() for one in found]


@router.get("/scores")
async def scores(request: Request, task: Annotated[str, Query(max_length=64)]) -> list[dict[str, Any]]:
    """How the task's models did on held-out shots, newest first; those of the task's own weights have no `model`."""
    who = identity(request, Scope.REVIEW)
    read = services(request).dispatcher.read
    found = await asyncio.to_thread(read, lambda turn: cards.scores(turn.tx, who.studio, task))
    return [one.as_json() for one in found]


@router.post("", status_code=201)
async def add(body: AddModelBody, request: Request) -> dict[str, Any]:
    """Keep a card for weights that lie on a local path. Their hash is fixed with it."""
    who = identity(request, Scope.WRANGLE)
    here = services(request)
    new = await asyncio.to_thread(
        partial(
            add_model,
            body,
            studio=who.studio,
            user=who.name,
            settings=here.settings,
            dispatcher=here.dispatcher,
            inspector=here.inspector,
        )
    )
    return (await here.dispatcher.write(new)).as_json()


@router.post("/finetune", status_code=201)
async def finetune(
    body: TrainingRequest, request: Request, response: Response, dry_run: bool = False, key: Key = None
) -> dict[str, Any]:
    """Submit a training: its card appears when its last step is accepted."""
    who = identity(request, Scope.SUBMIT)
    here = services(request)
    prepared = await asyncio.to_thread(
        partial(
            prepare_training,
            body,
            studio=who.studio,
            user=who.name,
            settings=here.settings,
            dispatcher=here.dispatcher,
            inspector=here.inspector,
        )
    )
    return await _submit(request, response, who, prepared, body.model_dump_json(), key=key, dry_run=dry_run)


@router.post("/rollback")
async def rollback(body: RollbackBody, request: Request) -> dict[str, Any]:
    """Let an alias stand for what it stood for before."""
    who = identity(request, Scope.WRANGLE)
    here = services(request)
    await asyncio.to_thread(may_promote, who, here.settings)
    undo = partial(promotions.rollback, studio=who.studio, task=body.task, alias=body.alias, by=who.name)
    return (await here.dispatcher.write(undo)).as_json()


@router.get("/{ref}")
async def one(ref: Ref, request: Request, task: str | None = None) -> dict[str, Any]:
    """One card, with its scores and promotions."""
    who = identity(request, Scope.REVIEW)
    read = services(request).dispatcher.read

    def look(turn: Any) -> dict[str, Any]:
        card = cards.find_card(turn.tx, who.studio, ref, task=task)
        moved = [p.as_json() for p in promotions.promotions(turn.tx, who.studio, card.task) if p.model == card.id]
        return {**card.as_json(), "scores": cards.judged(turn.tx, card), "promotions": moved}

    return await asyncio.to_thread(read, look)


@router.post("/{ref}/score", status_code=201)
async def score(
    ref: Ref,
    body: ScoringRequest,
    request: Request,
    response: Response,
    task: str | None = None,
    dry_run: bool = False,
    key: Key = None,
) -> dict[str, Any]:
    """Submit a judgement of a model on the held-out shots, beside the one in production."""
    who = identity(request, Scope.SUBMIT)
    here = services(request)

    def prepare() -> PreparedTraining:
        card = here.dispatcher.read(lambda turn: cards.find_card(turn.tx, who.studio, ref, task=task))
        return prepare_scoring(
            card,
            body,
            user=who.name,
            settings=here.settings,
            dispatcher=here.dispatcher,
            inspector=here.inspector,
        )

    prepared = await asyncio.to_thread(prepare)
    return await _submit(request, response, who, prepared, f"{ref} {body.model_dump_json()}", key=key, dry_run=dry_run)


@router.post("/{ref}/promote")
async def promote(ref: Ref, body: PromoteBody, request: Request, task: str | None = None) -> dict[str, Any]:
    """Let an alias stand for a model that won, or that whoever asks answers for."""
    who = identity(request, Scope.WRANGLE)
    here = services(request)
    await asyncio.to_thread(may_promote, who, here.settings)

    def op(turn: Any) -> promotions.PromotionView:
        card = cards.find_card(turn.tx, who.studio, ref, task=task)
        return promotions.promote(turn, card, alias=body.alias, by=who.name, override=body.override)

    return (await here.dispatcher.write(op)).as_json()


@router.post("/{ref}/retire")
async def retire(ref: Ref, body: RetireBody, request: Request, task: str | None = None) -> dict[str, Any]:
    """Take a model out of use, or back into it."""
    who = identity(request, Scope.WRANGLE)

    def op(turn: Any) -> cards.CardView:
        return promotions.retire(turn, cards.find_card(turn.tx, who.studio, ref, task=task), undo=body.undo)

    return (await services(request).dispatcher.write(op)).as_json()


@router.get("/{ref}/weights")
async def weights(ref: Ref, request: Request, task: str | None = None) -> Response:
    """A card's weights: the file itself, or a folder as a tar. What was changed since isn't given out."""
    who = identity(request, Scope.WRANGLE)
    here = services(request)

    def find() -> cards.CardView:
        card = here.dispatcher.read(lambda turn: cards.find_card(turn.tx, who.studio, ref, task=task))
        here.inspector.call("check_model", {"path": card.path, "sha256": card.sha256})
        return card

    card = await asyncio.to_thread(find)
    path = Path(card.path)
    if path.is_file():
        return FileResponse(path, media_type="application/octet-stream", filename=f"{card.label}{path.suffix}")
    headers = {"Content-Disposition": f'attachment; filename="{card.label}.tar"'}
    return StreamingResponse(exported(path), media_type="application/x-tar", headers=headers)


async def _submit(
    request: Request,
    response: Response,
    who: Identity,
    prepared: PreparedTraining,
    asked: str,
    *,
    key: str | None,
    dry_run: bool,
) -> dict[str, Any]:
    spec = prepared.spec
    plan = {
        "lessons": [one.name for one in spec.lessons],
        "held_out": [one.name for one in spec.held_out],
        "against": spec.present.label,
        "estimate": prepared.estimate,
    }
    if dry_run:
        response.status_code = 200
        steps = [{"step": step.name, "chunks": len(step.chunks)} for step in prepared.steps]
        return {"spec": spec.model_dump(mode="json"), "steps": steps, **plan}
    here = services(request)
    aside = partial(
        hold_out,
        studio=who.studio,
        task=spec.task,
        shots=prepared.set_aside,
        by=who.name,
        learned={(one.show, one.sequence, one.shot) for one in spec.lessons},
    )
    submitted = await here.dispatcher.submit(
        spec, prepared.steps, work=prepared.work, key=key, asked=asked, before=aside
    )
    response.status_code = 201 if submitted.created else 200
    return {
        "job": submitted.job.id,
        "created": submitted.created,
        "state": submitted.job.state,
        "name": spec.name,
        **plan,
        "warnings": spec.warnings,
        "url": f"{here.settings.url}/jobs/{submitted.job.id}",
    }
