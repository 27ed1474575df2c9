"""`plates doctor`: is everything in place? Each line says what was looked at, and what to do where it isn't right."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import click

from farm.cli.connect import connect, settings
from farm.settings import FarmSettings


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    message: str
    hint: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def doctor(as_json: bool) -> None:
    """Check that everything is in place; ends with 1 when something isn't."""
    findings = [finding for look in _LOOKS for finding in look(settings())]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            click.echo(f"{'ok ' if finding.ok else 'BAD'}  {finding.what}: {finding.message}")
            if finding.hint and not finding.ok:
                click.echo(f"       {finding.hint}")
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


def _python(_: FarmSettings) -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", sys.version_info >= (3, 11), found, "Python 3.11 or newer is needed")


def _packages(_: FarmSettings) -> Iterator[Finding]:
    for module in ("OpenEXR", "OpenImageIO", "PyOpenColorIO", "opentimelineio", "pyblish"):
        yield Finding(module, importlib.util.find_spec(module) is not None, "installed", "pip install platewright")
    missing = [
        m for m in ("torch", "cv2", "safetensors", "efficientnet_lite_pytorch") if importlib.util.find_spec(m) is None
    ]
    message = "the extra is installed" if not missing else f"no {', '.join(missing)}: no worker can run here"
    yield Finding(
        "worker", not missing, message, "pip install 'platewright[worker]', unless this machine only dispatches"
    )


def _signing(_: FarmSettings) -> Iterator[Finding]:
    from pipeline.errors import PublishError
    from pipeline.publish.signing import signing_identity

    try:
        identity = signing_identity()
    except PublishError as error:
        yield Finding("signing", False, error.message, error.hint)
        return
    if identity is None:
        yield Finding("signing", True, "versions are not signed: no certificate is set")
    else:
        who = f"versions are signed by {identity.name} with {identity.algorithm}"
        yield Finding("signing", True, f"{who}, until {identity.until:%Y-%m-%d}")


def _tasks(_: FarmSettings) -> Iterator[Finding]:
    from pipeline.errors import PipelineError
    from pipeline.tasks.registry import tasks

    try:
        yield Finding("tasks", True, ", ".join(d.name for d in tasks()))
    except (PipelineError, ImportError) as error:
        yield Finding("tasks", False, str(error), "uninstall or mend the package that brings it")


def _folders(here: FarmSettings) -> Iterator[Finding]:
    for what, folder in (("data", here.data), ("published versions", here.publish_root)):
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(existing).free / 1e9
        writable = os.access(existing, os.W_OK)
        yield Finding(
            what, writable and free > 1, f"{folder}, {free:.0f} GB free", "make it writable, or free some space"
        )
    for root in here.roots:
        yield Finding("root", root.is_dir(), str(root), "mount it, or take it out of PLATEWRIGHT_ROOTS")


def _token(here: FarmSettings) -> Iterator[Finding]:
    path = here.token_file
    if path.exists():
        mode = path.stat().st_mode & 0o777
        yield Finding("token", mode == 0o600, f"{path}, mode {mode:03o}", f"chmod 600 {path}")


def _dispatcher(_: FarmSettings) -> Iterator[Finding]:
    from integrations._shared.client import DispatcherError
    from pipeline import __version__
    from pipeline.errors import PipelineError

    try:
        client = connect(3.0)
        found = client.get("/v1/status")
        workers = found["workers"]
    except (DispatcherError, PipelineError) as error:
        yield Finding("dispatcher", False, error.message, error.hint)
        return
    same = found["version"] == __version__
    yield Finding(
        "dispatcher", same, f"{client.url}, version {found['version']}", f"this command is {__version__}: update one"
    )
    alive = sum(n for state, n in workers.items() if state in ("idle", "busy"))
    yield Finding("workers", alive > 0, f"{alive} alive", "start one: plates worker")


_LOOKS: tuple[Callable[[FarmSettings], Iterator[Finding]], ...] = (
    _python,
    _packages,
    _signing,
    _tasks,
    _folders,
    _token,
    _dispatcher,
)
