"""What happened, told to whoever listens: numbered, in order, and only after it was committed."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from farm.records import Record

KEPT = 2_000
"""Events that a listener who comes back can still be given."""


class EventKind(StrEnum):
    """What an event is about."""

    JOB = "job"
    CHUNK = "chunk"
    WORKER = "worker"
    VERSION = "version"
    MODEL = "model"
    """A model card was made, promoted, scored or retired."""
    REVIEW = "review"
    """Somebody picked, rated, noted or approved a version."""
    PREVIEW = "preview"
    """Frames of a running chunk became visible."""
    RESYNC = "resync"
    """Some events were missed: read the state anew, then go on listening."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An event before its commit: it has no number yet."""

    kind: EventKind
    studio: str
    job_id: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event(Record):
    """One thing that happened. `id` only ever grows, over restarts as well."""

    id: int
    kind: EventKind
    studio: str
    job_id: int | None
    data: Mapping[str, Any]


class Subscription:
    """One listener's own queue, bounded: when it falls behind, what it missed becomes one RESYNC."""

    def __init__(self, hub: EventHub, studio: str | None, *, limit: int) -> None:
        self.studio = studio
        self._hub = hub
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._queue: deque[Event] = deque()
        self._lock = threading.Lock()

    def offer(self, events: Iterable[Event]) -> None:
        """Add events, from any thread. Raises: RuntimeError when the listener's loop is gone."""
        with self._lock:
            for event in events:
                if self.studio not in (None, event.studio):
                    continue
                if len(self._queue) >= self._limit:
                    self._queue.clear()
                    event = Event(event.id, EventKind.RESYNC, event.studio, None, {})
                self._queue.append(event)
            waiting = bool(self._queue)
        if waiting:
            self._loop.call_soon_threadsafe(self._ready.set)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while True:
            event = self._take()
            if event is not None:
                return event
            await self._ready.wait()

    async def next(self, timeout_s: float) -> Event | None:
        """The next event, or None when nothing happened for so long (time to send a keep-alive)."""
        try:
            return await asyncio.wait_for(self.__anext__(), timeout_s)
        except TimeoutError:
            return None

    def close(self) -> None:
        """Stop listening."""
        self._hub.remove(self)

    def _take(self) -> Event | None:
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._ready.clear()
            return None


class EventHub:
    """Numbers what was committed and hands it to the subscriptions of its studio."""

    def __init__(self, *, first_id: int) -> None:
        self._next = first_id
        self._first = first_id
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._subscriptions: set[Subscription] = set()
        self._lock = threading.Lock()

    def publish(self, drafts: Iterable[Draft]) -> None:
        """Number and hand out; called by the store's writer, in the order of commits."""
        with self._lock:
            events = []
            for draft in drafts:
                events.append(Event(self._next, draft.kind, draft.studio, draft.job_id, draft.data))
                self._next += 1
            self._kept.extend(events)
            for subscription in list(self._subscriptions):
                try:
                    subscription.offer(events)
                except RuntimeError:  # its loop was closed without a word
                    self._subscriptions.discard(subscription)

    def subscribe(self, studio: str | None, *, last_id: int | None = None, limit: int = 1_000) -> Subscription:
        """Listen from now on, or from behind `last_id`, the last event that the listener has seen.

        No studio means all of them: for the dispatcher's own services, never for whoever asks from outside.
        """
        subscription = Subscription(self, studio, limit=limit)
        with self._lock:
            if last_id is not None:
                oldest = self._kept[0].id if self._kept else self._next
                if last_id + 1 < oldest or last_id >= self._next:
                    subscription.offer([Event(self._next - 1, EventKind.RESYNC, studio or "", None, {})])
                else:
                    subscription.offer(event for event in self._kept if event.id > last_id)
            self._subscriptions.add(subscription)
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Forget a listener."""
        with self._lock:
            self._subscriptions.discard(subscription)


class Signal:
    """Wakes coroutines, of any loop, when a thread says that something may have become possible."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self.count = 0
        """How often it was given. Read it before looking for work, and wait for a change of it: no wake-up is missed."""

    def give(self) -> None:
        """Wake everyone who waits now."""
        with self._lock:
            self.count += 1
            waiters, self._waiters = self._waiters, set()
        for loop, waiter in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(waiter.set)

    async def wait(self, since: int, timeout_s: float) -> bool:
        """Whether it was given after `since`, within the time."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            if self.count != since:
                return True
            self._waiters.add(entry)
        try:
            await asyncio.wait_for(entry[1].wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            with self._lock:
                self._waiters.discard(entry)
        return True
