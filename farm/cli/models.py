"""`plates models …`: the studio's own models, from a training to production and back."""

from __future__ import annotations

import json
import os
import tarfile
import time
from collections.abc import Callable, Mapping, Sized
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click

from farm.cli.amounts import estimate_line, spent_line
from farm.cli.connect import connect
from farm.cli.look import table
from farm.cli.main import EXIT_FAILED, EXIT_OK, fail
from farm.cli.submit import SUBMIT_TIMEOUT_S, follow

F = TypeVar("F", bound=Callable[..., Any])
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
_TASK = click.option("--task", help="The model's task, where a name alone isn't clear.")
_MODEL = click.argument("model")
_SET = click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="A parameter; again for several.")
_QUEUE = (
    click.option("--priority", type=click.IntRange(0, 100), help="0 to 100, higher is sooner (default 50)."),
    click.option("--pool", help="Which workers may do it."),
    click.option("--wait", is_flag=True, help="Stay until the job has ended."),
    click.option("--dry-run", is_flag=True, help="Check everything, show the plan, start nothing."),
)
_LONG_S = 3600.0


def _queued(command: F) -> F:
    for option in reversed(_QUEUE):
        command = option(command)
    return command


@click.group()
def models() -> None:
    """The studio's own models.

    MODEL is `name@v003`, a name alone for its newest, an alias such as `roto@production`, or `sha256:…`.
    """


@models.command("list")
@_TASK
@click.option("--all", "retired", is_flag=True, help="Retired ones too.")
@_JSON
def list_models(task: str | None, retired: bool, as_json: bool) -> None:
    """List the studio's models, newest first."""
    found = connect().get("/v1/models", task=task, retired=str(retired).lower())
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        [
            card["label"],
            card["task"],
            card["state"],
            " ".join(f"{card['task']}@{alias}" for alias in card["aliases"]) or "-",
            _score(card["score"]),
            card["family"],
            card["licence"],
            card["sha256"][:12],
        ]
        for card in found
    ]
    table(["MODEL", "TASK", "STATE", "ALIAS", "SCORE", "FAMILY", "LICENCE", "SHA256"], rows)


def _score(score: Mapping[str, Any] | None) -> str:
    return "-" if score is None else f"{score['measure']} {score['value']:.4f}"


@models.command()
@_MODEL
@_TASK
@_JSON
def show(model: str, task: str | None, as_json: bool) -> None:
    """One model: what it was made from, who consented, how it was judged."""
    card = connect().get(f"/v1/models/{quote(model, safe='')}", task=task)
    if as_json:
        click.echo(json.dumps(card))
        return
    facts = {
        "task": card["task"],
        "state": card["state"],
        "aliases": ", ".join(f"{card['task']}@{alias}" for alias in card["aliases"]),
        "family": card["family"],
        "sha256": card["sha256"],
        "weights": card["path"],
        "base": card["base"],
        "licence": card["licence"],
        "made by": f"{card['created_by']}, {_day(card['created_at'])}"
        + (f", job {card['job']}" if card["job"] else ""),
        "source": card["lineage"].get("source", ""),
        "note": card["note"],
    }
    click.echo(card["label"])
    for name, value in facts.items():
        if value:
            click.echo(f"  {name:8}  {value}")
    for one in card["lineage"].get("versions", ()):
        consent = one["consent"]
        said = f"{consent.get('by', '?')}, {consent.get('reference') or 'no reference'}" if consent else "not recorded"
        click.echo(f"  learned from {one['name']}  (consent: {said})")
    for one in card["lineage"].get("held_out", ()):
        click.echo(f"  held out {one['shot']}")
    for score in card["scores"]:
        beside = score["beside"]
        against = f", {beside['label']} {beside['value']:.4f}" if beside else ""
        click.echo(f"  scored {_score(score)}{against}  ({_day(score['at'])}, job {score['job']})")
        for shot, measures in score["shots"].items():
            theirs = f", {beside['shots'][shot][score['measure']]:.4f}" if beside and shot in beside["shots"] else ""
            click.echo(f"    {shot}  {measures[score['measure']]:.4f}{theirs}")
    for move in card["promotions"]:
        click.echo(f"  {move['task']}@{move['alias']} since {_day(move['at'])} by {move['by']}: {_why(move)}")


