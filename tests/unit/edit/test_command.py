"""`plates edit` reads in a child, prints what the contract names, and survives a file that kills its reader."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from farm.cli.edit import command
from farm.inspector import Inspector
from pipeline.edit.otio_in import contexts_json
from pipeline.errors import EditError, PipelineError, PlateError
from tests.golden.refresh_edits import FOLDER

NAMED = {
    "clip", "shot", "media", "rate", "cut_in", "cut_out", "head_in", "tail_out", "source_first", "source_last",
    "available_first", "available_last", "missing", "retime", "transition_in", "transition_out", "record_in", "warnings",
}  # fmt: skip


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_is_the_list_of_contexts() -> None:
    path = FOLDER / "transition.otio"
    found = json.loads(run(str(path), "--handles", "8", "--json"))
    assert found == contexts_json(path, handles=8)
    assert all(one.keys() >= NAMED for one in found)
    assert [one["clip"] for one in json.loads(run(str(path), "--clip", "sh020", "--json"))] == ["sh020"]


def test_the_table_names_every_clip_and_why_one_is_refused() -> None:
    text = run(str(FOLDER / "one_name_twice.otio"))
    assert "sh010#1" in text and "sh010#2" in text
    assert "never meet" in " ".join(run(str(FOLDER / "disjoint.otio")).split())


@pytest.mark.parametrize(("clip", "words"), [("nobody", "no picture clip"), ("sh010#9", "no picture clip")])
def test_an_unknown_clip_is_an_error_for_people(clip: str, words: str) -> None:
    with pytest.raises(EditError, match=words):
        run(str(FOLDER / "transition.otio"), "--clip", clip)


def test_a_rate_is_for_a_list_that_names_none(tmp_path: Path) -> None:
    path = tmp_path / "cut.edl"
    path.write_text("TITLE: t\n001  A V C  01:00:00:00 01:00:02:00 00:00:00:00 00:00:02:00\n")
    guessed, given = (json.loads(run(str(path), *rate, "--json"))[0] for rate in ((), ("--rate", "25")))
    assert (guessed["rate"], guessed["cut_in"], guessed["cut_out"]) == ("24", 86400, 86447)
    assert (given["rate"], given["cut_in"], given["cut_out"]) == ("25", 90000, 90049)
    assert ["names no frame rate" in " ".join(one["warnings"]) for one in (guessed, given)] == [True, False]
    with pytest.raises(PipelineError, match="'fast' is not a frame rate"):
        run(str(path), "--rate", "fast")


def test_a_fault_of_the_reader_itself_names_what_it_read() -> None:
    inspector = Inspector()
    try:
        for call, kind in (("edit", EditError), ("intake", PlateError)):
            with pytest.raises(kind, match="unreadable: TypeError"):
                inspector.call(call, {"nonsense": 1})
    finally:
        inspector.close()


def test_hostile_nesting_is_an_error_for_people(tmp_path: Path) -> None:
    path = tmp_path / "hostile.otio"
    path.write_text("[" * 200_000)
    with pytest.raises(EditError, match="nested deeper"):
        run(str(path), "--json")


def test_help_imports_no_parser() -> None:
    code = (
        "import sys; from farm.cli.edit import command\n"
        "heavy = {'opentimelineio', 'rich', 'numpy', 'farm.inspector', 'pipeline.edit.otio_in'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert time.perf_counter() - start < 5
