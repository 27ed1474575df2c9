"""A dispatcher served on loopback from this process, so that a test can also reach inside: tokens, clocks, folders."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from farm.serving import Farm, _listen
from farm.settings import FarmSettings
from farm.tokens import Scope
from integrations._shared.client import Client


class Served:
    """The farm and its address."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.settings = farm.settings
        self.host = f"127.0.0.1:{farm.settings.port}"
        self._clients: dict[str, Client] = {}

    def token(self, studio: str, name: str, *scopes: Scope) -> str:
        """A new token's secret."""
        return asyncio.run(self.farm.dispatcher.create_token(studio, name, scopes))[1]

    def revoke(self, studio: str, name: str) -> None:
        """End the tokens of that name."""
        for view in self.farm.dispatcher.tokens(studio):
            if view.name == name and view.revoked_at is None:
                asyncio.run(self.farm.dispatcher.revoke_token(studio, view.id))

    def client(self, token: str | None = None) -> Client:
        """The client with that token, or with the local one. It is closed in the end."""
        token = token or self.farm.token
        if token not in self._clients:
            self._clients[token] = Client(f"http://{self.host}", token, timeout_s=60)
        return self._clients[token]

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            client.close()

    def raw(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask without any help: status, headers in lower case, body. `Content_Length` becomes Content-Length."""
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.port, timeout=20)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            reply = connection.getresponse()
            return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
        finally:
            connection.close()


@contextmanager
def served(folder: Path, **settings: Any) -> Iterator[Served]:
    """Serve a new dispatcher for as long as the block lasts."""
    given = {"data": folder / "data", "publish_root": folder / "published", "port": 0, **settings}
    listener = _listen(FarmSettings.read({}, **given))
    farm = Farm(FarmSettings.read({}, **{**given, "port": listener.getsockname()[1]}))
    server = uvicorn.Server(
        uvicorn.Config(farm.app(), log_level="error", lifespan="on", timeout_graceful_shutdown=1, timeout_keep_alive=30)
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < deadline, "the dispatcher doesn't start"
            assert thread.is_alive()
            time.sleep(0.01)
        house = Served(farm)
        try:
            yield house
        finally:
            house.close()
    finally:
        server.should_exit = True
        thread.join()
        farm.close()
        listener.close()
