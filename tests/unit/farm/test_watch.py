"""Drops become jobs once they have arrived, once each; a bad one goes aside with its reason; nothing stops the watcher."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from farm.watch import Inbox
from integrations._shared.client import DispatcherError
from pipeline.errors import Fault, SubmissionRefused
from tests.queue_kit import Clock

DOWN = DispatcherError(0, "ServerError", "no dispatcher answers")


class Killed(BaseException):
    """What a watcher that is killed just then would look like from inside."""


class Dispatcher:
    """Takes submissions as the real one does: one job a key. `answers` come first."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.answers: list[BaseException] = []
        self.calls = 0

    def __call__(self, request: dict[str, Any], key: str) -> dict[str, Any]:
        self.calls += 1
        if self.answers:
            raise self.answers.pop(0)
        created = key not in self.jobs
        self.jobs.setdefault(key, request)
        return {"job": list(self.jobs).index(key) + 1, "created": created}


class House:
    """An inbox with its dispatcher and a clock that only the test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dispatcher = Dispatcher()
        self.clock = Clock()
        self.inbox = self.watcher()

    def watcher(self) -> Inbox:
        """A watcher that has just been started."""
        return Inbox(self.folder, self.dispatcher, settle_s=5.0, clock=self.clock)

    def drop(self, name: str = "drop", job: Any = None, **files: bytes) -> Path:
        """A drop that has arrived but for its settling."""
        drop = self.folder / name
        drop.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            (drop / path).write_bytes(content)
        body = {"task": "roto", "plate": "plate/sh010.####.exr"} if job is None else job
        (drop / "job.json").write_bytes(body if isinstance(body, bytes) else json.dumps(body).encode())
        return drop

    def settled(self) -> int:
        """Let everything settle, and look."""
        self.inbox.scan()
        self.clock.now += 6
        return self.inbox.scan()

    def names(self, where: str) -> list[str]:
        return sorted(p.name for p in (self.folder / where).iterdir())

    def reason(self, name: str = "drop") -> str:
        return (self.folder / "refused" / f"{name}.reason.txt").read_text()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "inbox")


def test_a_drop_becomes_a_job_with_its_paths_made_whole(house: House) -> None:
    house.drop(
        job={
            "task": "roto", "plate": "plate/sh010.####.exr", "cut": "cut.otio", "show": "film", "files": {"cut.otio": 3},
            "keys": [{"frame": 1001, "path": "keys/1001.exr"}],
        },
        **{"cut.otio": b"otl"},
    )  # fmt: skip
    assert house.inbox.scan() == 0
    taken = house.folder / "accepted" / "drop"
    assert list(house.dispatcher.jobs.values()) == [
        {
            "task": "roto", "plate": f"{taken}/plate/sh010.####.exr", "cut": f"{taken}/cut.otio", "show": "film",
            "keys": [{"frame": 1001, "path": f"{taken}/keys/1001.exr"}],
        }
    ]  # fmt: skip
    assert json.loads((taken / ".platewright-submitted.json").read_text()) == {"job": 1, "created": True}
    assert house.names("refused") == []
    assert house.settled() == 0
    assert house.dispatcher.calls == 1, "it is taken once"


def test_a_slow_copy_is_waited_for_until_nothing_has_changed_for_a_while(house: House) -> None:
    drop = house.drop()
    assert house.inbox.scan() == 1
    for size in range(1, 5):
        house.clock.now += 4
        (drop / "frame.exr").write_bytes(b"x" * size)
        assert house.inbox.scan() == 1, "each change begins the wait anew"
    house.clock.now += 4.9
    assert house.inbox.scan() == 1
    house.clock.now += 0.2
    assert house.inbox.scan() == 0
    assert house.dispatcher.calls == 1


def test_a_change_of_content_alone_counts_as_a_change(house: House) -> None:
    drop = house.drop(frame=b"aaaa")
    house.inbox.scan()
    house.clock.now += 4
    (drop / "frame").write_bytes(b"bbbb")
    os.utime(drop / "frame", ns=(1, 1))
    house.inbox.scan()
    house.clock.now += 4
    assert house.inbox.scan() == 1


def test_listed_files_are_waited_for_by_size_and_taken_at_once_when_they_are_there(house: House) -> None:
    drop = house.drop(job={"task": "roto", "plate": "a.exr", "files": {"a.exr": 4, "sub/b.exr": 2}})
    for _ in range(3):
        house.clock.now += 100
        assert house.inbox.scan() == 1
    (drop / "a.exr").write_bytes(b"1234")
    (drop / "sub").mkdir()
    (drop / "sub" / "b.exr").write_bytes(b"1")
    assert house.inbox.scan() == 1
    (drop / "sub" / "b.exr").write_bytes(b"12")
    assert house.inbox.scan() == 0
    assert house.dispatcher.calls == 1


@pytest.mark.parametrize("name", ["a.exr.part", "a.tmp", "a.filepart", "x.partial", "y.crdownload"])
def test_a_temporary_file_means_that_it_still_arrives(house: House, name: str) -> None:
    drop = house.drop(**{name: b"half"})
    assert house.settled() == 1
    (drop / name).rename(drop / "a.exr")
    assert house.settled() == 0


def test_what_is_no_drop_is_left_alone(house: House) -> None:
    (house.folder / "no job file").mkdir(parents=True)
    (house.folder / "file").write_text("")
    (house.folder / ".hidden").mkdir()
    house.drop(".also hidden")
    (house.folder / "link").symlink_to(house.drop("elsewhere/real"))
    assert house.settled() == 2, "two folders might become drops"
    assert house.dispatcher.calls == 0


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (b"not json", "not JSON"), (b"", "not JSON"), (b"\xff\xfe\x00", "not JSON"), (b"[1]", "not a JSON object"),
        (b"[" * 100_000, "not JSON"), (b"null", "not a JSON object"), (b'{"a": "' + b"x" * (1 << 20) + b'"}', "larger than 1 MB"),
        ({"task": "roto", "plate": "/etc/passwd"}, "leads out of the drop"),
        ({"task": "roto", "plate": "a/../../b"}, "leads out of the drop"),
        ({"task": "roto", "plate": "p", "keys": [{"frame": 1, "path": "../x"}]}, "key 1"),
        ({"task": "style_transfer", "plate": "p", "parameters": {"mask": "/etc/passwd"}}, "parameter mask"),
        ({"task": "style_transfer", "plate": "p", "takes": [{"parameters": {"mood": "../x"}}]}, "parameter mood"),
        ({"task": "style_transfer", "plate": "p", "wedge": {"lora": ["a", "/b"]}}, "parameter lora"),
        ({"task": "style_transfer", "plate": "p", "parameters": {"strength": {"audio": "/a.wav"}}}, "parameter strength"),
        ({"task": "roto", "plate": "p", "model": "../weights.onnx"}, "model"),
        ({"task": "roto", "plate": "p", "wedge": {"model": ["roto", "/w.onnx"]}}, "model"),
        ({"task": "roto", "plate": "p", "files": {"../x": 3}}, "leads out of the drop"),
        ({"task": "roto", "plate": "p", "files": {"/x": 3}}, "leads out of the drop"),
    ],
)  # fmt: skip
def test_a_bad_job_file_goes_aside_with_its_reason_beside_it(house: House, job: Any, words: str) -> None:
    house.drop(job=job)
    good = house.drop("good")
    assert house.settled() == 0
    assert house.names("refused") == ["drop", "drop.reason.txt"]
    assert words in house.reason()
    assert house.reason().startswith("drop was refused:\n\n- ")
    assert house.names("accepted") == ["good"], "the next one is none the worse"
    assert not good.exists()


@pytest.mark.parametrize(
    "job", [{"task": 5, "plate": ["x"]}, {"keys": 5}, {"keys": {"a": 1}}, {"keys": [5, None, {"path": 7}]}, {}]
)
def test_what_the_dispatcher_is_to_judge_is_passed_on(house: House, job: Any) -> None:
    house.drop(job=job)
    house.settled()
    assert house.dispatcher.calls == 1
    assert house.names("refused") == []


@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_a_refusal_is_written_down_with_every_fault(house: House, status: int) -> None:
    faults = [
        {"where": "plate", "message": "frame 3 is broken", "hint": "render it"},
        {"where": "cut", "message": "none"},
    ]
    house.dispatcher.answers = [DispatcherError(status, "SubmissionRefused", "plate: …", "", faults)]
    house.drop()
    house.settled()
    reason = house.reason()
    assert "- plate: frame 3 is broken\n  render it\n- cut: none\n" in reason
    assert house.names("accepted") == []


def test_a_refusal_from_our_own_process_is_written_down_as_well(house: House) -> None:
    house.dispatcher.answers = [SubmissionRefused([Fault("plate", "gone", "look")])]
    house.drop()
    house.settled()
    assert "plate: gone" in house.reason()


@pytest.mark.parametrize("status", [0, 401, 403, 500, 503])
def test_a_dispatcher_that_is_away_or_ill_is_waited_for(house: House, status: int) -> None:
    house.dispatcher.answers = [DispatcherError(status, "E", "not now") for _ in range(3)]
    house.drop()
    house.settled()
    for _ in range(3):
        assert house.names("refused") == []
        house.inbox.scan()
    assert len(house.dispatcher.jobs) == 1
    house.inbox.scan()
    assert house.dispatcher.calls == 4


def test_a_drop_of_the_same_name_is_another_drop(house: House) -> None:
    for _ in range(3):
        house.drop()
        house.settled()
    assert house.names("accepted") == ["drop", "drop-2", "drop-3"]
    assert len(house.dispatcher.jobs) == 3
    for _ in range(2):
        house.drop(job=b"bad")
        house.settled()
    assert house.names("refused") == ["drop-4", "drop-4-2", "drop-4-2.reason.txt", "drop-4.reason.txt"]


def test_the_same_drop_again_after_the_first_was_tidied_away_is_a_new_job(house: House) -> None:
    for _ in range(2):
        house.drop()
        house.settled()
        shutil.rmtree(house.folder / "accepted" / "drop")
    assert len(house.dispatcher.jobs) == 2


def test_a_watcher_that_is_killed_between_taking_and_submitting_loses_nothing(house: House) -> None:
    house.dispatcher.answers = [Killed()]
    house.drop()
    with pytest.raises(Killed):
        house.settled()
    assert house.names("accepted") == ["drop"]
    house.inbox = house.watcher()
    house.inbox.scan()
    assert len(house.dispatcher.jobs) == 1


def test_a_watcher_that_is_killed_before_it_heard_the_answer_makes_no_second_job(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.drop()
    house.inbox.scan()
    house.clock.now += 6
    with monkeypatch.context() as broken:
        broken.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            house.inbox.scan()
    assert len(house.dispatcher.jobs) == 1
    house.inbox = house.watcher()
    house.inbox.scan()
    assert len(house.dispatcher.jobs) == 1
    assert house.dispatcher.calls == 2


def test_two_watchers_on_one_inbox_take_a_drop_once(house: House) -> None:
    for number in range(30):
        house.drop(f"drop{number:02}", job={"task": "roto", "plate": "p", "files": {}})
    errors: list[BaseException] = []

    def look() -> None:
        watcher = house.watcher()
        try:
            for _ in range(3):
                watcher.scan()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(house.dispatcher.jobs) == 30
    assert len([n for n in house.names("accepted") if n.startswith("drop")]) == 30


def test_a_folder_that_somebody_put_into_accepted_stops_nobody(house: House) -> None:
    (house.folder / "accepted" / "holiday pictures").mkdir(parents=True)
    house.drop()
    house.settled()
    assert len(house.dispatcher.jobs) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_job_file_that_may_not_be_read_waits_and_stops_nobody(house: House) -> None:
    (house.drop("a") / "job.json").chmod(0)
    house.drop("b")
    house.settled()
    assert len(house.dispatcher.jobs) == 1


def test_a_reason_that_can_not_be_written_leaves_the_drop_for_the_next_look(house: House) -> None:
    house.drop(job=b"bad")
    house.inbox.scan()
    reason = house.folder / "refused"
    reason.rmdir()
    reason.symlink_to("/dev/null/nowhere")
    house.clock.now += 6
    house.inbox._scan_or_wait()
    reason.unlink()
    house.settled()
    assert "not JSON" in house.reason()


def test_a_drop_that_vanishes_in_the_middle_stops_nobody(house: House) -> None:
    house.drop("a")
    house.drop("b")
    real = house.dispatcher.__call__

    def submit(request: dict[str, Any], key: str) -> dict[str, Any]:
        if "/a/" in request["plate"]:
            shutil.rmtree(house.folder / "accepted" / "a")
        return real(request, key)

    house.inbox.submit = submit
    house.settled()
    assert len(house.dispatcher.jobs) == 2


def run(house: House, *, polling: bool, rescan_s: float) -> tuple[threading.Event, threading.Thread]:
    house.inbox = Inbox(house.folder, house.dispatcher, settle_s=0.4)
    stop = threading.Event()
    house.folder.mkdir(exist_ok=True)
    thread = threading.Thread(target=house.inbox.run, args=(stop,), kwargs={"rescan_s": rescan_s, "polling": polling})
    thread.start()
    return stop, thread


def wait(true: Any, timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("polling", "rescan_s"), [(False, 60.0), (True, 0.3)])
def test_it_wakes_for_a_drop_by_event_or_by_polling_and_stops_when_told(
    house: House, polling: bool, rescan_s: float
) -> None:
    stop, thread = run(house, polling=polling, rescan_s=rescan_s)
    time.sleep(0.3)
    try:
        started = time.monotonic()
        drop = house.drop()
        for number in range(3):
            time.sleep(0.2)
            (drop / f"{number}.exr").write_bytes(b"x")
        wait(lambda: house.dispatcher.jobs)
        assert time.monotonic() - started > 0.9, "not before it had arrived"
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()


def test_an_inbox_that_goes_away_for_a_while_is_waited_for(house: House) -> None:
    stop, thread = run(house, polling=True, rescan_s=0.2)
    try:
        time.sleep(0.4)
        away = house.folder.with_name("away")
        house.folder.rename(away)
        house.folder.write_text("in its place")
        time.sleep(0.6)
        assert thread.is_alive()
        house.folder.unlink()
        away.rename(house.folder)
        house.drop()
        wait(lambda: house.dispatcher.jobs)
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()
