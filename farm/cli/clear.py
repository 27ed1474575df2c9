"""`plates clear …`: who said yes to what."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from farm.cli.connect import connect
from farm.cli.look import table

_JSON = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")


@click.group()
def clear() -> None:
    """Clearances: a recorded yes for a show, a sequence or a shot."""


@clear.command()
@click.argument("kind", type=click.Choice(["inputs", "training", "final"]))
@click.argument("address", metavar="SHOW[/SEQ][/SHOT]")
@click.option("--by", default="", help="Who says yes, as on the paper (default: you).")
@click.option("--reference", default="", help="The paper: a contract, a mail, a ticket.")
@click.option("--note", default="")
@_JSON
def give(kind: str, address: str, by: str, reference: str, note: str, as_json: bool) -> None:
    """Record that KIND is allowed: inputs may be used, models may learn (training), results may go out (final)."""
    body = {"kind": kind, **_parts(address), "by": by, "reference": reference, "note": note}
    given = connect().post("/v1/clearances", body)
    click.echo(json.dumps(given) if as_json else _line(given))


@clear.command("list")
@click.option("--show")
@click.option("--kind", type=click.Choice(["inputs", "training", "final"]))
@_JSON
def list_clearances(show: str | None, kind: str | None, as_json: bool) -> None:
    """List clearances, withdrawn ones too."""
    found = connect().get("/v1/clearances", show=show, kind=kind)
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        [
            str(one["id"]),
            one["kind"],
            _address(one),
            one["by"],
            one["reference"] or "-",
            one["recorded_by"],
            _day(one["given_at"]),
            f"withdrawn {_day(one['withdrawn_at'])} by {one['withdrawn_by']}" if one["withdrawn_at"] else "",
        ]
        for one in found
    ]
    table(["ID", "KIND", "FOR", "BY", "REFERENCE", "RECORDED BY", "SINCE", ""], rows)


@clear.command()
@click.argument("clearance", type=int)
@_JSON
def withdraw(clearance: int, as_json: bool) -> None:
    """End a clearance from now on."""
    ended = connect().post(f"/v1/clearances/{clearance}/withdraw", {})
    click.echo(json.dumps(ended) if as_json else f"withdrawn: {_line(ended)}")


def _parts(address: str) -> dict[str, str]:
    """`show`, `show/shot` or `show/sequence/shot`; `show/sequence/` for a whole sequence."""
    parts = address.split("/")
    if len(parts) > 3 or not parts[0]:
        raise click.UsageError(f"{address!r} is no SHOW[/SEQ][/SHOT]")
    if len(parts) == 3:
        return {"show": parts[0], "sequence": parts[1], "shot": parts[2]}
    return {"show": parts[0], "sequence": "", "shot": parts[1] if len(parts) == 2 else ""}


def _address(one: dict[str, Any]) -> str:
    return "/".join(part for part in (one["show"], one["sequence"], one["shot"]) if part)


def _line(one: dict[str, Any]) -> str:
    paper = f", {one['reference']}" if one["reference"] else ""
    return f"clearance {one['id']}: {one['kind']} for {_address(one)}, by {one['by']}{paper}"


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at))
