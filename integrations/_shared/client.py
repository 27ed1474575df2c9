"""The dispatcher over HTTP, standard library only: what hosts, the command line and workers all speak through.

Python 3.9 syntax, because a host's interpreter runs it. One connection is kept open; a client belongs to one thread.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

SCHEMA = "platewright/1"
DEFAULT_URL = "http://127.0.0.1:8763"


class DispatcherError(Exception):
    """The dispatcher said no, or could not be asked. `status` is 0 when it wasn't reached at all."""

    def __init__(
        self, status: int, error: str, message: str, hint: str = "", faults: list[dict[str, str]] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message
        self.hint = hint
        self.faults = faults or []

    @property
    def unreachable(self) -> bool:
        """Whether no dispatcher answered."""
        return self.status == 0


class Client:
    """One dispatcher, asked with one token."""

    def __init__(self, url: str, token: str, timeout_s: float = 10.0) -> None:
        parts = _address(url)
        if not token.isascii() or not token.isprintable():
            raise DispatcherError(
                0, "AuthError", "the token holds characters that no token has", "copy it again, whole"
            )
        self.url = url.rstrip("/")
        self._parts = parts
        self._token = token
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self._interrupted = False

    def get(self, path: str, timeout_s: float | None = None, **query: Any) -> Any:
        """GET `path`; query values that are None are left out. Raises: DispatcherError."""
        given = {k: v for k, v in query.items() if v is not None}
        return self.request(
            "GET", path + ("?" + urllib.parse.urlencode(given, doseq=True) if given else ""), None, timeout_s
        )

    def post(
        self,
        path: str,
        body: Any = None,
        timeout_s: float | None = None,
        unless: Callable[[], bool] | None = None,
    ) -> Any:
        """POST JSON; see `request` for `unless`. Raises: DispatcherError."""
        return self.request("POST", path, {} if body is None else body, timeout_s, unless=unless)

    def get_bytes(self, path: str, timeout_s: float | None = None) -> bytes:
        """GET what isn't JSON: a picture. Raises: DispatcherError."""
        status, raw = self._ask("GET", path, None, timeout_s, {"Accept": "*/*"}, None)
        if status != 200:
            _answer(status, raw)
        return raw

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        timeout_s: float | None = None,
        headers: dict[str, str] | None = None,
        unless: Callable[[], bool] | None = None,
    ) -> Any:
        """Ask once; a kept connection that the server has closed meanwhile is opened anew. Returns the JSON, or None for 204.

        A request that may wait long takes `unless`: true once nobody wants the answer. Set what it reads before you call
        `interrupt`, and no moment is left in which the request waits on unheard.
        """
        return _answer(*self._ask(method, path, body, timeout_s, headers, unless))

    def _ask(
        self,
        method: str,
        path: str,
        body: Any,
        timeout_s: float | None,
        headers: dict[str, str] | None,
        unless: Callable[[], bool] | None,
    ) -> tuple[int, bytes]:
        """Status and content of the answer."""
        data = None if body is None else json.dumps(body).encode()
        sent = {"Authorization": "Bearer " + self._token, "Accept": "application/json", **(headers or {})}
        if data is not None:
            sent["Content-Type"] = "application/json"
        fresh = self._connection is None
        self._interrupted = False
        try:
            try:
                status, raw = self._once(method, path, data, sent, timeout_s, unless)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # Every request may be sent twice: submits carry a key, workers an attempt number.
                if fresh or self._interrupted:
                    raise
                self.close()
                status, raw = self._once(method, path, data, sent, timeout_s, unless)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error) from error
        return status, raw

    def events(self, path: str, timeout_s: float = 30.0) -> Iterator[tuple[str, dict[str, Any]]]:
        """A server-sent event stream as (event name, data). Ends when the server closes it. Raises: DispatcherError."""
        connection = self._connect(timeout_s)
        try:
            connection.request(
                "GET",
                self._parts.path.rstrip("/") + path,
                headers={"Authorization": "Bearer " + self._token, "Accept": "text/event-stream"},
            )
            response = connection.getresponse()
            if response.status != 200:
                _answer(response.status, response.read())
            name = "message"
            lines: list[str] = []
            for raw in response:
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                if line.startswith("event:"):
                    name = line[6:].strip()
                elif line.startswith("data:"):
                    lines.append(line[5:].lstrip())
                elif not line and lines:
                    yield name, json.loads("\n".join(lines))
                    name, lines = "message", []
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def interrupt(self) -> None:
        """Break off the request that is waited for, from another thread or a signal handler: it raises DispatcherError."""
        self._interrupted = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the kept connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _once(
        self,
        method: str,
        path: str,
        data: bytes | None,
        headers: dict[str, str],
        timeout_s: float | None,
        unless: Callable[[], bool] | None,
    ) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = self._connect(timeout_s or self._timeout_s)
        elif self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s or self._timeout_s)
        # Only now is there a socket that `interrupt` can shut: asked any earlier, an interrupt in between would be missed.
        if unless is not None and unless():
            raise InterruptedError("broken off")
        self._connection.request(method, self._parts.path.rstrip("/") + path, body=data, headers=headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        host = self._parts.hostname or ""
        connection = (
            http.client.HTTPSConnection(host, self._parts.port, timeout=timeout_s, context=ssl.create_default_context())
            if self._parts.scheme == "https"
            else http.client.HTTPConnection(host, self._parts.port, timeout=timeout_s)
        )
        connection.connect()
        if connection.sock is not None:
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _unreachable(self, error: Exception) -> DispatcherError:
        return DispatcherError(
            0,
            "ServerError",
            f"no dispatcher answers at {self.url} ({error})",
            "start one with 'plates serve', or point PLATEWRIGHT_URL at yours",
        )


def _address(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise DispatcherError(
            0, "ServerError", f"{url!r} is not a dispatcher's address", "write it as http://host:8763"
        )
    return parts


def _answer(status: int, raw: bytes) -> Any:
    if status == 204:
        return None
    try:
        body = json.loads(raw)
    except ValueError:
        raise DispatcherError(
            status,
            "ServerError",
            f"the answer ({status}) is not JSON",
            "is this address really a Platewright dispatcher?",
        ) from None
    if status < 400:
        return body
    if not isinstance(body, dict):
        body = {}
    raise DispatcherError(
        status,
        str(body.get("error", "ServerError")),
        str(body.get("message", f"the dispatcher answered {status}")),
        str(body.get("hint", "")),
        body.get("faults"),
    )
