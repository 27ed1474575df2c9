"""How the command line finds its dispatcher: PLATEWRIGHT_URL and PLATEWRIGHT_TOKEN, else this machine's own."""

from __future__ import annotations

import os

import click

from farm.settings import FarmSettings
from integrations._shared.client import Client
from pipeline.errors import AuthError


def settings() -> FarmSettings:
    """The settings of this machine, from the environment."""
    return FarmSettings.read()


def connect(timeout_s: float = 10.0) -> Client:
    """A client of the dispatcher, closed when the command ends. Raises: AuthError (no token to be found)."""
    client = _client(timeout_s)
    if (command := click.get_current_context(silent=True)) is not None:
        command.call_on_close(client.close)
    return client


def _client(timeout_s: float) -> Client:
    here = settings()
    url = os.environ.get("PLATEWRIGHT_URL") or here.url
    token = os.environ.get("PLATEWRIGHT_TOKEN")
    if not token:
        try:
            token = here.token_file.read_text().strip()
        except OSError:
            if not os.environ.get("PLATEWRIGHT_URL"):
                # Nothing was ever started here: the dispatcher's absence is the fault to speak of, not the token's.
                return Client(url, "", timeout_s)
            raise AuthError(f"no token for {url}", "set PLATEWRIGHT_TOKEN to one that its TD gave you") from None
    return Client(url, token, timeout_s)
