"""Read the next frames and write the last ones while this one is computed.

Decoding and packing leave the GIL free, so a few plain threads do. Both ends are bounded: a reader holds a window of frames,
a writer a short queue; both are context managers that join their threads whatever happens inside.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class FrameReader(Generic[T]):
    """Loads frames before they are asked for.

    `load(frame)` runs in `threads` threads. `get` may come in any near order: while it returns one frame, the `ahead` frames
    after it in `frames` are being loaded. Frames stay for another `get` until more than `ahead + behind + 1` are held,
    then the one unused for longest goes.
    """

    def __init__(
        self,
        load: Callable[[int], T],
        frames: Sequence[int],
        *,
        ahead: int = 2,
        behind: int = 2,
        threads: int = 2,
    ) -> None:
        if ahead < 0 or behind < 0 or threads < 1:
            raise ValueError("ahead and behind are 0 or more, threads 1 or more")
        self._load = load
        self._order = tuple(frames)
        self._place = {frame: i for i, frame in enumerate(self._order)}
        self._ahead = ahead
        self._capacity = ahead + behind + 1
        self._held: OrderedDict[int, Future[T]] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="frame-reader")
        self._closed = False

    def get(self, frame: int) -> T:
        """The frame, loaded now if it wasn't yet. What `load` raised is raised here, and the next `get` tries again."""
        while True:
            with self._lock:
                future = self._request(frame)
                place = self._place.get(frame)
                if place is not None:
                    for coming in self._order[place + 1 : place + 1 + self._ahead]:
                        self._request(coming)
                self._drop_oldest(keep=frame)
            try:
                return future.result()
            except CancelledError:  # dropped by another thread's get before it began
                continue
            except BaseException:
                with self._lock:
                    if self._held.get(frame) is future:
                        del self._held[frame]
                raise

    def expect(self, frames: Iterable[int]) -> None:
        """Say which frames are asked for next, in that order, in place of what was given before."""
        with self._lock:
            self._order = tuple(frames)
            self._place = {frame: i for i, frame in enumerate(self._order)}
            for frame in self._order[: max(1, self._ahead)]:
                self._request(frame)
            self._drop_oldest(keep=None)

    def close(self) -> None:
        """Drop what is held and wait for loads that are under way. May be called twice."""
        with self._lock:
            self._closed = True
            held = list(self._held.values())
            self._held.clear()
        for future in held:
            future.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _request(self, frame: int) -> Future[T]:
        if self._closed:
            raise RuntimeError("the reader is closed")
        future = self._held.get(frame)
        if future is None:
            future = self._held[frame] = self._pool.submit(self._load, frame)
        self._held.move_to_end(frame)
        return future

    def _drop_oldest(self, *, keep: int | None) -> None:
        for frame in [f for f in self._held if f != keep]:
            if len(self._held) <= self._capacity:
                return
            self._held.pop(frame).cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FrameWriter(Generic[T]):
    """Writes frames in the background, in the order they were put.

    At most `behind` frames wait or are being written; `put` blocks beyond that. The first error of `write` is raised by the
    next `put`, or by `close`; nothing is written after it.
    """

    def __init__(self, write: Callable[[int, T], None], *, behind: int = 2) -> None:
        if behind < 1:
            raise ValueError("behind is 1 or more")
        self._write = write
        self._behind = behind
        self._waiting: deque[tuple[int, T]] = deque()
        self._busy = 0
        self._error: BaseException | None = None
        self._told = False
        self._closing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, frame: int, value: T) -> None:
        """Hand a frame over; it must not be changed afterwards. Raises: what writing an earlier frame raised."""
        with self._changed:
            if self._closing:
                raise RuntimeError("the writer is closed")
            self._changed.wait_for(lambda: self._error is not None or len(self._waiting) + self._busy < self._behind)
            self._raise()
            self._waiting.append((frame, value))
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="frame-writer")
                self._thread.start()

    def close(self) -> None:
        """Wait until every frame is written. Raises: the first error of `write`, unless a `put` raised it already."""
        self._finish(drop=False)
        if not self._told:
            self._raise()

    def _finish(self, *, drop: bool) -> None:
        with self._changed:
            self._closing = True
            if drop:
                self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            self._told = True
            raise self._error

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                frame, value = self._waiting.popleft()
                self._busy = 1
            try:
                self._write(frame, value)
            except BaseException as error:  # told to whoever puts or closes
                with self._changed:
                    self._error = error
                    self._waiting.clear()
                    self._changed.notify_all()
                return
            finally:
                del value
                with self._changed:
                    self._busy = 0
                    self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was put; after an error inside the block what still waits is dropped and that error goes on."""
        if kind is None:
            self.close()
        else:
            self._finish(drop=True)