def _why(move: Mapping[str, Any]) -> str:
    evidence = move["evidence"]
    if move["reason"] == "won":
        return f"won by {evidence['gain']:+.4f} over {evidence['against']}"
    if move["reason"] == "override":
        return f"overridden: {evidence['said']}"
    return str(move["reason"])


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


@models.command()
@click.argument("task")
@click.argument("name")
@click.argument("path", type=click.Path())
@click.option("--licence", required=True, help="SPDX identifier, or LicenseRef-…")
@click.option("--base", default="", help="For a LoRA: the model that it goes with.")
@click.option("--sha256", default="", help="The hash that they must have.")
@click.option("--source", default="", help="Where they come from.")
@click.option("--note", default="")
@_JSON
def add(task: str, name: str, path: str, as_json: bool, **given: str) -> None:
    """Give weights at PATH a card: safetensors or ONNX, a file or a folder."""
    body = {"task": task, "name": name, "path": os.path.abspath(path), **given}  # noqa: PTH100 - links are the dispatcher's to follow
    card = connect(SUBMIT_TIMEOUT_S).post("/v1/models", body)
    click.echo(json.dumps(card) if as_json else f"{card['label']}  {card['family']}  sha256 {card['sha256'][:12]}")


@models.command()
@click.argument("task")
@click.argument("name")
@click.option("--version", "versions", multiple=True, help="An approved version to learn from; again for several.")
@click.option("--show", help="Learn from this show's approved versions alone.")
@click.option("--hold-out", multiple=True, metavar="SHOW/SEQ/SHOT", help="Judge by this shot, and never learn from it.")
@click.option("--base", default="", help="A model to start from; else the task's own.")
@click.option("--licence", default="", help="Of the result (default LicenseRef-STUDIO).")
@click.option("--note", default="")
@click.option("--seed", default=0, type=click.IntRange(0, 2**31 - 1))
@_SET
@_queued
@_JSON
def finetune(task: str, name: str, given: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Train a model NAME for TASK from the studio's approved versions, and judge it on held-out shots."""
    body = {
        "task": task,
        "name": name,
        "parameters": _given(given),
        "versions": options["versions"],
        "hold_out": options["hold_out"],
        **{key: options[key] for key in ("show", "base", "licence", "note", "seed", "priority", "pool")},
    }
    _submit("/v1/models/finetune", body, options, as_json)


@models.command()
@_MODEL
@_TASK
@_SET
@_queued
@_JSON
def score(model: str, task: str | None, given: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Judge MODEL on the held-out shots, beside the one in production."""
    body = {"parameters": _given(given), "priority": options["priority"], "pool": options["pool"]}
    _submit(_path(model, "score", task), body, options, as_json)


@models.command()
@_MODEL
@_TASK
@click.option("--alias", default="production", show_default=True)
@click.option("--override", default="", metavar="WHY", help="Answer for it, where it didn't win.")
@_JSON
def promote(model: str, task: str | None, alias: str, override: str, as_json: bool) -> None:
    """Let TASK@production stand for MODEL: it must have won on the held-out shots."""
    moved = connect().post(_path(model, "promote", task), {"alias": alias, "override": override})
    click.echo(json.dumps(moved) if as_json else f"{moved['task']}@{alias} is {moved['label']}: {_why(moved)}")


@models.command()
@click.argument("task")
@click.option("--alias", default="production", show_default=True)
@_JSON
def rollback(task: str, alias: str, as_json: bool) -> None:
    """Let TASK@production stand for what it stood for before."""
    moved = connect().post("/v1/models/rollback", {"task": task, "alias": alias})
    what = moved["label"] or "the task's own weights"
    click.echo(json.dumps(moved) if as_json else f"{task}@{alias} is {what}")


@models.command()
@_MODEL
@_TASK
@click.option("--undo", is_flag=True, help="Take it up again, as a candidate.")
@_JSON
def retire(model: str, task: str | None, undo: bool, as_json: bool) -> None:
    """Take MODEL out of use. Its card stays, for the versions that it made."""
    card = connect().post(_path(model, "retire", task), {"undo": undo})
    click.echo(json.dumps(card) if as_json else f"{card['label']} is {card['state']}")


@models.command()
@_MODEL
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_TASK
def export(model: str, folder: Path, task: str | None) -> None:
    """Write MODEL's weights and its card into FOLDER/name@v003."""
    client = connect(_LONG_S)
    card = client.get(f"/v1/models/{quote(model, safe='')}", task=task)
    into = folder / card["label"]
    if into.exists():
        fail(f"{into} is there already", "name another folder, or remove it", code=EXIT_FAILED)
    part = folder / f".{card['label']}.{os.getpid()}.part"
    part.mkdir(parents=True)
    query = f"?task={quote(task)}" if task else ""
    raw = client.get_bytes(f"/v1/models/{card['id']}/weights{query}")
    if Path(card["path"]).suffix:
        (part / f"{card['name']}{Path(card['path']).suffix}").write_bytes(raw)
    else:
        _unpack(raw, part / card["name"])
    (part / "card.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(into)
    click.echo(str(into))


def _unpack(raw: bytes, folder: Path) -> None:
    import io

    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
        tar.extractall(folder, filter="data")  # plain files below the folder, nothing else


def _path(model: str, verb: str, task: str | None) -> str:
    return f"/v1/models/{quote(model, safe='')}/{verb}" + (f"?task={quote(task)}" if task else "")


def _given(pairs: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE as a request has it: JSON where it is some, else text. Raises: click.UsageError."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise click.UsageError(f"--set {pair!r} is not NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _submit(path: str, body: Mapping[str, Any], options: Mapping[str, Any], as_json: bool) -> None:
    client = connect(SUBMIT_TIMEOUT_S)
    told = {name: value for name, value in body.items() if value not in (None, (), "")}
    if options["dry_run"]:
        plan = client.post(f"{path}{'&' if '?' in path else '?'}dry_run=true", told)
        click.echo(json.dumps(plan) if as_json else f"{_plan(plan)}\n{estimate_line(plan.get('estimate'))}")
        return
    reply = client.post(path, told)
    click.echo(_plan(reply), err=True)
    click.echo(estimate_line(reply.get("estimate")), err=True)
    if not options["wait"]:
        click.echo(json.dumps(reply) if as_json else str(reply["job"]))
        return
    ended = follow(client, reply["job"])
    if ended["state"] != "succeeded":
        fail(f"job {ended['job']} {ended['state']}: {ended['message']}", ended["hint"], as_json=as_json)
    click.echo(json.dumps(ended) if as_json else _outcome(ended["model"]))
    click.echo(spent_line(ended["cost"], ended["estimate"]), err=True)
    raise SystemExit(EXIT_OK)


def _plan(reply: Mapping[str, Any]) -> str:
    who = f"job {reply['job']}: {reply['name']}" if "job" in reply else str(reply["spec"]["name"])
    learned = f" learns from {_count(reply['lessons'], 'version')} and" if reply["lessons"] else ""
    judged = f"is judged on {_count(reply['held_out'], 'held-out shot')} against {reply['against']}"
    return "\n".join([f"{who}{learned} {judged}", *(f"  held out {name}" for name in reply["held_out"])])


def _count(things: Sized, word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def _outcome(model: Mapping[str, Any]) -> str:
    mine, theirs = (model["scores"][who]["value"] for who in ("candidate", "present"))
    return f"{model['label']}  {model['measure']} {mine:.4f} against {theirs:.4f} of {model['against']}"
