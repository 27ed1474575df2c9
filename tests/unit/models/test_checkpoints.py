"""States of a training on disk: how often they are due, which is read, and what one that is broken counts for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.errors import RunnerError
from pipeline.models.checkpoints import FolderCheckpoints, checkpoint_s


def state(number: float) -> dict[str, torch.Tensor]:
    return {"weights": torch.full((3,), number)}


def test_a_state_is_due_when_its_time_has_come(tmp_path: Path) -> None:
    now = [100.0]
    checkpoints = FolderCheckpoints(tmp_path, every_s=30, clock=lambda: now[0])
    assert not checkpoints.due()
    now[0] += 30
    assert checkpoints.due()
    checkpoints.keep(1, state(1), {})
    assert not checkpoints.due()


def test_the_newest_whole_state_is_read_and_only_two_are_kept(tmp_path: Path) -> None:
    checkpoints = FolderCheckpoints(tmp_path / "not" / "there")
    assert checkpoints.newest() is None
    for step in (5, 10, 15):
        checkpoints.keep(step, state(step), {"loss": step / 10})
    newest, broken = sorted(p.name for p in (tmp_path / "not" / "there").iterdir())
    assert (newest, broken) == ("000000010.safetensors", "000000015.safetensors")
    (tmp_path / "not" / "there" / broken).write_bytes(b"half a")
    found = checkpoints.newest()
    assert found is not None
    step, tensors, facts = found
    assert (step, facts) == (10, {"loss": 1.0})
    assert tensors["weights"].tolist() == [10.0] * 3


@pytest.mark.parametrize(("text", "seconds"), [(None, 30), ("5", 5), ("0", 0), ("0.5", 0.5)])
def test_how_often_is_a_setting(monkeypatch: pytest.MonkeyPatch, text: str | None, seconds: float) -> None:
    monkeypatch.delenv("PLATEWRIGHT_CHECKPOINT_S", raising=False)
    if text is not None:
        monkeypatch.setenv("PLATEWRIGHT_CHECKPOINT_S", text)
    assert checkpoint_s() == seconds


@pytest.mark.parametrize("text", ["", "-1", "often", "nan", "inf"])
def test_a_setting_that_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PLATEWRIGHT_CHECKPOINT_S", text)
    with pytest.raises(RunnerError, match="PLATEWRIGHT_CHECKPOINT_S"):
        checkpoint_s()
