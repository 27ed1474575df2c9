"""Commands that change a job's course."""

from __future__ import annotations

import json
from typing import Any

import click

from farm.cli.connect import connect
from integrations._shared.client import DispatcherError

_JOBS = click.argument("jobs", nargs=-1, type=int, required=True)
_CHUNK = click.option("--chunk", type=int, help="Only this chunk.")
_JSON = click.option("--json", "as_json", is_flag=True, help="The jobs as a JSON list on stdout.")
_FRAMES = click.option("--frames", metavar="RANGE", help="Only the chunks that hold these frames.")


def _act(verb: str, jobs: tuple[int, ...], body: dict[str, Any], as_json: bool) -> None:
    """Act on each job. One that it can't be done with doesn't keep the others from it. Raises: the first DispatcherError."""
    client = connect()
    views: list[dict[str, Any]] = []
    errors: list[DispatcherError] = []
    for job in jobs:
        try:
            view = client.post(f"/v1/jobs/{job}/{verb}", {k: v for k, v in body.items() if v is not None})
        except DispatcherError as error:
            if error.unreachable:
                raise
            errors.append(error)
            if len(jobs) > 1:
                click.echo(f"job {job}: {error.message}", err=True)
            continue
        views.append(view)
        if not as_json:
            click.echo(f"job {job}: {view['state']}")
    if errors:
        raise errors[0]
    if as_json:
        click.echo(json.dumps(views))


@click.command()
@_JOBS
@_JSON
def cancel(jobs: tuple[int, ...], as_json: bool) -> None:
    """Stop JOBS for good; their version numbers are given back."""
    _act("cancel", jobs, {}, as_json)


@click.command()
@_JOBS
@_JSON
def pause(jobs: tuple[int, ...], as_json: bool) -> None:
    """Let JOBS wait: what runs is stopped without blame."""
    _act("pause", jobs, {}, as_json)


@click.command()
@_JOBS
@_JSON
def resume(jobs: tuple[int, ...], as_json: bool) -> None:
    """Let paused JOBS go on."""
    _act("resume", jobs, {}, as_json)


@click.command()
@_JOBS
@_CHUNK
@_FRAMES
@_JSON
def retry(jobs: tuple[int, ...], chunk: int | None, frames: str | None, as_json: bool) -> None:
    """Try what failed in JOBS again; with --chunk or --frames, these, failed or not."""
    _act("retry", jobs, {"chunk": chunk, "frames": frames}, as_json)


@click.command()
@_JOBS
@_CHUNK
@_FRAMES
@_JSON
def skip(jobs: tuple[int, ...], chunk: int | None, frames: str | None, as_json: bool) -> None:
    """Leave work of JOBS out and go on without it."""
    _act("skip", jobs, {"chunk": chunk, "frames": frames}, as_json)


@click.command()
@click.argument("value", type=click.IntRange(0, 100))
@_JOBS
@_JSON
def priority(value: int, jobs: tuple[int, ...], as_json: bool) -> None:
    """Give JOBS the priority VALUE, 0 to 100; higher is sooner."""
    _act("priority", jobs, {"priority": value}, as_json)
