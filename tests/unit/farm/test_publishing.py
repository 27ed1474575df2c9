"""What a publish makes of inputs that changed while the job waited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from farm.publishing import changed_inputs
from pipeline.inputs import digest_of
from pipeline.jobs.spec import InputSpec, TakeSpec


def take_of(path: Path, files: list[Path]) -> TakeSpec:
    found = InputSpec(path=str(path), digests={file.name: digest_of(file) for file in files})
    return TakeSpec(index=0, name="t", seed=1, parameters={}, inputs={"matte": found})


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "m" / f"m.{frame}.exr" for frame in (1001, 1002)]
    made[0].parent.mkdir()
    for file in made:
        file.write_text(file.name)
    return made


@pytest.mark.parametrize("text", ["m/m.####.exr", "m", "m/m.%04d.exr"])
def test_files_that_stayed_are_what_was_submitted(tmp_path: Path, files: list[Path], text: str) -> None:
    assert changed_inputs(take_of(tmp_path / text, files)) == []
    files[1].write_text("painted once more")
    assert changed_inputs(take_of(tmp_path / text, [files[0]])) == [], "a frame that doesn't count may change"


@pytest.mark.parametrize("harm", [lambda file: file.write_text("painted once more"), Path.unlink])
@pytest.mark.parametrize("text", ["m/m.####.exr", "m", "m/m.1001.exr"])
def test_a_file_that_was_painted_again_while_the_job_waited_is_found(
    tmp_path: Path, files: list[Path], text: str, harm: Callable[[Path], object]
) -> None:
    take = take_of(tmp_path / text, files[:1])
    harm(files[0])
    assert changed_inputs(take) == ["matte"]


def test_weights_are_not_read_through_again(tmp_path: Path) -> None:
    """Their digest is a SHA-256, checked by the session that loaded them."""
    found = InputSpec(path=str(tmp_path / "gone.onnx"), digests={"gone.onnx": "ab" * 32})
    take = TakeSpec(index=0, name="t", seed=1, parameters={}, inputs={"net": found}, weights={"net": "ab" * 32})
    assert changed_inputs(take) == []
