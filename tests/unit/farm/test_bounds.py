"""The file of a show's bounds: read anew for every submission, refused with the place of what is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from farm.bounds import read_bounds
from farm.settings import FarmSettings, SettingsError
from pipeline.jobs.resolve import bounds_for
from pipeline.tasks.definition import Bound


def written(folder: Path, content: Any) -> Path:
    path = folder / "bounds.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_no_file_sets_no_bounds() -> None:
    assert read_bounds(None) == {}


def test_the_example_of_the_documents_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()
    example = page.split("## Bounds")[1].split("```json\n")[1].split("```")[0]
    bounds = read_bounds(written(tmp_path, example))
    assert bounds_for(bounds, "dune", "roto") == {"confidence": Bound(least=0.2), "flicker": Bound(most=3)}
    assert bounds_for(bounds, "other", "roto") == {"confidence": Bound(least=0.2)}


@pytest.mark.parametrize("content", ["{}", '{"*": {}}', '{"*": {"*": {}}}', '{"*": {"*": {"confidence": {}}}}'])
def test_a_file_that_asks_for_nothing_is_fine(tmp_path: Path, content: str) -> None:
    for measures in bounds_for(read_bounds(written(tmp_path, content)), "show", "roto").values():
        assert (measures.least, measures.most) == (None, None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "JSON"), ("{", "JSON"), ("[]", "object"), ('{"*": 3}', "at *"), ('{"dune": {"roto": 3}}', "at dune › roto"),
        ('{"dune": {"roto": {"flicker": 3}}}', "at dune › roto › flicker"),
        ('{"dune": {"roto": {"flicker": {"max": 3}}}}', "at dune › roto › flicker › max"),
        ('{"dune": {"roto": {"flicker": {"most": "much"}}}}', "flicker › most"),
        ('{"dune": {"roto": {"flicker": {"most": NaN}}}}', "flicker › most"),
        ('{"dune": {"roto": {"flicker": {"least": 1, "unless": 1}}}}', "unless"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_bounds_is_refused_with_the_place(tmp_path: Path, content: str, words: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(SettingsError) as error:
        read_bounds(path)
    assert str(path) in error.value.message
    assert words in error.value.message
    assert "least" in error.value.hint


def test_a_bound_that_nothing_can_keep_is_refused(tmp_path: Path) -> None:
    """A least above the most would refuse every publish, long after the job was submitted."""
    with pytest.raises(SettingsError, match="confidence"):
        read_bounds(written(tmp_path, {"*": {"*": {"confidence": {"least": 2, "most": 1}}}}))
    assert read_bounds(written(tmp_path, {"*": {"*": {"confidence": {"least": 1, "most": 1}}}}))


def test_a_file_that_is_gone_is_named_with_the_setting(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(SettingsError, match="can't be read") as error:
            read_bounds(path)
        assert "PLATEWRIGHT_BOUNDS_FILE" in error.value.hint


def test_the_file_is_read_anew_every_time(tmp_path: Path) -> None:
    path = written(tmp_path, {"*": {"*": {"confidence": {"least": 0.1}}}})
    before = path.stat()
    assert bounds_for(read_bounds(path), "s", "t")["confidence"].least == 0.1
    written(tmp_path, {"*": {"*": {"confidence": {"least": 0.2}}}})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert bounds_for(read_bounds(path), "s", "t")["confidence"].least == 0.2


def test_the_setting_leads_to_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, {})
    assert FarmSettings.read({"PLATEWRIGHT_BOUNDS_FILE": str(path)}).bounds_file == path
    assert FarmSettings.read({}).bounds_file is None
