"""Weights by path through the whole product: what is refused before anything runs, and a published version by each family."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integrations._shared.client import DispatcherError
from pipeline.media.exr import read_frame
from pipeline.models.files import sha256_of
from tests import tiny
from tests.acceptance.farmhouse import Farmhouse
from tests.plates import SmallPlate, disc, write_small_plate


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farmhouse]:
    """One dispatcher; it must take nothing of what these tests send."""
    farmhouse = Farmhouse(tmp_path_factory.mktemp("house"))
    farmhouse.serve()
    yield farmhouse
    farmhouse.close()


@pytest.fixture
def plate(tmp_path: Path) -> SmallPlate:
    return write_small_plate(tmp_path, count=4, width=96, height=64)


def refused(house: Farmhouse, request: dict[str, Any]) -> list[str]:
    """The faults, as text; that nothing was made is checked along."""
    with pytest.raises(DispatcherError) as error:
        house.submit(request)
    assert error.value.status == 422, error.value.message
    assert house.client().get("/v1/jobs") == []
    return [f"{f['where']}: {f['message']} | {f['hint']}" for f in error.value.faults]


def coded(path: Path) -> Path:
    """A SAM 2 folder with a module in it that would leave a mark."""
    tiny.sam2(path)
    (path / "modeling.py").write_text(f"open({str(path.parent / 'ran')!r}, 'w')")
    return path


def self_coded(path: Path) -> Path:
    """A SAM 2 folder whose configuration names code."""
    config = tiny.sam2(path) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": {"AutoModel": "modeling.Net"}}))
    return path


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("net.pt", tiny.pickled, ("model", ".pt files can hold code")),
        ("net.pt2", tiny.exported, ("model", ".pt2 files can hold code")),
        ("hidden.safetensors", lambda p: tiny.pickled(p.with_suffix(".zip")).rename(p), ("model", "zip archive")),
        ("scores.onnx", tiny.classifier_onnx, ("model", "takes pixels float32[1,3,32,32]", "this task wants")),
        ("rvm.onnx", tiny.rvm_onnx, ("model", "RVM", "this task takes")),
        ("coded", coded, ("model", "has code in it")),
        ("self_coded", self_coded, ("model", "auto_map")),
        ("base", tiny.stable_diffusion, ("model", "a diffusers folder", "this task takes")),
    ],
)
def test_weights_that_must_not_be_loaded_are_refused_before_anything_runs(
    house: Farmhouse, plate: SmallPlate, tmp_path: Path, name: str, make: Callable[[Path], Path], words: tuple[str, ...]
) -> None:
    path = make(tmp_path / name)
    texts = refused(house, plate.request(model=str(path)))
    assert any(all(word in text for word in words) for text in texts), texts
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_hash_are_refused(house: Farmhouse, plate: SmallPlate, tmp_path: Path) -> None:
    path = tiny.saliency_onnx(tmp_path / "a.onnx")
    texts = refused(house, plate.request(model=str(path), model_sha256="0" * 64))
    assert any("model" in text and "sha256" in text for text in texts), texts


def test_prompts_that_cant_be_meant_are_refused(house: Farmhouse, plate: SmallPlate) -> None:
    def asked(**parameters: Any) -> list[str]:
        return refused(house, plate.request(keys=[], parameters={"iterations": 0, **parameters}))

    assert any("parameter points" in t and "96×64" in t for t in asked(points=[[500, 3]]))
    assert any("parameter prompt_frame" in t and "2000" in t for t in asked(points=[[5, 3]], prompt_frame=2000))
    assert any("parameter box" in t and "empty" in t for t in asked(box=[9, 9, 3, 3]))


def published(farmhouse: Farmhouse, plate: SmallPlate, *arguments: str) -> dict[int, Any]:
    """The mattes that `plates run` publishes."""
    out = plate.folder / "out"
    done = farmhouse.plates(
        "run", "roto", "--plate", str(plate.pattern), "--iterations", "0", "--seed", "1", "--out", str(out), *arguments
    )
    assert done.returncode == 0, done.stderr
    files = sorted(out.rglob("*.exr"))
    frames = {int(p.name.split(".")[-2]): read_frame(p).main.channels for p in files if "matte" not in p.parent.name}
    return {frame: channels["matte.A"] for frame, channels in frames.items() if "matte.A" in channels}


@pytest.mark.slow
def test_a_box_on_the_first_frame_is_enough_for_a_version(farmhouse: Farmhouse, plate: SmallPlate) -> None:
    found = published(farmhouse, plate, "--box", "14,13,53,51")
    assert sorted(found) == list(plate.frames)
    for frame, matte in found.items():
        truth = disc(frame, 96, 64) > 0.5
        assert ((matte > 0.5) & truth).sum() / ((matte > 0.5) | truth).sum() > 0.8, frame


@pytest.mark.slow
def test_an_onnx_model_and_a_sam_2_folder_each_publish_a_version(
    farmhouse: Farmhouse, plate: SmallPlate, tmp_path: Path
) -> None:
    bright = tiny.saliency_onnx(tmp_path / "bright.onnx", side=None)
    found = published(farmhouse, plate, "--model", str(bright), "--model-sha256", sha256_of(bright))
    assert sorted(found) == list(plate.frames)
    for frame, matte in found.items():
        truth = disc(frame, 96, 64) > 0.5
        assert ((matte > 0.5) & truth).sum() / ((matte > 0.5) | truth).sum() > 0.6, frame
    sam2 = tiny.sam2(tmp_path / "sam2")
    other = write_small_plate(tmp_path / "other", count=4, width=96, height=64)
    tracked = published(farmhouse, other, "--model", str(sam2), "--points", "33,32")
    assert sorted(tracked) == list(other.frames)
