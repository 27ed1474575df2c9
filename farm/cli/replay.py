"""`plates replay VERSION`: is it still made the same?"""

from __future__ import annotations

import json
from typing import Any

import click

from farm.cli.connect import connect
from farm.cli.main import EXIT_FAILED, EXIT_OK, fail
from farm.cli.submit import SUBMIT_TIMEOUT_S, follow
from farm.cli.taste import find_version


@click.command()
@click.argument("version")
@click.option("--pool", default="", help="Which workers may do it (default: those that might have).")
@click.option("--priority", type=click.IntRange(0, 100), default=50, show_default=True)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until it is compared.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def replay(version: str, pool: str, priority: int, wait: bool, as_json: bool) -> None:
    """Make VERSION, a number or a name, again and compare: bit-equal, or the largest difference. Publishes nothing."""
    client = connect(SUBMIT_TIMEOUT_S)
    found = find_version(client, version)
    reply = client.post(f"/v1/versions/{found['id']}/replay", {"pool": pool, "priority": priority})
    click.echo(f"job {reply['job']} makes {found['name']} again, frames {reply['frames']}", err=True)
    if not wait:
        click.echo(json.dumps(reply) if as_json else str(reply["job"]))
        return
    ended = follow(client, reply["job"])
    if ended["state"] != "succeeded":
        fail(f"job {ended['job']} {ended['state']}: {ended['message']}", ended["hint"], as_json=as_json)
    compared: dict[str, Any] = ended["replay"]
    if as_json:
        click.echo(json.dumps(ended))
    else:
        click.echo(f"{compared['name']}: {compared['sentence']}")
        for name, (then, now) in compared["software"].items():
            click.echo(f"  {name} was {then or 'absent'}, is {now or 'absent'}")
    raise SystemExit(EXIT_OK if compared["bit_equal"] else EXIT_FAILED)
