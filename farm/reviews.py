"""What people say of a version: picks, ratings, notes, approvals. Rows are only ever added.

A person's newest pick, rating and approval of a version counts; their notes all stay. Who is meant is the token's name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Select, func, insert, select

from farm.events import Draft, EventKind
from farm.queries import get_version, list_versions, version_view
from farm.records import Record, VersionFilter, VersionView
from farm.rules import read_rules
from farm.statements import hot
from farm.states import VersionState
from farm.store import Transaction
from farm.tables import REVIEW, VERSION
from farm.tokens import Identity, Scope
from farm.turn import Turn
from pipeline.errors import AuthError, ParameterError, StateError

MOST_TEXT = 4_000
"""Characters of a note."""


class ReviewKind(StrEnum):
    """What is said of a version. `value` of each: 1, or 0 to take it back; a rating has 1 to 5 instead, a note none."""

    PICK = "pick"
    """The take to go on with. Of a job's takes a person picks one at most."""
    RATE = "rate"
    """1 (poor) to 5 (final)."""
    NOTE = "note"
    APPROVE = "approve"
    """Finished: models may learn from it."""


_HIGHEST = {ReviewKind.PICK: 1, ReviewKind.RATE: 5, ReviewKind.NOTE: 0, ReviewKind.APPROVE: 1}

Approvers = Callable[[VersionView], Collection[str]]
"""Who may approve a version beside those whose token has the right: names, as the show's rules give them."""


def nobody_else(_: VersionView) -> Collection[str]:
    """No rules: only a token's rights count."""
    return ()


def by_rules(folder: Path | None, studio: str) -> Approvers:
    """Those whom the rules of a version's show name under `approval.final`. Raises, when asked: RuleError (a broken file)."""
    return lambda view: read_rules(folder, studio, view.show).said("approval.final") or ()


@dataclass(frozen=True, slots=True)
class Note(Record):
    """What somebody wrote."""

    user: str
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Approval(Record):
    """Who approved, and when."""

    user: str
    at: float


@dataclass(frozen=True, slots=True)
class ReviewView(Record):
    """One thing that was said, as it was said."""

    id: int
    version: int
    kind: ReviewKind
    value: int
    text: str
    user: str
    at: float


@dataclass(frozen=True, slots=True)
class Taste(Record):
    """What a version is thought of now. `my_pick` and `my_rating` are those of whoever asks."""

    picked_by: tuple[str, ...] = ()
    rating: float | None = None
    """The mean over everybody's newest rating, 1 to 5."""
    ratings: int = 0
    """How many people rated it."""
    my_pick: bool = False
    my_rating: int | None = None
    notes: tuple[Note, ...] = ()
    approved_by: Approval | None = None
    """The newest approval that wasn't taken back."""


_NEW = hot(insert(REVIEW))


def add(
    turn: Turn,
    version: int,
    *,
    who: Identity,
    kind: ReviewKind,
    value: int = 1,
    text: str = "",
    approvers: Approvers = nobody_else,
) -> Taste:
    """Say something of a published version. What was said already is not said twice.

    Raises: NotFoundError, StateError (not published), ParameterError (a value or text that the kind hasn't), AuthError (an
    approval by somebody who may not).
    """
    view = get_version(turn.tx, who.studio, version)
    if view.state is not VersionState.PUBLISHED:
        raise StateError(f"{view.name} is {view.state}: there is nothing to look at", "review a published version")
    value = 0 if kind is ReviewKind.NOTE else value
    _check(kind, value, text)
    if kind is ReviewKind.APPROVE:
        _check_approver(who, view, approvers)
    if kind is ReviewKind.PICK and value:
        for other in _siblings(turn.tx, view):
            if _newest(turn.tx, who, other, kind)[0]:
                _say(turn, view, other, who, kind, 0, "")
    if not _said(turn.tx, who, version, kind, value, text):
        _say(turn, view, version, who, kind, value, text)
    return of_versions(turn.tx, who.studio, [version], user=who.name)[version]


def _check(kind: ReviewKind, value: int, text: str) -> None:
    if not 0 <= value <= _HIGHEST[kind]:
        allowed = "1 to 5, 0 to take it back" if kind is ReviewKind.RATE else "1, 0 to take it back"
        raise ParameterError(f"{kind}: {value} is no value of it", f"allowed: {allowed}")
    if len(text) > MOST_TEXT:
        raise ParameterError(f"the text is {len(text)} characters long", f"allowed: up to {MOST_TEXT}")
    if kind is ReviewKind.NOTE and not text.strip():
        raise ParameterError("the note is empty", "write what is to be seen or done")


def _check_approver(who: Identity, version: VersionView, approvers: Approvers) -> None:
    if who.allows(Scope.WRANGLE) or who.name in approvers(version):
        return
    raise AuthError(
        f"{who.name} may not approve {version.name}",
        "ask somebody whose token has the right 'wrangle', or whom the show's rules name",
    )


def _siblings(tx: Transaction, version: VersionView) -> list[int]:
    """The versions of the same job's other takes."""
    rows = tx.rows(select(VERSION.c.id).where(VERSION.c.job == version.job_id, VERSION.c.id != version.id))
    return [row.id for row in rows]


def _newest(tx: Transaction, who: Identity, version: int, kind: ReviewKind) -> tuple[int, str]:
    """Value and text of what a person last said of a version; 0 and nothing where they didn't."""
    row = tx.first(
        select(REVIEW.c.value, REVIEW.c.text)
        .where(REVIEW.c.version == version, REVIEW.c.user == who.name, REVIEW.c.kind == kind.value)
        .order_by(REVIEW.c.id.desc())
        .limit(1)
    )
    return (0, "") if row is None else (row.value, row.text)


