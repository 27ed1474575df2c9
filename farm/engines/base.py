"""What an engine is to the dispatcher. The dispatcher owns every state; an engine only sees to it that somebody works."""

from __future__ import annotations

from typing import Protocol


class Engine(Protocol):
    """Started beside a dispatcher that already answers; stopped before it goes."""

    name: str

    def start(self) -> None:
        """Begin to bring chunks to machines. Returns at once."""
        ...

    def stop(self) -> None:
        """End everything that was started, and wait for it."""
        ...
