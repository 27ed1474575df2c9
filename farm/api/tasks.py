"""Tasks and their forms over HTTP: what every face draws its panel from."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from farm.api.common import identity
from farm.tokens import Scope
from pipeline.errors import NotFoundError, TaskError
from pipeline.parameters import describe
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
async def form(name: str, request: Request) -> dict[str, Any]:
    """A task's form. `form_version` changes exactly when the form does."""
    identity(request, Scope.REVIEW)
    try:
        definition = task(name)
    except TaskError as error:
        raise NotFoundError(error.message, error.hint) from error
    return {
        "task": definition.name,
        "label": definition.label,
        "help": definition.help,
        **describe(definition.parameters),
    }
