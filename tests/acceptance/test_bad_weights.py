"""Weights, sounds and painted keys that can't be used are refused before anything runs, with what, where and what to do."""

from __future__ import annotations

import shutil
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests import tiny
from tests.acceptance.farmhouse import Farmhouse
from tests.acceptance.refusals import refusal, told
from tests.plates import SmallPlate, write_small_plate


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farmhouse]:
    farmhouse = Farmhouse(tmp_path_factory.mktemp("house"))
    farmhouse.serve()
    yield farmhouse
    farmhouse.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion of the real classes."""
    return tiny.stable_diffusion(tmp_path_factory.mktemp("base") / "sd")


@pytest.fixture
def plate(tmp_path: Path) -> SmallPlate:
    return write_small_plate(tmp_path / "shot", count=6, width=64, height=48)


@pytest.fixture
def painted(tmp_path: Path) -> Path:
    return picture(tmp_path / "painted.png", 64, 48)


def picture(path: Path, width: int, height: int) -> Path:
    pixels = np.random.default_rng(3).integers(0, 255, (height, width, 3), np.uint8)
    cv2.imwrite(str(path), pixels)
    return path


def style(plate: SmallPlate, key: Path, frame: int = 1001, **more: Any) -> dict[str, Any]:
    keys = [{"frame": frame, "path": str(key)}]
    return {"task": "style_transfer", "plate": str(plate.pattern), "keys": keys, **more}


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.bin", "net.safetensors", "net.onnx"])
def test_pickled_weights_are_refused_whatever_their_name(
    house: Farmhouse, plate: SmallPlate, tmp_path: Path, name: str
) -> None:
    weights = tiny.pickled(tmp_path / name)
    told(refusal(house, plate.request(model=str(weights))), "model", str(weights), "code")


def test_an_exported_program_is_refused(house: Farmhouse, plate: SmallPlate, tmp_path: Path) -> None:
    weights = tiny.exported(tmp_path / "net.pt2")
    told(refusal(house, plate.request(model=str(weights))), "model", ".pt2", "code")


def test_weights_with_another_hash_are_refused(house: Farmhouse, plate: SmallPlate, tmp_path: Path) -> None:
    weights = tiny.saliency_onnx(tmp_path / "salient.onnx")
    faults = refusal(house, plate.request(model=str(weights), model_sha256="0" * 64))
    told(faults, "model", "sha256", "000000000000")


def test_an_onnx_file_of_another_signature_is_refused_with_what_it_has(
    house: Farmhouse, plate: SmallPlate, tmp_path: Path
) -> None:
    told(refusal(house, plate.request(model=str(tiny.classifier_onnx(tmp_path / "cats.onnx")))), "model", "cats.onnx")


def test_a_model_that_nobody_knows_is_refused(house: Farmhouse, plate: SmallPlate) -> None:
    told(refusal(house, plate.request(model="hero-net")), "model", "hero-net", "efficientnet-lite0")


def test_a_base_with_code_of_its_own_is_refused(
    house: Farmhouse, plate: SmallPlate, base: Path, painted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sd"
    shutil.copytree(base, folder)
    (folder / "pipeline.py").write_text("print('hello')\n")
    told(refusal(house, style(plate, painted, model=str(folder))), "model", "pipeline.py")


def test_a_lora_of_another_base_is_refused(house: Farmhouse, plate: SmallPlate, base: Path, tmp_path: Path) -> None:
    lora = tiny.lora(tmp_path / "other.safetensors", width=64)
    request = {"task": "style_transfer", "plate": str(plate.pattern), "model": str(base)}
    faults = refusal(house, {**request, "parameters": {"lora": str(lora)}})
    told(faults, "lora", "other.safetensors")


def test_a_painted_key_of_another_size_or_outside_the_range_is_refused(
    house: Farmhouse, plate: SmallPlate, painted: Path, tmp_path: Path
) -> None:
    small = picture(tmp_path / "small.png", 60, 48)
    told(refusal(house, style(plate, small)), "key matte:1001", "60×48", "64×48")
    told(refusal(house, style(plate, painted, frame=1099)), "key matte:1099", "outside the frames")


def test_a_sound_that_is_shorter_than_the_range_or_no_sound_is_refused(
    house: Farmhouse, plate: SmallPlate, tmp_path: Path
) -> None:
    sound = tmp_path / "short.wav"
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.zeros(800, np.int16).tobytes())
    driven = {"iterations": 0, "feather": {"audio": str(sound), "low": 0, "high": 4}}
    told(refusal(house, plate.request(parameters=driven, rate="24")), "parameter feather", "lasts 0.10 s", "0.25 s")
    sound.write_text("not a sound")
    told(refusal(house, plate.request(parameters=driven, rate="24")), "parameter feather", "not a sound")


def test_a_screen_colour_that_is_not_in_the_plate_is_refused(house: Farmhouse, plate: SmallPlate) -> None:
    request = {
        "task": "matte", "plate": str(plate.pattern), "parameters": {"source": "screen", "screen": [0.0, 4.0, 0.0]},
    }  # fmt: skip
    told(refusal(house, request), "parameter screen", "screen")


def test_an_extension_where_nothing_is_missing_is_refused(house: Farmhouse, plate: SmallPlate) -> None:
    told(refusal(house, {"task": "shot_extension", "plate": str(plate.pattern)}), "frames", "nothing is missing")


def test_all_of_these_are_told_at_once(house: Farmhouse, plate: SmallPlate, tmp_path: Path) -> None:
    weights = tiny.pickled(tmp_path / "net.pt")
    asked = plate.request(model=str(weights), parameters={"feather": 900, "iterations": {"keys": {"1001": 1}}})
    faults = refusal(house, asked)
    told(faults, "model", "code")
    told(faults, "parameter feather", "900")
    told(faults, "parameter iterations", "can't be keyed")
