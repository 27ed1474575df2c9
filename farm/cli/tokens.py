"""`plates tokens`: give people, hosts and workers tokens of their own."""

from __future__ import annotations

import json
import time

import click

from farm.cli.connect import connect

_SCOPES = ("submit", "review", "wrangle", "worker", "admin")


@click.group()
def tokens() -> None:
    """Make, list and revoke tokens. Needs one with the scope admin, such as the dispatcher's own."""


@tokens.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPES),
    multiple=True,
    help="A right; again for each (default: submit and review).",
)
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def create(name: str, scopes: tuple[str, ...], as_json: bool) -> None:
    """Make a token for NAME, a person or a host. It is shown this once."""
    made = connect().post("/v1/tokens", {"name": name, "scopes": list(scopes) or ["submit", "review"]})
    click.echo(json.dumps(made) if as_json else made["token"])


@tokens.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def list_(as_json: bool) -> None:
    """List tokens, without their secrets."""
    found = connect().get("/v1/tokens")
    if as_json:
        click.echo(json.dumps(found))
        return
    for token in found:
        made = time.strftime("%Y-%m-%d", time.localtime(token["created_at"]))
        state = "revoked" if token["revoked_at"] else "valid"
        click.echo(f"{token['id']:4}  {token['name']:24} {made}  {state:8} {', '.join(token['scopes'])}")


@tokens.command("revoke")
@click.argument("token", type=int)
def revoke(token: int) -> None:
    """End TOKEN, by its number, at once."""
    connect().post(f"/v1/tokens/{token}/revoke")
    click.echo(f"token {token} is revoked")
