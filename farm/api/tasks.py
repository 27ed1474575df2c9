"""Tasks and their forms over HTTP: what every face draws its panel from."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from farm import presets
from farm.api.common import identity, services
from farm.tokens import Scope
from farm.turn import Turn
from pipeline.errors import NotFoundError, TaskError
from pipeline.parameters import describe
from pipeline.tasks.definition import TaskDefinition
from pipeline.tasks.registry import task, tasks

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])


@router.get("")
async def listing(request: Request) -> list[dict[str, Any]]:
    """The installed tasks."""
    identity(request, Scope.REVIEW)
    return [
        {"name": d.name, "label": d.label, "help": d.help, "product": d.product, "keys_min": d.keys_min}
        for d in tasks()
    ]


@router.get("/{name}/form")
async def form(name: str, request: Request, show: str | None = None) -> dict[str, Any]:
    """A task's form; for a `show` with its presets. `form_version` changes exactly when the form does: presets aren't part of it."""
    who = identity(request, Scope.REVIEW)
    definition = _task(name)
    drawn = {
        "task": definition.name,
        "label": definition.label,
        "help": definition.help,
        **describe(definition.parameters),
    }
    if show is None:
        return drawn

    def look(turn: Turn) -> list[dict[str, Any]]:
        return [preset.as_json() for preset in presets.listed(turn.tx, who.studio, show=show, task=name)]

    return {**drawn, "presets": await asyncio.to_thread(services(request).dispatcher.read, look)}


@router.get("/{name}/training/form")
async def training_form(name: str, request: Request) -> dict[str, Any]:
    """What a training of a task's models can be given, and by which measure they are judged."""
    identity(request, Scope.REVIEW)
    definition = _task(name)
    training = definition.training
    if training is None:
        raise NotFoundError(f"{definition.label} has nothing that learns", "its models are given by path, or added")
    return {
        "task": definition.name,
        "label": definition.label,
        "products": list(training.products),
        "measure": training.measure,
        "measures": {
            key: {"label": m.label, "help": m.help, "better": m.better} for key, m in training.measures.items()
        },
        "base_families": list(training.base_families),
        "needs_base": training.needs_base,
        **describe(training.parameters),
    }


def _task(name: str) -> TaskDefinition:
    try:
        return task(name)
    except TaskError as error:
        raise NotFoundError(error.message, error.hint) from error
