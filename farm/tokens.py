"""Bearer tokens: who may do what, for which studio.

A token is 256 random bits, so its plain SHA-256 can be kept: what makes password hashes slow is guessing, and nobody
guesses 256 bits. The local token lies in a file that only this user can read, and may do everything in the studio.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import bindparam, insert, select, update

from farm.records import TokenView
from farm.tables import TOKEN
from farm.turn import Turn
from pipeline.errors import AuthError, NotFoundError, StorageError
from pipeline.shot import check_name

PREFIX = "plates_"
"""So that a token is known for one wherever it leaks."""


class Scope(StrEnum):
    """What a token allows."""

    SUBMIT = "submit"
    """Submit jobs, and move one's own. Includes `review`."""
    REVIEW = "review"
    """See jobs, versions and frames; pick takes."""
    WRANGLE = "wrangle"
    """Pause, cancel, retry, skip, change priorities. Includes `review`: nobody can steer what they can't see."""
    WORKER = "worker"
    """Take chunks and report on them."""
    ADMIN = "admin"
    """Everything, tokens included."""


_GRANTED_BY = {Scope.REVIEW: frozenset({Scope.REVIEW, Scope.SUBMIT, Scope.WRANGLE, Scope.ADMIN})}
"""Scopes that others include, and which do. Every scope is included in ADMIN."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking."""

    name: str
    studio: str
    scopes: frozenset[Scope]

    def allows(self, scope: Scope) -> bool:
        """Whether this may be done."""
        return not self.scopes.isdisjoint(_GRANTED_BY.get(scope, {scope, Scope.ADMIN}))

    def require(self, scope: Scope) -> None:
        """Raises: AuthError when it may not."""
        if not self.allows(scope):
            raise AuthError(
                f"the token of {self.name} lacks the right '{scope}'", "ask whoever runs the dispatcher for it"
            )


def new_token() -> str:
    """A fresh secret."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def same_token(one: str, other: str) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def local_token(path: Path) -> str:
    """The local token: read, or made whole on the first start, and only ever readable by this user.

    Raises: AuthError (others may read it, or it is no token), StorageError (it can't be made).
    """
    try:
        if not path.exists():
            _make(path)
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            token = file.read(1024).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"the token file {path} can't be used: {error}", "check the data folder's owner and rights"
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise AuthError(f"others may read the token file {path}", f"delete it for a new one, or chmod 600 {path}")
    if len(token) < 32:
        raise AuthError(f"the token file {path} holds no token", "delete it: the next start makes a new one")
    return token


def _make(path: Path) -> None:
    """Write aside, then link into place: two that start at once agree, and a crash leaves no empty token behind."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(new_token() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            return
    finally:
        aside.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


_NEW = insert(TOKEN).returning(TOKEN)
_REVOKE = (
    update(TOKEN)
    .where(TOKEN.c.id == bindparam("of_token"), TOKEN.c.studio == bindparam("of_studio"), TOKEN.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("at"))
    .returning(TOKEN.c.hash)
)


def add_token(turn: Turn, studio: str, name: str, scopes: Iterable[Scope], secret: str) -> TokenView:
    """Keep a token for a person or a host. Raises: ShotNameError when the studio's name can't be used."""
    check_name(studio, "studio")
    row = turn.tx.first(
        _NEW,
        {
            "studio": studio,
            "name": name,
            "scopes": ",".join(sorted(set(scopes))),
            "hash": hash_token(secret),
            "created_at": turn.now,
        },
    )
    assert row is not None  # INSERT … RETURNING
    return _view(row)


def revoke_token(turn: Turn, studio: str, token: int) -> str:
    """End a token. Returns its hash. Raises: NotFoundError."""
    row = turn.tx.first(_REVOKE, {"of_token": token, "of_studio": studio, "at": turn.now})
    if row is None:
        raise NotFoundError(f"there is no valid token {token}", "`plates tokens` lists them")
    return str(row.hash)


def list_tokens(turn: Turn, studio: str) -> tuple[TokenView, ...]:
    """Every token of a studio, revoked ones too."""
    rows = turn.tx.rows(select(TOKEN).where(TOKEN.c.studio == studio).order_by(TOKEN.c.id))
    return tuple(_view(row) for row in rows)


def valid_tokens(turn: Turn) -> dict[str, Identity]:
    """Every token that is valid, by its hash."""
    return {
        row.hash: identity_of(_view(row)) for row in turn.tx.rows(select(TOKEN).where(TOKEN.c.revoked_at.is_(None)))
    }


def _view(row: object) -> TokenView:
    values = {name: getattr(row, name) for name in TokenView.__dataclass_fields__}
    scopes = tuple(scope for scope in values.pop("scopes").split(",") if scope)
    return TokenView(**values, scopes=scopes)


def identity_of(token: TokenView) -> Identity:
    """Who a token speaks for."""
    return Identity(token.name, token.studio, frozenset(Scope(scope) for scope in token.scopes))
