"""Strangers' files cost a child at most: the next call finds a new one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from farm.inspector import Inspector
from pipeline.errors import EditError, PipelineError, PlateError
from tests.plates import SmallPlate, write_small_plate

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> SmallPlate:
    return write_small_plate(tmp_path_factory.mktemp("shot"), count=4, width=32, height=24)


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    inspector = Inspector(timeout_s=60)
    yield inspector
    inspector.close()


def intake(plate: SmallPlate, **more: Any) -> dict[str, Any]:
    return {"request": plate.request(**more), "roots": [], "publish_root": str(plate.folder / "out")}


def edit(path: Path) -> dict[str, Any]:
    return {"path": str(path), "clip": None, "handles": 0}


def pid_of(inspector: Inspector) -> int:
    assert inspector._child is not None
    return inspector._child.pid


def works(inspector: Inspector, plate: SmallPlate) -> bool:
    return bool(inspector.call("edit", edit(plate.cut))[0]["clip"] == "sh010")


def test_calls_are_served_by_one_warm_child(inspector: Inspector, plate: SmallPlate) -> None:
    assert works(inspector, plate)
    before = pid_of(inspector)
    facts = inspector.call("intake", intake(plate))
    assert (facts["frames"], facts["faults"]) == ("1001-1004", [])
    assert pid_of(inspector) == before


def test_a_refusal_crosses_with_its_kind_message_and_hint(inspector: Inspector, plate: SmallPlate) -> None:
    works(inspector, plate)
    before = pid_of(inspector)
    with pytest.raises(EditError, match=r"no\.otio") as error:
        inspector.call("edit", edit(plate.folder / "no.otio"))
    assert error.value.hint
    assert pid_of(inspector) == before, "a refusal costs nothing"


def test_one_that_was_killed_is_replaced_before_the_next_call(inspector: Inspector, plate: SmallPlate) -> None:
    works(inspector, plate)
    before = pid_of(inspector)
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while psutil.pid_exists(before) and psutil.Process(before).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
    assert works(inspector, plate)
    assert pid_of(inspector) != before


def test_one_that_is_killed_in_the_middle_of_a_call_costs_nobody_anything(
    inspector: Inspector, plate: SmallPlate
) -> None:
    works(inspector, plate)
    before = psutil.Process(pid_of(inspector))
    before.suspend()  # so that the death falls into the call
    threading.Timer(0.3, before.kill).start()
    assert works(inspector, plate)
    assert pid_of(inspector) != before.pid


def test_one_that_dies_of_the_files_is_told_as_their_fault_and_replaced(
    inspector: Inspector, plate: SmallPlate, tmp_path: Path
) -> None:
    works(inspector, plate)
    over = threading.Event()

    def kill_each() -> None:
        """What files that crash their reader do: every child that is given them dies."""
        while not over.wait(0.002):
            child = inspector._child
            if child is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_each)
    killer.start()
    try:
        with pytest.raises(PlateError, match="was killed by SIGKILL"):
            inspector.call("intake", intake(plate))
    finally:
        over.set()
        killer.join()
    deep = tmp_path / "deep.otio"
    deep.write_text('{"OTIO_SCHEMA":"Stack.1","children":[' * 200_000 + "]}" * 200_000)
    with pytest.raises(EditError, match=r"deep\.otio"):
        inspector.call("edit", edit(deep))
    assert works(inspector, plate)


def test_one_that_takes_too_long_is_ended_and_replaced(plate: SmallPlate) -> None:
    inspector = Inspector(timeout_s=30)
    try:
        assert works(inspector, plate)
        before = pid_of(inspector)
        os.kill(before, signal.SIGSTOP)
        inspector._timeout_s = 0.3
        with pytest.raises(PlateError, match="took more than"):
            inspector.call("intake", intake(plate))
        assert not psutil.pid_exists(before)
        inspector._timeout_s = 30
        assert works(inspector, plate)
    finally:
        inspector.close()


def test_many_threads_may_ask_at_once(inspector: Inspector, plate: SmallPlate) -> None:
    answers: list[object] = []

    def ask(number: int) -> None:
        try:
            if number % 2:
                answers.append(inspector.call("edit", edit(plate.cut))[0]["clip"])
            else:
                inspector.call("edit", edit(plate.folder / f"{number}.otio"))
        except PipelineError as error:
            answers.append(f"{number}.otio" in error.message)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, answers)) == ["True"] * 4 + ["sh010"] * 4


def test_it_starts_under_a_memory_limit_that_is_lower_than_its_own(plate: SmallPlate) -> None:
    """A studio's `ulimit -v` may be stricter than ours; ours may never be what keeps the child from starting."""
    script = (
        "import json, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "from farm.inspector import Inspector\n"
        "inspector = Inspector(timeout_s=60)\n"
        "print(inspector.call('edit', json.loads(sys.argv[1]))[0]['clip'])\n"
        "inspector.close()\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, json.dumps(edit(plate.cut))],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.stdout.strip() == "sh010", run.stderr
