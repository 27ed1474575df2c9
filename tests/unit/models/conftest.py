"""Tiny models, made once a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of everything. Tests that spoil something copy it first."""
    folder = tmp_path_factory.mktemp("house")
    tiny.stable_diffusion(folder / "sd")
    tiny.stable_diffusion(folder / "inpaint", inpaint=True)
    tiny.controlnet(folder / "control")
    tiny.controlnet(folder / "control_wide", width=64)
    tiny.lora(folder / "look.safetensors")
    tiny.lora(folder / "look_wide.safetensors", width=64)
    tiny.sam2(folder / "sam2")
    tiny.vitmatte(folder / "vitmatte")
    tiny.saliency_onnx(folder / "saliency.onnx")
    tiny.rvm_onnx(folder / "rvm.onnx")
    tiny.classifier_onnx(folder / "classifier.onnx")
    return folder


@pytest.fixture
def spoiled(house: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of them, to be changed."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(house / name, tmp_path / name))

    return copy