def _said(tx: Transaction, who: Identity, version: int, kind: ReviewKind, value: int, text: str) -> bool:
    """Whether it is what they last said: a request that is sent twice, since its answer was lost, counts once."""
    return _newest(tx, who, version, kind) == (value, _storable(text))


def _say(turn: Turn, view: VersionView, version: int, who: Identity, kind: ReviewKind, value: int, text: str) -> None:
    turn.tx.execute(
        _NEW,
        {
            "studio": who.studio,
            "version": version,
            "kind": kind.value,
            "value": value,
            "text": _storable(text),
            "user": who.name,
            "at": turn.now,
        },
    )
    told = {"version": version, "kind": kind, "value": value, "user": who.name}
    turn.tx.tell(Draft(EventKind.REVIEW, who.studio, view.job_id, told))


def _storable(text: str) -> str:
    # PostgreSQL's text can't hold a NUL.
    return text.replace("\x00", "\ufffd")


def of_versions(tx: Transaction, studio: str, ids: Iterable[int], *, user: str = "") -> dict[int, Taste]:
    """What each of these versions is thought of, in one query. Of a version that isn't there nothing is."""
    said: dict[int, list[Any]] = {version: [] for version in ids}
    if not said:
        return {}
    rows = tx.rows(
        select(REVIEW).where(REVIEW.c.studio == studio, REVIEW.c.version.in_(list(said))).order_by(REVIEW.c.id)
    )
    for row in rows:
        said[row.version].append(row)
    return {version: _taste(rows, user) for version, rows in said.items()}


def _taste(rows: Iterable[Any], user: str) -> Taste:
    """From everything that was said of one version, oldest first."""
    newest: dict[ReviewKind, dict[str, Any]] = {kind: {} for kind in ReviewKind}
    notes: list[Note] = []
    for row in rows:
        kind = ReviewKind(row.kind)
        if kind is ReviewKind.NOTE:
            notes.append(Note(row.user, row.at, row.text))
        else:
            newest[kind].pop(row.user, None)  # so that the order is that of the newest word
            newest[kind][row.user] = row
    standing = {kind: {name: row for name, row in of.items() if row.value} for kind, of in newest.items()}
    picks, rates = standing[ReviewKind.PICK], standing[ReviewKind.RATE]
    approvals = [Approval(name, row.at) for name, row in standing[ReviewKind.APPROVE].items()]
    return Taste(
        picked_by=tuple(picks),
        rating=sum(row.value for row in rates.values()) / len(rates) if rates else None,
        ratings=len(rates),
        my_pick=user in picks,
        my_rating=rates[user].value if user in rates else None,
        notes=tuple(notes),
        approved_by=approvals[-1] if approvals else None,
    )


def history(tx: Transaction, studio: str, version: int) -> tuple[ReviewView, ...]:
    """Everything that was said of a version, oldest first. Raises: NotFoundError."""
    get_version(tx, studio, version)
    rows = tx.rows(select(REVIEW).where(REVIEW.c.studio == studio, REVIEW.c.version == version).order_by(REVIEW.c.id))
    return tuple(
        ReviewView(row.id, row.version, ReviewKind(row.kind), row.value, row.text, row.user, row.at) for row in rows
    )


def standing(studio: str, kind: ReviewKind) -> Select[Any]:
    """The versions of which somebody's newest word of a kind still stands, as a subquery."""
    newest = (
        select(func.max(REVIEW.c.id))
        .where(REVIEW.c.studio == studio, REVIEW.c.kind == kind.value)
        .group_by(REVIEW.c.version, REVIEW.c.user)
    )
    return select(REVIEW.c.version).where(REVIEW.c.id.in_(newest), REVIEW.c.value > 0)


def listed(
    tx: Transaction,
    studio: str,
    wanted: VersionFilter,
    *,
    approved: bool | None = None,
    picked: bool | None = None,
    limit: int = 50,
    before: int | None = None,
) -> tuple[VersionView, ...]:
    """The newest versions first, as `queries.list_versions`: only those that are approved or picked, or aren't."""
    also: list[ColumnElement[bool]] = []
    for kind, said in ((ReviewKind.APPROVE, approved), (ReviewKind.PICK, picked)):
        if said is not None:
            among = VERSION.c.id.in_(standing(studio, kind))
            also.append(among if said else ~among)
    return list_versions(tx, studio, wanted, limit=limit, before=before, also=also)


def shown(tx: Transaction, views: Collection[VersionView], *, who: Identity) -> list[dict[str, Any]]:
    """Versions as they travel: each with what it is thought of under `taste`."""
    tastes = of_versions(tx, who.studio, [view.id for view in views], user=who.name)
    return [{**view.as_json(), "taste": tastes[view.id].as_json()} for view in views]


def approved(
    tx: Transaction,
    studio: str,
    *,
    products: Collection[str],
    show: str | None = None,
    ids: Collection[int] | None = None,
) -> tuple[VersionView, ...]:
    """The newest approved version of each shot and product, in the order of their names: what models may learn from.

    `ids` looks among these alone: those that aren't approved, aren't published or are another studio's are left out.
    """
    statement = select(VERSION).where(
        VERSION.c.studio == studio,
        VERSION.c.state == VersionState.PUBLISHED.value,
        VERSION.c.product.in_(list(products)),
        VERSION.c.id.in_(standing(studio, ReviewKind.APPROVE)),
    )
    if show is not None:
        statement = statement.where(VERSION.c.show == show)
    if ids is not None:
        statement = statement.where(VERSION.c.id.in_(list(ids)))
    newest: dict[tuple[str, ...], VersionView] = {}
    for row in tx.rows(statement.order_by(VERSION.c.number)):
        newest[row.show, row.sequence, row.shot, row.product] = version_view(row)
    return tuple(newest[place] for place in sorted(newest))
