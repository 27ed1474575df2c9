"""What people say of versions, presets, and `plates recall`."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from farm.cli.connect import connect
from farm.cli.look import stars, table
from farm.cli.submit import SUBMIT_TIMEOUT_S, hand_in
from integrations._shared.client import Client, DispatcherError

_JSON = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
_VERSION = click.argument("version")
_BACK = click.option("--take-back", is_flag=True, help="It no longer holds.")
_SET = click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter; again for each. No VALUE: not set, where that can be.",
)
_NEEDS_TASK = "name its --task, or a version with --from"


def _say(version: str, as_json: bool, **said: Any) -> None:
    """Say something of a version, and print what is thought of it now."""
    client = connect()
    found = find_version(client, version)
    taste = client.post(f"/v1/versions/{found['id']}/reviews", said)
    click.echo(json.dumps(taste) if as_json else f"{found['name']}: {words_of(taste)}")


def find_version(client: Client, text: str) -> dict[str, Any]:
    """The version that a person means: its number, or its name such as `demo_s010_roto_v003`. Raises: DispatcherError."""
    if text.isascii() and text.isdigit():
        found: dict[str, Any] = client.get(f"/v1/versions/{text}")
        return found
    named: list[dict[str, Any]] = client.get("/v1/versions", name=text, limit=1)
    if not named:
        raise DispatcherError(
            404, "NotFoundError", f"no published version is called {text}", "`plates versions` lists them"
        )
    return named[0]


def words_of(taste: dict[str, Any]) -> str:
    """What a version is thought of, in one line."""
    parts: list[str] = []
    if taste["approved_by"]:
        parts.append(f"approved by {taste['approved_by']['user']}")
    if taste["picked_by"]:
        parts.append(f"picked by {', '.join(taste['picked_by'])}")
    if taste["ratings"]:
        people = "1 person" if taste["ratings"] == 1 else f"{taste['ratings']} people"
        parts.append(f"rated {taste['rating']:.1f} by {people}")
    if taste["notes"]:
        parts.append("1 note" if len(taste["notes"]) == 1 else f"{len(taste['notes'])} notes")
    return "; ".join(parts) or "nobody has said anything"


@click.command()
@_VERSION
@_BACK
@_JSON
def approve(version: str, take_back: bool, as_json: bool) -> None:
    """Say that VERSION, a number or a name, is finished: models may learn from it."""
    _say(version, as_json, kind="approve", value=int(not take_back))


@click.command()
@_VERSION
@_BACK
@_JSON
def pick(version: str, take_back: bool, as_json: bool) -> None:
    """Pick VERSION to go on with. Of a job's takes you pick one: an earlier pick of yours is taken back."""
    _say(version, as_json, kind="pick", value=int(not take_back))


@click.command()
@_VERSION
@click.argument("stars", type=click.IntRange(0, 5))
@_JSON
def rate(version: str, stars: int, as_json: bool) -> None:
    """Rate VERSION with STARS, 1 (poor) to 5 (final); 0 takes your rating back."""
    _say(version, as_json, kind="rate", value=stars)


@click.command()
@_VERSION
@click.argument("text", required=False)
@_JSON
def note(version: str, text: str | None, as_json: bool) -> None:
    """Write TEXT on VERSION. Without TEXT: everything that was said of it, oldest first."""
    if text is not None:
        _say(version, as_json, kind="note", text=text)
        return
    client = connect()
    found = client.get(f"/v1/versions/{find_version(client, version)['id']}/reviews")
    if as_json:
        click.echo(json.dumps(found))
        return
    for said in found["history"]:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(said["at"]))
        click.echo(f"{when}  {said['user']:16} {_said(said)}")


def _said(said: dict[str, Any]) -> str:
    kind, value, text = said["kind"], said["value"], said["text"]
    if kind == "note":
        return str(text)
    did = {"pick": "picked it", "approve": "approved it", "rate": f"rated it {value}"}
    took = {"pick": "took the pick back", "approve": "took the approval back", "rate": "took the rating back"}
    return (did if value else took)[kind] + (f": {text}" if text else "")


