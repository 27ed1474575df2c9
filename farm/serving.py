"""Starting and stopping a dispatcher: settings in, a served application out."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from farm.api.app import Services, create_app
from farm.api.auth import Doorkeeper
from farm.clock import steady_clock
from farm.dispatcher import Dispatcher
from farm.engines.base import Engine
from farm.engines.local import LocalEngine
from farm.inspector import Inspector
from farm.logbook import LogBook
from farm.settings import FarmSettings
from farm.store import SqlStore
from farm.tokens import Identity, Scope, local_token, same_token
from pipeline.errors import ServerError
from pipeline.paths import storage_error

log = logging.getLogger("platewright.serve")


class Farm:
    """A dispatcher with all that it needs, open until `close`."""

    def __init__(self, settings: FarmSettings) -> None:
        try:
            settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.token = local_token(settings.token_file)
            secret = _secret(settings.data / "cookie-secret")
        except OSError as error:
            raise storage_error(error, settings.data) from error
        self.settings = settings
        self.store = SqlStore.open(settings.database_url)
        self.dispatcher = Dispatcher(self.store, settings)
        self.door = Doorkeeper(secret)
        self.services = Services(
            settings=settings,
            dispatcher=self.dispatcher,
            inspector=Inspector(),
            door=self.door,
            logbook=LogBook(settings.data / "logs", clock=steady_clock()),
        )

    def app(self) -> FastAPI:
        """The application over it."""
        return create_app(self.services, self)

    def identity(self, token: str) -> Identity | None:
        """See TokenBook: the local token is this machine's own user, who may do everything in its studio."""
        return self._local() if same_token(token, self.token) else self.dispatcher.token(token)

    def is_current(self, who: Identity) -> bool:
        """See TokenBook."""
        return who == self._local() or self.dispatcher.is_current(who)

    def _local(self) -> Identity:
        return Identity("local", self.settings.studio, frozenset({Scope.ADMIN}))

    def page_path(self, to: str) -> str:
        """A path that opens the page once, signed in as this machine's own user."""
        ticket = self.door.ticket(self._local())
        return f"/enter?ticket={ticket}&to={to}"

    def close(self) -> None:
        """Let go of the database."""
        self.store.close()


def run_server(settings: FarmSettings, *, workers: int, say: Callable[[str], None]) -> None:
    """Serve until a signal comes. Raises: ServerError (the port is taken), StorageError (the database)."""
    listener = _listen(settings)
    farm = Farm(settings)
    engine: Engine = LocalEngine(
        workers, environment={"PLATEWRIGHT_URL": settings.url, "PLATEWRIGHT_TOKEN": farm.token}
    )
    config = uvicorn.Config(
        farm.app(),
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_keep_alive=120,
        # An open event stream would keep a stopping server alive for ever.
        timeout_graceful_shutdown=2,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        server_header=False,
    )
    server = uvicorn.Server(config)
    say(f"dispatcher at {settings.url}, data in {settings.data}, versions in {settings.publish_root}")
    if not settings.roots:
        say("files: all that this user may read, because it listens on this machine only; PLATEWRIGHT_ROOTS narrows it")
    say(f"page: {settings.url}{farm.page_path('/jobs')}")
    # uvicorn gives the signal on once it has stopped; what comes after it here must still happen.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    # The writer's thread and the loop hand the interpreter to each other with every request; its default turn is 5 ms.
    sys.setswitchinterval(0.001)
    try:
        engine.start()
        asyncio.run(server.serve(sockets=[listener]))
    finally:
        engine.stop()
        farm.close()
        listener.close()


def _listen(settings: FarmSettings) -> socket.socket:
    """The listening socket, bound before anything else starts, so that a taken port leaves nothing half-started."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's delay off for sockets that say TCP only: 40 ms an answer otherwise.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise ServerError(
            f"{settings.host}:{settings.port} can't be listened on: {error.strerror}",
            "another dispatcher may run: choose --port",
        ) from error
    listener.listen(512)
    return listener


def _secret(path: Path) -> bytes:
    """The key that cookies are signed with, made on first start, readable by this user alone."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        secret = secrets.token_bytes(32)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
        return secret
