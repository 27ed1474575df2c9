"""Every awkward case, one a file, gives the contexts that were worked out by hand (tests/golden/refresh_edits.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.edit.context import EditContext
from pipeline.edit.otio_in import contexts_json
from tests.golden.refresh_edits import CASES, FOLDER, HANDLES, differences

FILES = sorted(FOLDER.glob("*.otio"))


def test_every_case_has_its_golden_files_and_no_file_is_left_over() -> None:
    assert {path.stem for path in FILES} == set(CASES)
    assert {path.stem for path in FOLDER.glob("*.json")} == set(CASES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_edit_gives_its_contexts(path: Path) -> None:
    found = contexts_json(path, handles=HANDLES)
    assert found == json.loads(path.with_suffix(".json").read_text())
    assert differences(found, CASES[path.stem]()[1]) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_context_survives_json(path: Path) -> None:
    for one in json.loads(path.with_suffix(".json").read_text()):
        assert EditContext.from_json(one).as_json() == one
