"""Held-out shots: by them a task's models are judged, and from them none ever learns. Only ever added to."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import insert, select

from farm.store import Transaction
from farm.tables import HELD_OUT
from farm.turn import Turn
from pipeline.errors import Fault, SubmissionRefused

Address = tuple[str, str, str]
"""Show, sequence (empty where there is none), shot."""


def held_out(tx: Transaction, studio: str, task: str) -> frozenset[Address]:
    """The shots that a task's models are judged by."""
    rows = tx.rows(select(HELD_OUT).where(HELD_OUT.c.studio == studio, HELD_OUT.c.task == task))
    return frozenset((row.show, row.sequence, row.shot) for row in rows)


def hold_out(
    turn: Turn, studio: str, task: str, shots: Iterable[Address], *, by: str, learned: Iterable[Address] = ()
) -> None:
    """Set shots aside; those that are already stay as they are. `learned`: those that a training is about to learn from.

    Raises: SubmissionRefused (one of them was set aside since the training was looked at).
    """
    if taken := sorted(set(learned) & held_out(turn.tx, studio, task)):
        names = ", ".join("/".join(part for part in shot if part) for shot in taken)
        fault = Fault("versions", f"{names} was held out a moment ago: models are judged by it", "submit it again")
        raise SubmissionRefused([fault])
    for show, sequence, shot in sorted(set(shots) - held_out(turn.tx, studio, task)):
        row = {"studio": studio, "task": task, "show": show, "sequence": sequence, "shot": shot}
        turn.tx.execute(insert(HELD_OUT), {**row, "by": by, "at": turn.now})
