"""The tasks that are installed: entry points of the group `platewright.tasks`, each a `TaskDefinition`."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from pipeline.errors import TaskError
from pipeline.tasks.definition import TaskDefinition

if TYPE_CHECKING:
    from pipeline.tasks.contract import TaskRunner

GROUP = "platewright.tasks"


@cache
def _definitions() -> dict[str, TaskDefinition]:
    found: dict[str, TaskDefinition] = {}
    for point in entry_points(group=GROUP):
        definition = point.load()
        if not isinstance(definition, TaskDefinition):
            raise TaskError(f"entry point {point.value} of {GROUP} is not a TaskDefinition")
        if definition.name in found:
            raise TaskError(f"two packages bring a task called {definition.name}", "uninstall one or rename its task")
        found[definition.name] = definition
    return found


def tasks() -> tuple[TaskDefinition, ...]:
    """Every installed task, by name."""
    return tuple(sorted(_definitions().values(), key=lambda d: d.name))


def task(name: str) -> TaskDefinition:
    """The task of that name. Raises: TaskError."""
    try:
        return _definitions()[name]
    except KeyError:
        known = ", ".join(sorted(_definitions())) or "none"
        raise TaskError(f"no task is called {name!r}", f"installed: {known}") from None


@cache
def package_of(name: str) -> str:
    """Name and version of the package that brings a task; empty for one that isn't installed."""
    for point in entry_points(group=GROUP):
        if point.dist is not None and point.load() is _definitions().get(name):
            return f"{point.dist.name} {point.dist.version}"
    return ""


def new_runner(definition: TaskDefinition) -> TaskRunner:
    """A fresh runner. Only a session child may call this: it imports torch. Raises: TaskError."""
    module_name, _, class_name = definition.runner.partition(":")
    try:
        runner: TaskRunner = getattr(importlib.import_module(module_name), class_name)()
    except ImportError as error:
        raise TaskError(
            f"task {definition.name} can't be loaded: {error}",
            "install the worker extra: pip install 'platewright[worker]'",
        ) from error
    return runner
