"""Reading ahead and writing behind."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.media.stream import FrameReader, FrameWriter


def alive() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith(("frame-reader", "frame-writer"))}


class Disk:
    """Loads that are counted and can be held up."""

    def __init__(self, broken: int | None = None) -> None:
        self.loaded: list[int] = []
        self.broken = broken
        self.gate = threading.Event()
        self.gate.set()

    def load(self, frame: int) -> str:
        self.gate.wait(5)
        self.loaded.append(frame)
        if frame == self.broken:
            raise OSError(f"frame {frame} is broken")
        return f"frame {frame}"


def until(condition: object, wait_s: float = 3.0) -> bool:
    assert callable(condition)
    end = time.monotonic() + wait_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return bool(condition())


def test_frames_come_in_order_each_loaded_once() -> None:
    disk = Disk()
    with FrameReader(disk.load, range(20)) as reader:
        assert [reader.get(f) for f in range(20)] == [f"frame {f}" for f in range(20)]
    assert sorted(disk.loaded) == list(range(20))
    assert not alive()


def test_the_next_frames_are_loaded_before_they_are_asked_for() -> None:
    disk = Disk()
    with FrameReader(disk.load, range(100, 120), ahead=3) as reader:
        reader.get(100)
        assert until(lambda: set(disk.loaded) == {100, 101, 102, 103})
        time.sleep(0.02)
        assert set(disk.loaded) == {100, 101, 102, 103}


def test_near_frames_come_again_without_a_second_load() -> None:
    disk = Disk()
    with FrameReader(disk.load, range(20), ahead=2, behind=2) as reader:
        for frame in (5, 6, 5, 4, 6, 7, 6, 5):
            assert reader.get(frame) == f"frame {frame}"
    assert len(disk.loaded) == len(set(disk.loaded))


def test_only_a_window_of_frames_is_held() -> None:
    disk = Disk()
    with FrameReader(disk.load, range(50), ahead=2, behind=1) as reader:
        for frame in range(50):
            reader.get(frame)
            assert len(reader._held) <= 4
        reader.get(0)
    assert disk.loaded.count(0) == 2


def test_frames_outside_the_order_can_be_had() -> None:
    with FrameReader(Disk().load, [1, 2, 3]) as reader:
        assert reader.get(99) == "frame 99"


def test_another_order_can_be_expected() -> None:
    disk = Disk()
    with FrameReader(disk.load, range(10), ahead=2) as reader:
        reader.expect([9, 8, 7, 6])
        assert until(lambda: set(disk.loaded) == {9, 8})
        reader.get(9)
        assert until(lambda: 7 in disk.loaded)


def test_a_broken_frame_is_told_when_it_is_asked_for_and_others_still_come() -> None:
    with FrameReader(Disk(broken=3).load, range(6), ahead=4) as reader:
        assert reader.get(2) == "frame 2"
        for _ in range(2):
            with pytest.raises(OSError, match="frame 3"):
                reader.get(3)
        assert reader.get(4) == "frame 4"


def test_an_error_in_the_block_leaves_no_reader_threads() -> None:
    disk = Disk()
    with pytest.raises(KeyError), FrameReader(disk.load, range(50), ahead=20) as reader:
        reader.get(0)
        raise KeyError
    assert not alive()
    with pytest.raises(RuntimeError, match="closed"):
        reader.get(1)


def test_frames_are_written_in_order_and_before_the_end() -> None:
    written: list[int] = []

    def write(frame: int, value: str) -> None:
        time.sleep(0.002)
        written.append(frame)

    with FrameWriter(write) as writer:
        for frame in range(20):
            writer.put(frame, "x")
    assert written == list(range(20))
    assert not alive()


def test_put_waits_when_the_disk_is_behind() -> None:
    gate = threading.Event()
    written: list[int] = []

    def write(frame: int, value: str) -> None:
        gate.wait(5)
        written.append(frame)

    with FrameWriter(write, behind=2) as writer:
        writer.put(0, "x")
        writer.put(1, "x")
        third = threading.Thread(target=writer.put, args=(2, "x"))
        third.start()
        third.join(0.05)
        assert third.is_alive()
        gate.set()
        third.join(5)
        assert not third.is_alive()
    assert written == [0, 1, 2]


def test_the_first_error_is_raised_by_the_next_put() -> None:
    written: list[int] = []

    def write(frame: int, value: str) -> None:
        if frame == 1:
            raise OSError("disk full")
        written.append(frame)

    with pytest.raises(OSError, match="disk full"), FrameWriter(write) as writer:
        for frame in range(100):
            writer.put(frame, "x")
    assert written == [0]
    assert not alive()


def test_an_error_of_the_last_frame_is_raised_at_the_end() -> None:
    def write(frame: int, value: str) -> None:
        time.sleep(0.02)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), FrameWriter(write) as writer:
        writer.put(0, "x")
    assert not alive()


def test_an_error_in_the_block_goes_on_and_waiting_frames_are_dropped() -> None:
    written: list[int] = []

    def write(frame: int, value: str) -> None:
        time.sleep(0.05)
        written.append(frame)

    with pytest.raises(KeyError), FrameWriter(write, behind=3) as writer:
        for frame in range(3):
            writer.put(frame, "x")
        raise KeyError
    assert len(written) <= 2
    assert not alive()


def test_a_writer_without_frames_ends_and_refuses_more() -> None:
    with FrameWriter(lambda frame, value: None) as writer:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        writer.put(0, "x")


def test_reading_computing_and_writing_overlap() -> None:
    step = 0.02

    def load(frame: int) -> int:
        time.sleep(step)
        return frame

    started = time.monotonic()
    with FrameReader(load, range(10)) as reader, FrameWriter(lambda frame, value: time.sleep(step)) as writer:
        for frame in range(10):
            value = reader.get(frame)
            time.sleep(step)
            writer.put(frame, value)
    # One after the other would take 30 steps.
    assert time.monotonic() - started < 22 * step
