"""What every operation on the queue is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam

from farm.settings import FarmSettings
from farm.store import Transaction
from farm.tables import CHUNK

THE_HOLDERS = and_(
    CHUNK.c.id == bindparam("of_chunk"),
    CHUNK.c.attempt == bindparam("of_attempt"),
    CHUNK.c.worker == bindparam("of_worker"),
    CHUNK.c.studio == bindparam("of_studio"),
)
"""The condition that an attempt is its chunk's newest: the fence."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One operation's surroundings: its transaction, the dispatcher's time, its settings."""

    tx: Transaction
    now: float
    settings: FarmSettings


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker reports about: a chunk under one attempt number."""

    studio: str
    worker: str
    chunk: int
    attempt: int

    def values(self) -> dict[str, Any]:
        """For the condition that this is still the newest attempt, and still running."""
        return {
            "of_chunk": self.chunk,
            "of_attempt": self.attempt,
            "of_worker": self.worker,
            "of_studio": self.studio,
        }
