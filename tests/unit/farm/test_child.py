"""A child process may die, hang, babble or grow: its parent finds out, and none outlives the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from farm.child import Child, ChildGone

REPOSITORY = Path(__file__).parents[3]
ODD = "tests.unit.farm.odd_child"


@pytest.fixture
def heard() -> list[str]:
    """What the child says on stderr."""
    return []


@pytest.fixture
def child(heard: list[str]) -> Iterator[Child]:
    child = Child(ODD, env={"PYTHONPATH": str(REPOSITORY)}, on_stderr=heard.append)
    yield child
    child.kill()
    child.close()


def gone(pid: int, timeout_s: float = 5.0) -> bool:
    """Whether a process ends within the time; a zombie has ended."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_it_answers_in_order_and_a_late_answer_is_waited_for(child: Child) -> None:
    for what in ("a", "ü\u2028", None):
        child.send({"do": "echo", "what": what})
    assert [child.receive(20) for _ in range(3)] == [{"echo": "a"}, {"echo": "ü\u2028"}, {"echo": None}]
    assert child.receive(0.05) is None
    child.send({"do": "many", "count": 2000})
    assert [(child.receive(20) or {}).get("number") for _ in range(2000)] == list(range(2000))
    child.send({"do": "echo", "what": "long " * 200_000})
    assert child.receive(20) == {"echo": "long " * 200_000}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"do": "die", "signal": signal.SIGKILL}, "was killed by SIGKILL"),
        ({"do": "die", "signal": signal.SIGSEGV}, "was killed by SIGSEGV"),
        ({"do": "exit", "code": 3}, "ended with exit code 3"),
    ],
)
def test_how_it_died_is_told_each_time_it_is_asked(child: Child, message: dict[str, object], words: str) -> None:
    child.send(message)
    for _ in range(2):
        with pytest.raises(ChildGone) as error:
            child.receive(20)
        assert error.value.words() == words
    assert not child.alive
    with pytest.raises(ChildGone):
        for _ in range(100):  # the first may still find room in the pipe
            child.send({"do": "echo", "what": "x" * 10_000})


@pytest.mark.parametrize("way", ["hang", "spin"])
def test_one_that_hangs_is_noticed_by_its_silence_and_can_be_killed(child: Child, way: str) -> None:
    child.send({"do": "echo", "what": 1})
    assert child.receive(20) == {"echo": 1}
    child.send({"do": way})
    started = time.monotonic()
    assert child.receive(0.2) is None
    assert time.monotonic() - started < 5
    assert child.alive
    child.kill()
    assert not child.alive


def test_what_libraries_print_never_reaches_the_messages(child: Child, heard: list[str]) -> None:
    child.send({"do": "garbage"})
    assert child.receive(20) == {"after": "garbage"}
    child.send({"do": "echo", "what": "still here"})
    assert child.receive(20) == {"echo": "still here"}
    for words in ("python prints", "descriptor 1", "a tool prints"):
        assert any(words in line for line in heard)


def test_one_that_may_not_grow_further_can_say_so(child: Child) -> None:
    child.send({"do": "grow"})
    assert child.receive(20) == {"full": True}


def test_killing_it_ends_what_it_started_too(child: Child) -> None:
    child.send({"do": "grandchild"})
    message = child.receive(20)
    assert message is not None
    child.kill()
    assert gone(message["pid"])


def test_closing_is_final_and_may_be_done_twice(child: Child) -> None:
    child.send({"do": "grandchild"})
    message = child.receive(20)
    assert message is not None
    child.close()
    assert not child.alive
    assert gone(message["pid"])
    child.close()
    with pytest.raises(ChildGone):
        child.send({"do": "echo", "what": 1})


@pytest.mark.parametrize("doing", ["hang", "spin"])
def test_a_parent_that_is_killed_leaves_no_child_nor_grandchild(doing: str) -> None:
    script = (
        "import sys, time\n"
        "from farm.child import Child\n"
        f"child = Child({ODD!r})\n"
        "child.send({'do': 'grandchild'})\n"
        "print(child.pid, child.receive(30)['pid'], flush=True)\n"
        f"child.send({{'do': {doing!r}}})\n"
        "time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child, grandchild = map(int, parent.stdout.readline().split())
        assert psutil.pid_exists(child)
        assert psutil.pid_exists(grandchild)
        parent.kill()
    assert gone(child)
    assert gone(grandchild)
