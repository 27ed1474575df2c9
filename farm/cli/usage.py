"""`plates usage`: what was spent on what, and how good estimates were."""

from __future__ import annotations

import json
from typing import Any

import click

from farm.cli.amounts import duration, money
from farm.cli.connect import connect
from farm.cli.look import table

_WAYS = ["job", "show", "shot", "model", "task", "user", "worker", "day", "use"]


@click.command()
@click.option("--by", type=click.Choice(_WAYS), default="show", show_default=True, help="What to add up by.")
@click.option("--since", default="30d", show_default=True, help="A day such as 2026-11-22, 30d, 12h or 2w ago, or all.")
@click.option("--until", default="all", help="Until before then; the same way.")
@click.option("--show", help="Only this show.")
@click.option("--limit", default=30, show_default=True, type=click.IntRange(1, 1000))
@click.option("--estimates", is_flag=True, help="How far estimates were off, instead.")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def usage(by: str, since: str, until: str, show: str | None, limit: int, estimates: bool, as_json: bool) -> None:
    """What work has cost: time of machines and GPUs, and money."""
    client = connect(30.0)
    period: dict[str, Any] = {"since": since, "until": until, "show": show}
    if estimates:
        found: Any = client.get("/v1/usage/estimates", **period)
    else:
        found = client.get("/v1/usage", by=by, limit=limit, **period)
    if as_json:
        click.echo(json.dumps(found))
    elif estimates:
        _print_accuracy(found)
    else:
        _print_usage(found)


def _print_usage(found: dict[str, Any]) -> None:
    if not found["rows"]:
        click.echo("nothing was done in that time", err=True)
        return
    currency = found["currency"]
    total = {**found["total"], "key": "all"}
    table(
        [found["by"].upper(), "JOBS", "MACHINE", "GPU", "LOST", "FRAMES", "MONEY", ""],
        [
            [
                row["key"] or "-",
                str(row["jobs"]),
                duration(row["machine_s"]),
                duration(row["gpu_s"]) if row["gpu_s"] else "-",
                duration(row["lost_s"]) if row["lost_s"] else "-",
                "-" if row["frames"] is None else str(row["frames"]),
                money(row["money"], currency),
                row["name"],
            ]
            for row in [*found["rows"], total]
        ],
    )
    if found["more"]:
        click.echo(f"and {found['more']} more; --limit shows them", err=True)


def _print_accuracy(found: list[dict[str, Any]]) -> None:
    if not found:
        click.echo("no job of that time was estimated and has succeeded", err=True)
        return
    table(
        ["TASK", "JOBS", "OFF BY", "LEANS"],
        [
            [
                row["task"] or "all",
                str(row["jobs"]),
                f"{row['typical'] * 100:.0f} %",
                f"{row['bias'] * 100:+.0f} %",
            ]
            for row in found
        ],
    )
