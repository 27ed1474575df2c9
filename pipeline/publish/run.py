"""Publish one take as one version: collect ► validate ► extract ► integrate, by pyblish.

Three of pyblish's habits are turned off here. It goes on to integrate after an extractor failed: a registered test stops it.
It swallows errors: they are read from its results and raised. It finds plug-ins on paths and skips those that don't import,
so that a broken validator means "valid": `PLUGINS` lists every class, and one that didn't run is an error itself.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyblish.api
import pyblish.logic
import pyblish.plugin

from pipeline.errors import Fault, PipelineError, PublishError, StorageError
from pipeline.frames import FrameRange
from pipeline.paths import storage_error
from pipeline.provenance import to_plain
from pipeline.publish import collect, extract, integrate, manifest, validate
from pipeline.publish.plugin import VALIDATE, InstancePlugin, PluginType, Publication
from pipeline.publish.values import (
    ProxySettings,
    PublishedVersion,
    PublishRefused,
    PublishRequest,
    sidecar_path,
    timeline_path,
)
from pipeline.tasks.contract import Cancelled

__all__ = ["PLUGINS", "ProxySettings", "PublishRefused", "PublishRequest", "PublishedVersion", "publish"]

PLUGINS: tuple[PluginType, ...] = (
    *collect.PLUGINS,
    *validate.PLUGINS,
    *extract.PLUGINS,
    *manifest.PLUGINS,
    *integrate.PLUGINS,
)
"""Every step of a publish, in pyblish's order. A studio's own validator is added here and nowhere else."""
_PYBLISH = threading.Lock()
"""pyblish keeps its registered test for the whole process."""


def publish(
    request: PublishRequest, *, progress: Callable[[float, str], None], plugins: tuple[PluginType, ...] = PLUGINS
) -> PublishedVersion:
    """Publish one take's frames as `request.version`, whole or not at all.

    The same job asked twice gets the version that is there: a process may die after the rename and before it could say so.
    `progress(fraction, note)` may raise to stop; nothing is left then.
    Raises: PublishRefused (validators, all of their faults), PublishError (the place is taken, a step failed),
    StorageError (full, unwritable, gone), EditError (the cut can't be written back).
    """
    if "job" not in request.record:
        raise PublishError(f"{request.version.name}: its record names no job", "make it by pipeline.provenance.record")
    publication = Publication(request, progress)
    try:
        found = published(request)
        if found is not None:
            integrate.settle(request.version)
            return found
        _fresh(publication.scratch)
        _run(publication, plugins)
    finally:
        shutil.rmtree(publication.scratch, ignore_errors=True)
    done = published(request)
    if done is None:
        raise PublishError(f"{request.version.name} is not in its place", "look at the publish root, then retry")
    return done


def published(request: PublishRequest) -> PublishedVersion | None:
    """The version as it lies in its place, when it is this very job's; None when there is none, or another's."""
    version, asked = request.version, to_plain(request.record)
    path = sidecar_path(version)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        facts = record["version"]
        same = (
            record["job"] == asked["job"]
            and record.get("take") == asked.get("take")
            and facts["name"] == version.name
            and facts["frames"] == str(request.frames)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not same or not all(version.pattern.path(frame).is_file() for frame in request.frames):
        return None
    return PublishedVersion(
        name=version.name,
        folder=version.folder,
        frames=FrameRange.parse(facts["frames"]),
        layers=tuple(facts["layers"]),
        colorspace=facts["colorspace"],
        sidecar=path,
        otio=timeline_path(version) if facts["otio"] else None,
        warnings=tuple(record["warnings"]),
        report=record["report"],
    )


def _fresh(scratch: Path) -> None:
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
    except OSError as error:
        raise storage_error(error, scratch) from error


def _run(publication: Publication, plugins: tuple[PluginType, ...]) -> None:
    """Let pyblish run the steps, and raise what went wrong. Its own `util.publish` prints and forgets collectors' errors."""
    ordered = sorted(plugins, key=lambda plugin: float(plugin.order))
    context = pyblish.api.Context()
    publication.put_into(context)
    state: dict[str, Any] = {"nextOrder": None, "ordersWithError": set()}
    with _PYBLISH, _stopping_at_any_error():
        for plugin, instance in pyblish.logic.Iterator(ordered, context, state, targets=["default"]):
            result = pyblish.plugin.process(plugin, context, instance)
            if result["error"] is not None:
                state["ordersWithError"].add(plugin.order)
    results = context.data.get("results", [])
    _raise_errors(publication, results)
    _raise_skipped(ordered, context, {result["plugin"] for result in results})


@contextlib.contextmanager
def _stopping_at_any_error() -> Iterator[None]:
    before = pyblish.logic.registered_test()
    pyblish.api.register_test(_stop_at_any_error)
    try:
        yield
    finally:
        pyblish.api.register_test(before)


def _stop_at_any_error(**state: Any) -> str:
    """pyblish's test before each step: after an error only validators go on, so that all of them are heard."""
    errors: set[float] = state["ordersWithError"]
    if not errors or (_phase(state["nextOrder"]) == VALIDATE and all(_phase(order) == VALIDATE for order in errors)):
        return ""
    return "an earlier step failed"


def _phase(order: float) -> float:
    return float(round(order))


def _raise_errors(publication: Publication, results: list[dict[str, Any]]) -> None:
    """Raises: the one error that explains the others, or PublishRefused with every validator's."""
    failed = [(result["plugin"], result["error"]) for result in results if result["error"] is not None]
    for _, error in failed:
        # A full disk, a cancelled job, no memory: not the version's fault, so whoever called sees it as what it is.
        if isinstance(error, (StorageError, Cancelled, MemoryError)):
            raise error
    for plugin, error in failed:
        if not isinstance(error, PipelineError):
            raise PublishError(
                f"{publication.request.version.name}: {plugin.label} failed: {type(error).__name__}: {error}",
                "the log has the traceback",
            ) from error
    refused = [(plugin, error) for plugin, error in failed if _phase(plugin.order) == VALIDATE]
    if refused:
        faults = [Fault(str(plugin.label), error.message, error.hint) for plugin, error in refused]
        raise PublishRefused(publication.request.version.name, faults)
    for _, error in failed:
        raise error


def _raise_skipped(ordered: list[PluginType], context: Any, ran: set[type]) -> None:
    """Raises: PublishError (a step with something to do didn't run: pyblish drops those whose families it misreads)."""
    for plugin in ordered:
        due = not issubclass(plugin, InstancePlugin) or pyblish.logic.instances_by_plugin(context, plugin)
        if due and plugin not in ran:
            raise PublishError(f"the step {plugin.__name__} did not run", "look at its families and targets")
