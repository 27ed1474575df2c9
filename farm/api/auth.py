"""Who asks, and from where. Every request passes here, on loopback too.

A program sends `Authorization: Bearer <token>`. The page has a cookie, which it gets for a ticket that works once; a cookie
alone changes nothing: acts need a header besides, that a foreign page can't know; and it ends with the token that it was
made with. `Host` must be a name that this
dispatcher goes by (a rebound DNS name isn't one), and `Origin`, where a browser sends it, the same.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from farm.tokens import Identity, Scope
from farm.web.render import DOOR_POLICY, door

COOKIE = "platewright"
CSRF_HEADER = "x-platewright-csrf"
COOKIE_LIFE_S = 12 * 3600
TICKET_LIFE_S = 600
MOST_BODY_BYTES = 8 << 20
_SAFE = {"GET", "HEAD", "OPTIONS"}
_OPEN_PATHS = {"/healthz", "/enter"}


class TokenBook(Protocol):
    """Knows the tokens."""

    def identity(self, token: str) -> Identity | None:
        """Who `token` speaks for, or None."""
        ...

    def is_current(self, who: Identity) -> bool:
        """Whether a valid token still speaks for somebody."""
        ...


class Doorkeeper:
    """Tickets and cookies of the page. Cookies are signed, not stored: they outlive a restart, and die with the secret."""

    def __init__(self, secret: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock
        self._tickets: dict[str, tuple[Identity, float]] = {}

    def ticket(self, identity: Identity) -> str:
        """A text that opens the page once, within ten minutes."""
        now = self._clock()
        self._tickets = {t: (p, end) for t, (p, end) in self._tickets.items() if end > now}
        ticket = secrets.token_urlsafe(24)
        self._tickets[ticket] = (identity, now + TICKET_LIFE_S)
        return ticket

    def redeem(self, ticket: str) -> str | None:
        """The cookie for a ticket, which is spent by this; None when it isn't one, or is too old."""
        identity, end = self._tickets.pop(ticket, (None, 0.0))
        if identity is None or end <= self._clock():
            return None
        return self.cookie(identity)

    def cookie(self, identity: Identity) -> str:
        """A signed cookie."""
        claims = [identity.name, identity.studio, sorted(identity.scopes), round(self._clock() + COOKIE_LIFE_S)]
        body = json.dumps(claims, separators=(",", ":")).encode().hex()
        return f"{body}.{self._sign('cookie', body)}"

    def read_cookie(self, value: str) -> Identity | None:
        """Whoever a cookie was made for, unless it is forged or too old."""
        body, _, signature = value.partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign("cookie", body).encode()):
            return None
        name, studio, scopes, end = json.loads(bytes.fromhex(body))
        return Identity(name, studio, frozenset(Scope(scope) for scope in scopes)) if end > self._clock() else None

    def csrf(self, cookie: str) -> str:
        """What the page must send with every act, besides its cookie."""
        return self._sign("csrf", cookie)

    def _sign(self, use: str, text: str) -> str:
        return hmac.new(self._secret, f"{use}:{text}".encode(), hashlib.sha256).hexdigest()


class Guard:
    """ASGI middleware: Host, Origin, body size and identity, in that order. Sets `scope["identity"]`."""

    def __init__(self, app: ASGIApp, *, tokens: TokenBook, door: Doorkeeper, hosts: Iterable[str]) -> None:
        self._app = app
        self._tokens = tokens
        self._door = door
        self._hosts = frozenset(host.casefold() for host in hosts)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal: Response | None = self._place(headers) or self._size(headers)
        if refusal is None:
            scope["identity"] = None
            if scope["path"] not in _OPEN_PATHS:
                refusal = self._identity(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _place(self, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "").casefold()
        if host not in self._hosts:
            return refuse(
                421, "AuthError", f"this dispatcher is not called {host!r}", "add the name to PLATEWRIGHT_HOSTS"
            )
        origin = headers.get("origin")
        if origin is not None and origin.casefold() not in (f"http://{host}", f"https://{host}"):
            return refuse(
                403,
                "AuthError",
                f"a page of {origin} may not talk to this dispatcher",
                "open the dispatcher's own page",
            )
        return None

    def _size(self, headers: Headers) -> JSONResponse | None:
        length = headers.get("content-length")
        if length is not None and length.isdigit() and int(length) <= MOST_BODY_BYTES:
            return None
        if length is None and "transfer-encoding" not in headers:
            return None
        # A chunked body has no stated size to check; our own clients never send one.
        return refuse(
            413,
            "PipelineError",
            "the request is too large",
            f"at most {MOST_BODY_BYTES >> 20} MB; send paths, not pixels",
        )

    def _identity(self, scope: AsgiScope, headers: Headers) -> Response | None:
        authorization = headers.get("authorization", "")
        if authorization:
            kind, _, token = authorization.partition(" ")
            identity = self._tokens.identity(token) if kind.casefold() == "bearer" else None
            if identity is None:
                return refuse(
                    401,
                    "AuthError",
                    "the token is not known here",
                    "ask for a new one, or read the dispatcher's own token file",
                )
            scope["identity"] = identity
            return None
        cookie = _cookie(headers)
        identity = self._door.read_cookie(cookie) if cookie else None
        if identity is None or not self._tokens.is_current(identity):
            if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                page = door("You are not signed in", "This page needs a sign-in.", "To open it signed in, run")
                return HTMLResponse(page, 401, headers={"Content-Security-Policy": DOOR_POLICY})
            return refuse(
                401,
                "AuthError",
                "a token is needed",
                "programs send 'Authorization: Bearer …'; for the page run: plates open",
            )
        if scope["method"] not in _SAFE:
            given = headers.get(CSRF_HEADER, "")
            if not hmac.compare_digest(given.encode(), self._door.csrf(cookie).encode()):
                return refuse(
                    403,
                    "AuthError",
                    "this act did not come from the dispatcher's own page",
                    "reload the page and try again",
                )
        scope["identity"] = identity
        scope["csrf"] = self._door.csrf(cookie)
        return None


def refuse(status: int, error: str, message: str, hint: str = "") -> JSONResponse:
    """An error's body, outside of any route."""
    return JSONResponse({"error": error, "message": message, "hint": hint, "faults": []}, status)


def _cookie(headers: Headers) -> str:
    # Not by SimpleCookie, which stops at the first that it doesn't like: a browser sends those of every port along.
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
