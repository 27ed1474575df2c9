"""Clearances: who said yes to what. Given for a show, a sequence or a shot; withdrawn, never removed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import insert, select, update

from farm.store import Transaction
from farm.tables import CLEARANCE
from farm.turn import Turn
from pipeline.decision import Clearance
from pipeline.errors import NotFoundError, StateError
from pipeline.rules import ClearanceKind
from pipeline.shot import check_name


def give(
    turn: Turn,
    studio: str,
    kind: ClearanceKind,
    address: tuple[str, str, str],
    *,
    by: str,
    recorded_by: str,
    reference: str = "",
    note: str = "",
) -> Clearance:
    """Keep a yes for show, sequence and shot, the last two empty for all of them. Raises: ShotNameError."""
    show, sequence, shot = address
    check_name(show, "show")
    for what, name in (("sequence", sequence), ("shot", shot)):
        if name:
            check_name(name, what)
    row = turn.tx.first(
        insert(CLEARANCE).returning(CLEARANCE),
        {
            "studio": studio,
            "kind": str(kind),
            "show": show,
            "sequence": sequence,
            "shot": shot,
            "by": by,
            "recorded_by": recorded_by,
            "reference": reference,
            "note": note,
            "given_at": turn.now,
            "withdrawn_by": "",
        },
    )
    assert row is not None  # INSERT … RETURNING
    return _clearance(row)


def withdraw(turn: Turn, studio: str, clearance: int, *, by: str) -> Clearance:
    """End a yes from now on. Raises: NotFoundError, StateError (withdrawn already)."""
    mine = (CLEARANCE.c.id == clearance) & (CLEARANCE.c.studio == studio)
    row = turn.tx.first(select(CLEARANCE).where(mine))
    if row is None:
        raise NotFoundError(f"there is no clearance {clearance}", "`plates clear list` shows what there is")
    if row.withdrawn_at is not None:
        raise StateError(f"clearance {clearance} was withdrawn already", "nothing needs to be done")
    turn.tx.execute(update(CLEARANCE).where(mine).values(withdrawn_at=turn.now, withdrawn_by=by))
    after = turn.tx.first(select(CLEARANCE).where(mine))
    assert after is not None  # it was there above
    return _clearance(after)


def list_clearances(
    tx: Transaction, studio: str, *, shows: Collection[str] | None = None, kind: str | None = None
) -> tuple[Clearance, ...]:
    """A studio's clearances, withdrawn ones too, oldest first; of some shows, or of one kind."""
    statement = select(CLEARANCE).where(CLEARANCE.c.studio == studio)
    if shows is not None:
        statement = statement.where(CLEARANCE.c.show.in_(list(shows)))
    if kind is not None:
        statement = statement.where(CLEARANCE.c.kind == kind)
    return tuple(_clearance(row) for row in tx.rows(statement.order_by(CLEARANCE.c.id)))


def _clearance(row: Any) -> Clearance:
    return Clearance(**{name: getattr(row, name) for name in Clearance.__dataclass_fields__ if hasattr(row, name)})
