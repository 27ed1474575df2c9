"""Commands that only look."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from farm.cli.amounts import estimate_line, spent_line
from farm.cli.connect import connect
from farm.cli.submit import progress_line

_JSON = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")


def table(columns: list[str], rows: list[list[str]]) -> None:
    """Columns on stdout, as wide as they need to be: it reads in a terminal and in a pipe."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def stars(judged: dict[str, Any]) -> str:
    """A mean rating, and of how many."""
    return f"{judged['rating']:.1f} ({judged['ratings']})" if judged["ratings"] else "-"


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0, seconds):.0f}s"


@click.command()
@click.option("--state", multiple=True, help="Only these states; again for several.")
@click.option("--show")
@click.option("--user")
@click.option("--limit", default=30, show_default=True, type=click.IntRange(1, 500))
@_JSON
def jobs(state: tuple[str, ...], show: str | None, user: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    query: dict[str, Any] = {"show": show, "user": user, "limit": limit, "state": state or None}
    found = connect().get("/v1/jobs", **query)
    if as_json:
        click.echo(json.dumps(found))
        return
    now = time.time()
    table(
        ["JOB", "STATE", "DONE", "TASK", "SHOT", "VERSION", "PRIO", "USER", "AGE", ""],
        [
            [
                str(j["id"]),
                j["state"],
                f"{j['progress'] * 100:.0f}%",
                j["task"],
                "/".join(p for p in (j["show"], j["sequence"], j["shot"]) if p),
                _makes(j),
                str(j["priority"]),
                j["user"] or "-",
                _age(now - j["created_at"]),
                j["message"],
            ]
            for j in found
        ],
    )


def _makes(job: dict[str, Any]) -> str:
    """What comes of a job: its first version's number, or the model that it teaches or judges."""
    if job["kind"] in ("training", "scoring"):
        return str(job["name"]).partition(" model ")[2]
    return str(job["versions"][0]["name"]).rsplit("_", 1)[-1] if job["versions"] else "-"


@click.command()
@click.argument("job", type=int, required=False)
@_JSON
def status(job: int | None, as_json: bool) -> None:
    """How the dispatcher is doing; with JOB, how that job is, and why it isn't running."""
    client = connect()
    if job is None:
        found: dict[str, Any] = client.get("/v1/status")
        if as_json:
            click.echo(json.dumps(found))
            return
        click.echo(f"dispatcher {found['version']} at {client.url}, {found['database']}")
        for what in ("jobs", "chunks", "workers"):
            counts = ", ".join(f"{n} {state}" for state, n in found[what].items() if n) or "none"
            click.echo(f"  {what}: {counts}")
        return
    detail = client.get(f"/v1/jobs/{job}")
    if as_json:
        click.echo(json.dumps(detail))
        return
    view = detail["job"]
    click.echo(f"job {view['id']}  {view['name']}  {progress_line(view)}")
    if view["hint"]:
        click.echo(f"  {view['hint']}")
    if detail["why_waiting"]:
        click.echo(f"  {detail['why_waiting']}")
    if detail["estimate"]:
        click.echo(f"  estimated: {estimate_line(detail['estimate'])}")
    if detail["cost"]["machine_s"]:
        click.echo(f"  {spent_line(detail['cost'])}")
    for chunk in detail["chunks"]:
        where = f" on {chunk['worker']}" if chunk["worker"] else ""
        click.echo(f"  {chunk['step']:8} {chunk['frames']:14} {chunk['state']:10} attempt {chunk['attempt']}{where}")
        for tried in chunk["attempts"]:
            if tried["reason"]:
                click.echo(f"      attempt {tried['number']} on {tried['worker']}: {tried['reason']}")


@click.command()
@click.argument("job", type=int)
@click.option("--chunk", type=int, help="Only this chunk's attempts.")
@click.option("--attempt", type=int, help="Only this attempt.")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended.")
@_JSON
def log(job: int, chunk: int | None, attempt: int | None, follow: bool, as_json: bool) -> None:
    """Print the log of a job's attempts."""
    client = connect()
    seen: dict[tuple[int, int], int] = {}
    while True:
        ended = client.get(f"/v1/jobs/{job}")["job"]["state"] in ("succeeded", "failed", "cancelled", "paused")
        for entry in client.get(f"/v1/jobs/{job}/log", chunk=chunk, attempt=attempt):
            _print_attempt(entry, seen, as_json)
        if not follow or ended:
            return
        time.sleep(0.5)


def _print_attempt(entry: dict[str, Any], seen: dict[tuple[int, int], int], as_json: bool) -> None:
    place = (entry["chunk"], entry["attempt"])
    fresh = entry["lines"][seen.get(place, 0) :]
    if as_json:
        for line in fresh:
            click.echo(json.dumps({**{k: entry[k] for k in ("step", "chunk", "attempt", "worker")}, **line}))
    elif fresh or place not in seen:
        click.echo(
            f"== {entry['step']} chunk {entry['chunk']} attempt {entry['attempt']} on {entry['worker']}: {entry['state']}"
        )
        for line in fresh:
            click.echo(f"{time.strftime('%H:%M:%S', time.localtime(line['t']))}  {line['text']}")
    seen[place] = len(entry["lines"])


@click.command()
@click.argument("job", type=int)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to (default job-JOB.jpg).")
def sheet(job: int, out: Path | None) -> None:
    """Write the contact sheet of a job's published takes."""
    target = out or Path(f"job-{job}.jpg")
    target.write_bytes(connect().get_bytes(f"/v1/jobs/{job}/sheet.jpg", timeout_s=60))
    click.echo(str(target))


@click.command()
@click.option("--show")
@click.option("--shot")
@click.option("--product")
@click.option("--approved", is_flag=True, help="Only those that somebody approved.")
@click.option("--picked", is_flag=True, help="Only those that somebody picked.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500))
@_JSON
def versions(approved: bool, picked: bool, as_json: bool, **query: Any) -> None:
    """List published versions, newest first."""
    query |= {name: "true" for name, wanted in (("approved", approved), ("picked", picked)) if wanted}
    found = connect().get("/v1/versions", **query)
    if as_json:
        click.echo(json.dumps(found))
        return
    table(
        ["VERSION", "FRAMES", "LAYERS", "RATED", "PICKED", "APPROVED", "JOB", "FOLDER"],
        [
            [
                v["name"],
                v["frames"],
                " ".join(v["layers"]),
                stars(v["taste"]),
                ", ".join(v["taste"]["picked_by"]) or "-",
                v["taste"]["approved_by"]["user"] if v["taste"]["approved_by"] else "-",
                str(v["job_id"]),
                v["folder"],
            ]
            for v in found
        ],
    )


@click.command()
@click.argument("task_name", metavar="TASK")
@click.option("--training", is_flag=True, help="What `plates models finetune` takes by --set.")
@_JSON
def form(task_name: str, training: bool, as_json: bool) -> None:
    """Show a task's parameters, as every panel is drawn from them."""
    from pipeline.errors import TaskError
    from pipeline.parameters import describe
    from pipeline.tasks.registry import task

    definition = task(task_name)
    parameters = definition.parameters
    if training:
        if definition.training is None:
            raise TaskError(f"{definition.label} has nothing that learns", "its models are given by path, or added")
        parameters = definition.training.parameters
    form_ = {
        "task": definition.name,
        "label": definition.label,
        "help": definition.help,
        **describe(parameters),
    }
    if as_json:
        click.echo(json.dumps(form_))
        return
    click.echo(f"{definition.label}: {definition.help}")
    for entry in form_["parameters"]:
        default = "required" if entry["required"] else f"default {entry.get('default')}"
        bounds = f", {entry['min']} to {entry['max']}" if "min" in entry and "max" in entry else ""
        click.echo(
            f"  --{entry['name'].replace('_', '-'):14} {entry['kind']:7} {default}{bounds}{entry['unit'] and ' ' + entry['unit']}"
        )
        click.echo(f"      {entry['help']}")


@click.command("open")
@click.argument("job", type=int, required=False)
@click.option("--browser/--no-browser", default=None, help="Open it at once (where a terminal is).")
def open_page(job: int | None, browser: bool | None) -> None:
    """Print the page's address, with a ticket that signs you in once."""
    client = connect()
    reply = client.post("/v1/tickets", {"to": f"/jobs/{job}" if job else "/jobs"})
    address = client.url + reply["path"]
    click.echo(address)
    if browser or (browser is None and sys.stdout.isatty()):
        click.launch(address)
