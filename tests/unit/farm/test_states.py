"""The tables of moves, read as sentences."""

from __future__ import annotations

import subprocess
import sys
from enum import StrEnum

import pytest
from sqlalchemy import true

from farm.moves import chunk_move, job_move
from farm.states import (
    CHUNK_MOVES,
    FINISHED_JOBS,
    JOB_MOVES,
    VERSION_MOVES,
    ChunkState,
    JobState,
    VersionState,
    check_move,
)
from pipeline.errors import StateError


def as_text(moves: dict[StrEnum, frozenset[StrEnum]]) -> str:
    return "\n".join(f"{now} > {' '.join(sorted(to))}".strip() for now, to in moves.items())


def test_a_chunk_moves_only_so() -> None:
    assert as_text(dict(CHUNK_MOVES)) == (
        "depend > cancelled skipped waiting\n"
        "waiting > cancelled depend running skipped\n"
        "running > cancelled depend failed skipped succeeded waiting\n"
        "succeeded > depend\n"
        "failed > cancelled depend skipped\n"
        "skipped > cancelled depend\n"
        "cancelled >"
    )


def test_a_job_moves_only_so() -> None:
    assert as_text(dict(JOB_MOVES)) == (
        "waiting > cancelled failed paused running succeeded\n"
        "running > cancelled failed paused succeeded\n"
        "paused > cancelled running waiting\n"
        "failed > cancelled running\n"
        "succeeded >\n"
        "cancelled >"
    )
    assert {state for state, to in JOB_MOVES.items() if not to} == FINISHED_JOBS


def test_a_published_version_never_moves_again() -> None:
    assert {state for state, to in VERSION_MOVES.items() if to} == {VersionState.RESERVED}


@pytest.mark.parametrize(
    ("table", "states"), [(CHUNK_MOVES, ChunkState), (JOB_MOVES, JobState), (VERSION_MOVES, VersionState)]
)
def test_every_state_has_its_moves(table: dict[StrEnum, object], states: type[StrEnum]) -> None:
    assert set(table) == set(states)


def test_a_refused_move_says_what_is_allowed() -> None:
    with pytest.raises(StateError) as refusal:
        check_move(JOB_MOVES, JobState.PAUSED, JobState.SUCCEEDED, "job 7")
    assert refusal.value.message == "job 7 is paused and can't become succeeded"
    assert refusal.value.hint == "from paused it may become cancelled, running, waiting"
    with pytest.raises(StateError, match="can't become running") as final:
        check_move(JOB_MOVES, JobState.CANCELLED, JobState.RUNNING, "job 7")
    assert "final" in final.value.hint


def test_a_move_that_the_table_forbids_can_not_be_declared() -> None:
    with pytest.raises(StateError):
        chunk_move({ChunkState.RUNNING, ChunkState.CANCELLED}, ChunkState.WAITING, true())
    with pytest.raises(StateError):
        job_move({JobState.SUCCEEDED}, JobState.RUNNING)


@pytest.mark.parametrize("module", ["farm.states", "farm.settings", "farm.records", "farm.folders", "farm.events"])
def test_light_modules_stay_light(module: str) -> None:
    look = (
        f"import sys, {module}; print(*{{'sqlmodel', 'sqlalchemy', 'pydantic', 'numpy', 'fastapi'}} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_the_dispatcher_starts_without_anything_heavy() -> None:
    heavy = "{'torch', 'numpy', 'OpenImageIO', 'OpenEXR', 'opentimelineio', 'cv2'}"
    look = f"import sys, farm.dispatcher; print(*{heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
