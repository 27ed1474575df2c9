"""A studio's look: a base with a card, a LoRA that learned approved style versions, and a shot drawn with both, on a real farm."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.media.exr import Frame, Part, read_frame, write_frame
from pipeline.models.files import sha256_of
from pipeline.plate import FramePattern, Window
from tests import tiny
from tests.acceptance.farmhouse import Farmhouse, parsed
from tests.acceptance.lessons import given, named
from tests.plates import SmallPlate, write_small_plate

pytestmark = pytest.mark.slow
SHOTS = ("sh010", "sh020", "sh030")
QUICK = {"iterations": 24, "lines": 64, "rank": 8, "learning_rate": 0.01, "frames_a_shot": 3, "score_frames": 2}
DRAWN = {"prompt": "a picture in the studio's look", "steps": 2, "model_lines": 64, "seed": 4}


@dataclass
class Studio:
    """A farm with finished styles, a base, and a LoRA `look` that was taught them."""

    house: Farmhouse
    plates: dict[str, SmallPlate]
    base: Path
    told: dict[str, Any] = field(default_factory=dict)
    """What `plates models finetune --wait --json` printed."""

    def card(self, name: str) -> dict[str, Any]:
        """A card as the API tells of it."""
        found: dict[str, Any] = self.house.client().get(f"/v1/models/{name}")
        return found

    def drawn(self, model: str, **parameters: Any) -> tuple[dict[int, Any], dict[str, Any]]:
        """A shot drawn with a model. Returns frame → its pixels, and the record."""
        request = {
            "task": "style_transfer",
            "plate": str(self.plates["sh010"].pattern),
            "frames": "1001-1002",
            "show": "demo",
            "shot": "sh900",
            "model": model,
            "parameters": {**DRAWN, **parameters},
        }
        outcome = self.house.ended(self.house.submit(request)["job"])
        assert outcome["state"] == "succeeded", outcome
        pattern = FramePattern.parse(outcome["version"]["pattern"])
        assert pattern is not None
        frames = {frame: read_frame(pattern.path(frame)).main.channels for frame in (1001, 1002)}
        record = json.loads(Path(outcome["version"]["sidecar"]).read_text())
        return {f: np.stack([c[n] for n in "RGB"]).astype(np.float32) for f, c in frames.items()}, record


def painted(plate: SmallPlate) -> Path:
    """The first frame as an artist might paint it: other colours."""
    channels = read_frame(plate.pattern.path(1001)).main.channels
    path = plate.folder / "painted.1001.exr"
    window = Window.of_size(plate.width, plate.height)
    other = {"R": channels["G"], "G": channels["B"], "B": channels["R"]}
    write_frame(path, Frame((Part("", {"colorInteropID": "lin_rec709_scene"}, other, window, window),)))
    return path


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("look")
    house = Farmhouse(folder, PLATEWRIGHT_LEASE_S="8")
    try:
        house.serve("--workers", "1")
        plates = {s: write_small_plate(folder / s, count=4, keys=(1001,), seed=i) for i, s in enumerate(SHOTS)}
        jobs = []
        for shot, plate in plates.items():
            request = {"task": "style_transfer", "plate": str(plate.pattern), "show": "demo", "sequence": "sq1"}
            keys = [{"frame": 1001, "path": str(painted(plate))}]
            jobs.append(house.submit({**request, "shot": shot, "keys": keys, "parameters": {"seed": 1}})["job"])
        studio = Studio(house, plates, tiny.stable_diffusion(folder / "sd"))
        for job in jobs:
            assert house.ended(job)["state"] == "succeeded"
        for shot in SHOTS:
            assert house.plates("approve", named(shot, product="style")).returncode == 0
        assert house.plates("clear", "give", "training", "demo", "--by", "A. Stone").returncode == 0
        added = house.plates(
            "models", "add", "style_transfer", "base", str(studio.base), "--licence", "CreativeML-Open-RAIL-M"
        )
        assert added.stdout == f"base@v001  diffusers  sha256 {sha256_of(studio.base)[:12]}\n", added.stderr
        learn = ("models", "finetune", "style_transfer", "look", "--base", "base", *given(QUICK), "--wait", "--json")
        run = house.plates(*learn)
        assert run.returncode == 0, (run.stdout, run.stderr)
        studio.told = parsed(run)
        yield studio
    finally:
        house.close()


def test_a_lora_gets_a_card_on_its_base_and_is_judged_against_the_base_alone(studio: Studio) -> None:
    card, base = studio.card("look"), studio.card("base")
    assert (card["family"], card["base"], card["base_model"]) == ("lora", "base@v001", base["id"])
    assert card["sha256"] == sha256_of(Path(card["path"]))
    assert len(card["lineage"]["versions"]) == 2
    assert len(card["lineage"]["held_out"]) == 1
    assert all(one["consent"]["by"] == "A. Stone" for one in card["lineage"]["versions"])
    (score,) = card["scores"]
    assert score["measure"] == "denoising_loss"
    assert score["beside"]["label"] == "base@v001 alone"
    assert score["value"] < score["beside"]["value"], "the look isn't known better than by the base alone"
    assert score["shots"].keys() == score["beside"]["shots"].keys() == {card["lineage"]["held_out"][0]["shot"]}
    assert studio.told["model"]["against"] == "base@v001"


def test_a_look_that_won_is_promoted_over_its_base(studio: Studio) -> None:
    said = studio.house.plates("models", "promote", "look").stdout
    (score,) = studio.card("look")["scores"]
    gain = score["beside"]["value"] - score["value"]
    assert said == f"style_transfer@production is look@v001: won by {gain:+.4f} over base@v001 alone\n"
    refused = studio.house.plates("models", "promote", "base")
    assert refused.returncode == 3
    assert "base@v001 has no score" in refused.stderr


def test_a_submit_with_a_look_loads_base_and_lora_and_its_record_names_both(studio: Studio) -> None:
    card, base = studio.card("look"), studio.card("base")
    look, record = studio.drawn("look")
    alone, other = studio.drawn("base")
    off, _ = studio.drawn("look", lora_strength=0.0)
    assert (record["model"]["card"], record["model"]["sha256"]) == ("base@v001", base["sha256"])
    assert record["model"]["licence"] == "CreativeML-Open-RAIL-M"
    assert list(record["weights"].values()) == [card["sha256"]], record["weights"]
    assert other["weights"] == {}
    used = {model["name"]: model["licence"] for model in record["policy"]["subject"]["models"]}
    assert used["look@v001"] == "LicenseRef-local"
    assert used["base@v001"] == "CreativeML-Open-RAIL-M"
    for frame, pixels in look.items():
        assert np.abs(pixels - alone[frame]).max() > 0.01, "the LoRA changes nothing"
        assert np.array_equal(off[frame], alone[frame])


def test_a_base_that_changed_is_refused_with_what_stands_on_it(studio: Studio) -> None:
    house = studio.house
    jobs = house.client().get("/v1/jobs")
    config = studio.base / "unet" / "config.json"
    original = config.read_text()
    config.write_text(original.replace("32", "33", 1))
    try:
        plate = str(studio.plates["sh010"].pattern)
        draw = ("submit", "style_transfer", "--plate", plate, "--model", "look")
        for command in (
            draw,
            ("models", "score", "look"),
            ("models", "finetune", "style_transfer", "l2", "--base", "base"),
        ):
            run = house.plates(*command)
            assert run.returncode == 3, (command, run.stdout)
            assert "base@v001" in run.stderr
            assert "sha256" in run.stderr
    finally:
        config.write_text(original)
    assert house.client().get("/v1/jobs") == jobs


def test_a_folder_of_weights_is_exported_whole(studio: Studio, tmp_path: Path) -> None:
    for name in ("base", "look"):
        run = studio.house.plates("models", "export", name, str(tmp_path))
        assert run.returncode == 0, run.stderr
    out = tmp_path / "base@v001"
    card = json.loads((out / "card.json").read_text())
    assert sha256_of(out / "base") == card["sha256"]
    assert sha256_of(tmp_path / "look@v001" / "look.safetensors") == studio.card("look")["sha256"]
    assert not any(tarfile.is_tarfile(path) for path in tmp_path.rglob("*") if path.is_file())
