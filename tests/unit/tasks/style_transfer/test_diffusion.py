"""The model's way, with real classes at a tiny size: nothing here stands for another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ModelError
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.style_transfer.definition import STYLE_TRANSFER, StyleParameters
from pipeline.tasks.style_transfer.edges import drawing
from pipeline.tasks.style_transfer.runner import StyleTransferRunner
from tests import tiny

from .scene import disk, gliding, shot, shown

FAST: dict[str, Any] = {"prompt": "a look", "steps": 2, "guidance": 3.0, "model_lines": 64, "blend_frames": 0}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    tiny.stable_diffusion(folder / "sd")
    tiny.stable_diffusion(folder / "inpaint", inpaint=True)
    tiny.controlnet(folder / "control")
    tiny.lora(folder / "look.safetensors")
    tiny.lora(folder / "wide.safetensors", width=64)
    return folder


def loaded(house: Path, **options: str) -> StyleTransferRunner:
    runner = StyleTransferRunner()
    runner.load(
        ModelRef(path=house / "sd", family="diffusers", options={k: str(house / v) for k, v in options.items()})
    )
    return runner


def drawn(runner: StyleTransferRunner, folder: Path, *, seed: int = 5, **parameters: Any) -> list[Any]:
    """Three frames of the scene, fitted and run."""
    plate = {f: p for f, p in gliding().items() if f < 1004}
    made = shot(folder, keys=(), plate=plate, seed=seed, parameters=StyleParameters(**FAST | parameters))
    runner.fit(made)
    return list(runner.run(made))


@pytest.fixture(scope="module")
def base(house: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return drawn(loaded(house), tmp_path_factory.mktemp("base"))


def test_a_model_draws_every_frame_and_a_seed_gives_the_same_bits(house: Path, base: list[Any], tmp_path: Path) -> None:
    plate = gliding()
    runner = loaded(house)
    again, other = drawn(runner, tmp_path), drawn(runner, tmp_path, seed=6)
    for first, second, third in zip(base, again, other, strict=True):
        assert first.rgb.tobytes() == second.rgb.tobytes() != third.rgb.tobytes()
        assert np.abs(shown(first.rgb) - shown(plate[first.frame])).mean() > 0.02
        assert set(first.quality) == set(STYLE_TRANSFER.measures) and 0 < first.quality["confidence"] <= 1
        assert first.quality["key_distance"] == -1


def test_a_lora_of_weight_0_gives_the_base_bit_for_bit(house: Path, base: list[Any], tmp_path: Path) -> None:
    runner = loaded(house, lora="look.safetensors")
    none, full = drawn(runner, tmp_path, lora_strength=0.0), drawn(runner, tmp_path, lora_strength=1.0)
    for plain, without, strong in zip(base, none, full, strict=True):
        assert plain.rgb.tobytes() == without.rgb.tobytes()
        assert np.abs(plain.rgb - strong.rgb).max() > 1e-3


def test_a_controlnet_changes_what_is_drawn_and_at_strength_0_does_not(
    house: Path, base: list[Any], tmp_path: Path
) -> None:
    runner = loaded(house, controlnet="control")
    steered = drawn(runner, tmp_path, control_strength=1.0)
    loose = drawn(runner, tmp_path, control_strength=0.0)
    assert np.abs(steered[0].rgb - base[0].rgb).max() > 1e-3
    assert np.allclose(loose[0].rgb, base[0].rgb, atol=1e-4)


def test_without_change_or_strength_the_plate_comes_back(house: Path, tmp_path: Path) -> None:
    plate = gliding()
    runner = loaded(house)
    for result in drawn(runner, tmp_path, change=0.0):
        assert np.allclose(shown(result.rgb), shown(plate[result.frame]), atol=1e-4)
    for result in drawn(runner, tmp_path, strength=0.0):
        assert np.array_equal(result.rgb, plate[result.frame].astype(np.float32))


def test_neighbours_are_blended_in_and_chunks_join(house: Path, tmp_path: Path) -> None:
    plate = {f: p for f, p in gliding().items() if f < 1004}
    made = shot(tmp_path, keys=(), plate=plate, parameters=StyleParameters(**FAST | {"blend_frames": 1}))
    runner = loaded(house)
    runner.fit(made)
    assert made.previews[0][1]["picture"].shape[0] == 3, "an early look comes first"
    whole = {r.frame: r for r in runner.run(made)}
    (alone,) = runner.run(replace(made, frames=[1002], context=[1001, 1003], available=()))
    assert alone.rgb is not None and alone.rgb.tobytes() == whole[1002].rgb.tobytes()  # type: ignore[union-attr]
    raw = drawn(runner, tmp_path)[1]
    assert whole[1002].quality["flicker"] == raw.quality["flicker"] and not np.array_equal(alone.rgb, raw.rgb)


def test_what_does_not_belong_together_is_refused(house: Path) -> None:
    with pytest.raises(ModelError, match="for another base"):
        loaded(house, lora="wide.safetensors")
    with pytest.raises(ModelError, match="no ControlNet"):
        loaded(house, controlnet="sd/unet")
    with pytest.raises(ModelError, match="can't draw with"):
        StyleTransferRunner().load(ModelRef(path=house / "inpaint", family="diffusers"))
    with pytest.raises(ModelError):
        StyleTransferRunner().load(ModelRef(path=house / "sd", family="diffusers", sha256="0" * 64))


def test_a_drawing_shows_the_outline() -> None:
    step = np.repeat((disk(40) * 0.8).astype(np.float32)[..., None], 3, 2)
    for kind in ("canny", "soft"):
        lines = drawing(step, kind)  # type: ignore[arg-type]
        assert lines.shape == step.shape and lines.max() > 0.5
        assert lines[28:32, 38:42].max() == 0 and lines[2:6, 2:6].max() == 0
        assert lines[30, 50:58].max() > 0.5, "at the disk's right edge"
