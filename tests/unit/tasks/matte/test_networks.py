"""Weights by path: a real ViTMatte of two layers and a real ONNX model in RVM's layout, made here."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ModelError, PipelineError
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.matte.runner import MatteRunner
from pipeline.tasks.matte.vitmatte import _starts
from tests import tiny as models

from .tiny import Composite, composite


@pytest.fixture(scope="module")
def clip() -> Composite:
    return composite(4)


@pytest.fixture(scope="module")
def vitmatte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.vitmatte(tmp_path_factory.mktemp("vitmatte"))


@pytest.fixture(scope="module")
def rvm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.rvm_onnx(tmp_path_factory.mktemp("rvm") / "rvm.onnx")


def loaded(path: Path, family: str = "") -> MatteRunner:
    runner = MatteRunner()
    runner.load(ModelRef(path=path, family=family))
    return runner


def test_vitmatte_fills_the_band_and_keeps_what_is_known(vitmatte: Path, clip: Composite, tmp_path: Path) -> None:
    (found,) = loaded(vitmatte, "vitmatte").run(clip.shot(tmp_path, [1002], edge=2.0, steady=0))
    (plain,) = MatteRunner().run(clip.shot(tmp_path, [1002], edge=2.0, steady=0))
    assert found.alpha is not None and plain.alpha is not None
    assert np.all(found.alpha[40:56, 40:54] == 1) and np.all(found.alpha[:10] == 0)
    assert not np.array_equal(found.alpha, plain.alpha)
    assert found.quality["unknown"] == plain.quality["unknown"]


def test_vitmatte_gives_the_same_bits_however_it_is_chunked(vitmatte: Path, clip: Composite, tmp_path: Path) -> None:
    whole = {r.frame: r for r in loaded(vitmatte).run(clip.shot(tmp_path))}
    for frames in ([1001], [1002, 1003], [1004]):
        for result in loaded(vitmatte).run(clip.shot(tmp_path, frames)):
            assert result.layers["matte"]["A"].tobytes() == whole[result.frame].layers["matte"]["A"].tobytes()


def test_tiles_overlap_and_end_with_the_picture() -> None:
    assert _starts(500) == [0]
    for length in (769, 1080, 2160, 3840):
        starts = _starts(length)
        assert starts[0] == 0 and starts[-1] + 768 == length
        assert all(b - a <= 768 - 128 for a, b in pairwise(starts))


def test_tiles_leave_no_seam(vitmatte: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between overlapping tiles the matte runs on: no step is larger where tiles meet than elsewhere."""
    from pipeline.tasks.matte import vitmatte as module

    rng = np.random.default_rng(0)
    picture = rng.random((3, 64, 160), dtype=np.float32)
    unknown = np.ones((64, 160), np.bool_)
    monkeypatch.setattr(module, "_TILE", 96)
    monkeypatch.setattr(module, "_OVERLAP", 32)
    matte = module.VitMatte(vitmatte, "").matte(picture, np.zeros((64, 160), np.float32), unknown)
    steps = np.abs(np.diff(matte, axis=1)).mean(0)
    joins = [63, 64, 95, 96]
    assert steps[joins].max() <= 1.1 * np.percentile(np.delete(steps, joins), 98)


def test_rvm_needs_no_roto_and_remembers_only_its_context(rvm: Path, clip: Composite, tmp_path: Path) -> None:
    runner = loaded(rvm, "rvm-onnx")
    whole = {r.frame: r for r in runner.run(clip.shot(tmp_path, with_roto=False, steady=2))}
    for frames in ([1001, 1002], [1003], [1004]):
        for result in loaded(rvm).run(clip.shot(tmp_path, frames, with_roto=False, steady=2)):
            assert result.layers["matte"]["A"].tobytes() == whole[result.frame].layers["matte"]["A"].tobytes()
    # Its alpha is a sigmoid of the picture's sum plus a tenth of a state that counts frames: two led up to the fourth frame.
    total = np.clip(clip.shot(tmp_path).display(1004), 0, 1).sum(0)
    by_hand = 1 / (1 + np.exp(-((total - 1.5) * 8 + 0.2)))
    found = whole[1004].layers["matte"]["A"]
    inside = (by_hand > 0.01) & (by_hand < 0.99)
    assert np.abs(found - by_hand)[inside].max() < 1e-3


def test_rvm_is_held_by_a_roto_where_there_is_one(rvm: Path, clip: Composite, tmp_path: Path) -> None:
    (found,) = loaded(rvm).run(clip.shot(tmp_path, [1001], edge=1.5))
    assert found.alpha is not None
    assert np.all(found.alpha[:10] == 0) and np.all(found.alpha[44:52, 40:48] == 1)


def test_nothing_of_rvms_memory_crosses_a_cut(rvm: Path, clip: Composite, tmp_path: Path) -> None:
    (cut,) = loaded(rvm).run(clip.shot(tmp_path, [1003], with_roto=False, steady=2, cuts=[1003]))
    (alone,) = loaded(rvm).run(clip.shot(tmp_path, [1003], with_roto=False, steady=0))
    assert cut.layers["matte"]["A"].tobytes() == alone.layers["matte"]["A"].tobytes()


def test_other_models_are_refused(tmp_path: Path, rvm: Path) -> None:
    with pytest.raises(PipelineError):
        loaded(models.classifier_onnx(tmp_path / "classifier.onnx"))
    with pytest.raises(ModelError, match=r"takes \['pixels'\]"):
        loaded(models.classifier_onnx(tmp_path / "again.onnx"), "rvm-onnx")
    with pytest.raises(ModelError):
        MatteRunner().load(ModelRef(path=rvm, sha256="0" * 64, family="rvm-onnx"))


def test_unloading_gives_the_weights_back(rvm: Path, clip: Composite, tmp_path: Path) -> None:
    runner = loaded(rvm)
    runner.unload()
    (plain,) = MatteRunner().run(clip.shot(tmp_path, [1001], steady=0))
    (again,) = runner.run(clip.shot(tmp_path, [1001], steady=0))
    assert plain.alpha is not None and again.alpha is not None
    assert plain.alpha.tobytes() == again.alpha.tobytes()