@click.group()
def presets() -> None:
    """Named parameters of a show's task, for `plates submit --preset`."""


@presets.command("list")
@click.option("--task")
@click.option("--show")
@_JSON
def list_(task: str | None, show: str | None, as_json: bool) -> None:
    """List presets: those whose takes were picked most come first."""
    found = connect().get("/v1/presets", task=task, show=show)
    if as_json:
        click.echo(json.dumps(found))
        return
    table(
        ["PRESET", "TASK", "SHOW", "PICKS", "RATED", "USES", "BY", "PARAMETERS"],
        [
            [
                one["name"],
                one["task"],
                one["show"],
                str(one["picks"]),
                stars(one),
                str(one["uses"]),
                one["created_by"],
                _parameters(one),
            ]
            for one in found
        ],
    )


def _parameters(preset: dict[str, Any]) -> str:
    given = {**({"model": preset["model"]} if preset["model"] else {}), **preset["parameters"]}
    return " ".join(f"{name}={json.dumps(value)}" for name, value in given.items())


@presets.command("save")
@click.argument("name")
@click.option("--task", help="Of which task; that of the version, with --from.")
@click.option("--show", help="Of which show; that of the version, or the dispatcher's own, where it isn't given.")
@click.option(
    "--from", "version", metavar="VERSION", help="Take the parameters of a version: not its seed, nor its shot's."
)
@_SET
@click.option("--model", default="", help="Which weights; whatever is used without a word where it isn't given.")
@_JSON
def save(
    name: str,
    task: str | None,
    show: str | None,
    version: str | None,
    changes: tuple[str, ...],
    model: str,
    as_json: bool,
) -> None:
    """Keep parameters under NAME; what was saved under it before goes."""
    from farm.cli.options import set_values
    from pipeline.tasks.registry import task as task_of

    client = connect()
    body: dict[str, Any] = {"name": name, "show": show or "", "model": model}
    if version is not None:
        found = find_version(client, version)
        body["version"] = found["id"]
        task = task or client.get(f"/v1/versions/{found['id']}/recall")["task"]
    if task is None:
        raise click.UsageError(_NEEDS_TASK)
    kept = client.post("/v1/presets", {**body, "task": task, "parameters": set_values(task_of(task), changes)})
    click.echo(
        json.dumps(kept) if as_json else f"{kept['name']} of {kept['task']} in {kept['show']}: {_parameters(kept)}"
    )


@presets.command("delete")
@click.argument("name")
@click.option("--task")
@click.option("--show")
def delete(name: str, task: str | None, show: str | None) -> None:
    """Take the preset NAME away."""
    client = connect()
    found = [one for one in client.get("/v1/presets", task=task, show=show) if one["name"] == name]
    if len(found) != 1:
        these = ", ".join(f"--task {one['task']} --show {one['show']}" for one in found)
        raise click.UsageError(f"several are called {name}: {these}" if found else f"no preset is called {name}")
    client.post(f"/v1/presets/{found[0]['id']}/delete")
    click.echo(f"{name} of {found[0]['task']} in {found[0]['show']} is gone")


@click.command()
@_VERSION
@_SET
@click.option("--use", type=click.Choice(["temp", "final"]), help="What the result is for; the version's if not given.")
@click.option("--once", metavar="KEY", help="The same key is the same job, however often it is sent.")
@click.option("--wait", is_flag=True, help="Stay until the job has ended.")
@click.option("--dry-run", is_flag=True, help="Check everything, show the plan, start nothing.")
@_JSON
def recall(version: str, changes: tuple[str, ...], use: str | None, **given: Any) -> None:
    """Make VERSION, a number or a name, again: a new job with its plate, keys, parameters, seed and model."""
    from farm.cli.options import set_values
    from pipeline.tasks.registry import task as task_of

    client = connect(SUBMIT_TIMEOUT_S)
    path = f"/v1/versions/{find_version(client, version)['id']}/recall"
    body: dict[str, Any] = {} if use is None else {"use": use}
    if changes:
        body["parameters"] = set_values(task_of(client.get(path)["task"]), changes)
    hand_in(client, path, body, given)
