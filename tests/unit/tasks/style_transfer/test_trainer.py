"""A look is learned with real classes at a tiny size, from pictures in memory: what comes out is used, kept, resumed and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from pipeline.errors import ModelError, PipelineError, RunnerError
from pipeline.media.transform import SHOT_CURVE
from pipeline.memory_shot import MemoryFinishedShot
from pipeline.models.checkpoints import FolderCheckpoints
from pipeline.models.facts import LORA_KEY
from pipeline.models.inspect import inspect_lora, inspect_model, recognise
from pipeline.parameters import Parameters, describe, validate
from pipeline.tasks.contract import Cancelled, ModelRef
from pipeline.tasks.style_transfer import denoiser as denoisers
from pipeline.tasks.style_transfer.definition import STYLE_TRAINING, StyleParameters, StyleTrainingParameters
from pipeline.tasks.style_transfer.denoiser import Denoiser
from pipeline.tasks.style_transfer.lora import LearningLora
from pipeline.tasks.style_transfer.pictures import crops, encode_shots, spread
from pipeline.tasks.style_transfer.runner import StyleTransferRunner
from pipeline.tasks.style_transfer.trainer import LoraTrainer
from pipeline.tasks.training import WEIGHTS, FinishedShot
from tests import tiny

from .scene import gliding, paint, shot

QUICK: dict[str, Any] = {"lines": 64, "iterations": 6, "rank": 4, "learning_rate": 3e-3, "frames_a_shot": 2}


@dataclass
class Training:
    """A training's context over a folder."""

    parameters: Parameters
    shots: list[FinishedShot]
    folder: Path
    checkpoints: FolderCheckpoints
    seed: int = 3
    cancel_at: float = 2.0
    seen: list[tuple[float, str]] = field(default_factory=list)

    def progress(self, fraction: float, note: str = "") -> None:
        self.seen.append((fraction, note))
        if fraction >= self.cancel_at:
            raise Cancelled


@dataclass
class Scoring:
    """A scoring's context."""

    parameters: Parameters
    shot: FinishedShot
    folder: Path
    seed: int = 0

    def progress(self, fraction: float, note: str = "") -> None:
        assert 0 < fraction <= 1 and note


def finished(name: str = "film/a/010 style v001", *, first: int = 0, last: int = 4, **more: Any) -> MemoryFinishedShot:
    """Painted frames of the scene, as an approved version has them."""
    painted = {f: SHOT_CURVE.inverse(paint(p)).astype(np.float16) for f, p in gliding().items()}
    return MemoryFinishedShot(name=name, plate={f: p for f, p in list(painted.items())[first:last]}, **more)


def held_out() -> MemoryFinishedShot:
    return finished("film/a/020 style v002", first=5, last=7)


def training(folder: Path, **more: Any) -> Training:
    """`parameters` are laid over QUICK; everything else is of the context."""
    given = {"shots": [finished()], "checkpoints": FolderCheckpoints(folder / "states"), **more}
    parameters = StyleTrainingParameters(**QUICK | given.pop("parameters", {}))
    folder.mkdir(parents=True, exist_ok=True)
    return Training(parameters=parameters, folder=folder, **given)


def train(base: Path, folder: Path, **more: Any) -> Mapping[str, float | str | int]:
    return LoraTrainer().train(training(folder, **more), ModelRef(path=base, family="diffusers"))


def score(base: Path, folder: Path, lora: Path | None = None, **more: Any) -> Mapping[str, float]:
    model = ModelRef(path=base, family="diffusers", options={} if lora is None else {"lora": str(lora)})
    parameters = StyleTrainingParameters(score_frames=1, **more.pop("parameters", {}))
    context = Scoring(parameters=parameters, folder=folder, **{"shot": held_out(), **more})
    return LoraTrainer().score(context, model)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    tiny.stable_diffusion(folder / "sd")
    tiny.stable_diffusion(folder / "wide", width=64)
    tiny.stable_diffusion_xl(folder / "xl")
    return folder


@pytest.fixture(scope="module", params=["sd", "xl"])
def learned(request: pytest.FixtureRequest, house: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base of either family, and the folder of what was learned on it."""
    folder = tmp_path_factory.mktemp("learned")
    train(house / request.param, folder, parameters={"iterations": 60, "rank": 8, "frames_a_shot": 4})
    return house / request.param, folder


def test_the_loss_on_a_held_out_picture_of_the_look_falls_against_the_base(
    learned: tuple[Path, Path], tmp_path: Path
) -> None:
    base, folder = learned
    before, after = score(base, tmp_path), score(base, tmp_path, folder / WEIGHTS)
    assert set(before) == set(after) == set(STYLE_TRAINING.measures)
    assert after["denoising_loss"] < 0.985 * before["denoising_loss"]
    assert score(base, tmp_path, folder / WEIGHTS) == after, "a score is the same every time"
    for words, model, same in (("prompt", None, True), ("score_prompt", None, False), ("score_prompt", WEIGHTS, True)):
        lora = None if model is None else folder / model
        again = score(base, tmp_path, lora, parameters={words: "else", "lines": 96}, seed=9)
        assert (again == (after if model else before)) == same


def test_the_runner_draws_with_it_and_at_strength_0_without(learned: tuple[Path, Path], tmp_path: Path) -> None:
    base, folder = learned
    facts = inspect_lora(folder / WEIGHTS, recognise(base, families=("diffusers",)))
    assert (facts.family, facts.details["rank"]) == (STYLE_TRAINING.makes, "8")

    def drawn(strength: float | None) -> bytes:
        options = {} if strength is None else {"lora": str(folder / WEIGHTS)}
        runner = StyleTransferRunner()
        runner.load(ModelRef(path=base, family="diffusers", options=options))
        fast = StyleParameters(
            prompt="a look",
            steps=2,
            model_lines=64,
            blend_frames=0,
            lora_strength=1.0 if strength is None else strength,
        )
        made = shot(tmp_path, keys=(), plate={f: p for f, p in gliding().items() if f < 1003}, parameters=fast)
        runner.fit(made)
        return b"".join(result.rgb.tobytes() for result in runner.run(made) if result.rgb is not None)

    plain = drawn(None)
    assert plain and drawn(0.0) == plain != drawn(1.0)


def test_what_was_interrupted_goes_on_to_the_same_bytes(house: Path, tmp_path: Path) -> None:
    facts = train(house / "sd", tmp_path / "whole", parameters={"batch": 2})
    states = tmp_path / "states"
    for attempt, cancel_at in enumerate((0.5, 0.8, 2.0)):
        part = training(
            tmp_path / f"attempt{attempt}",
            parameters={"batch": 2},
            checkpoints=FolderCheckpoints(states, every_s=0),
            cancel_at=cancel_at,
        )
        if cancel_at < 1:
            with pytest.raises(Cancelled):
                LoraTrainer().train(part, ModelRef(path=house / "sd"))
            assert not (part.folder / WEIGHTS).exists()
        else:
            assert LoraTrainer().train(part, ModelRef(path=house / "sd")) == facts
    assert sum(note.startswith("step") for _, note in part.seen) == 1, "only the last step was left"
    assert (part.folder / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_a_state_of_another_training_is_not_gone_on_from(house: Path, tmp_path: Path) -> None:
    states = tmp_path / "states"
    train(house / "sd", tmp_path / "a", checkpoints=FolderCheckpoints(states, every_s=0), seed=4)
    assert FolderCheckpoints(states).newest() is not None
    train(house / "sd", tmp_path / "b", checkpoints=FolderCheckpoints(states))
    train(house / "sd", tmp_path / "c")
    assert (tmp_path / "b" / WEIGHTS).read_bytes() == (tmp_path / "c" / WEIGHTS).read_bytes()
    assert (tmp_path / "b" / WEIGHTS).read_bytes() != (tmp_path / "a" / WEIGHTS).read_bytes()


def test_only_the_lora_learns_and_reloaded_it_computes_the_same_bits(house: Path, tmp_path: Path) -> None:
    base = Denoiser(house / "sd", "a look")
    (picture, *_) = [base.encode(*crop) for crop in crops(held_out(), 1006, 64, base.factor, flip=False)]
    noise = torch.randn(picture.mean.shape, generator=torch.Generator().manual_seed(1))
    lora = LearningLora(base.unet, rank=4, alpha=8.0, learning_rate=1e-2, iterations=3, loss_scale=1.0, seed=1)
    untouched = float(base.loss(picture, picture.mean, noise, 500).detach())
    for _ in range(3):
        base.loss(picture, picture.mean, noise, 500).backward()  # type: ignore[no-untyped-call]
        lora.step()
    own = load_file(house / "sd/unet/diffusion_pytorch_model.safetensors")
    now = {name.replace(".base_layer.", "."): weight for name, weight in base.unet.state_dict().items()}
    assert all(torch.equal(now[name], weight) for name, weight in own.items())
    lora.save(tmp_path / WEIGHTS, {"rank": 4})
    reloaded = Denoiser(house / "sd", "a look", lora=tmp_path / WEIGHTS)
    with torch.no_grad():
        taught = float(base.loss(picture, picture.mean, noise, 500))
        assert float(reloaded.loss(picture, picture.mean, noise, 500)) == taught != untouched


def test_the_file_says_what_it_goes_with_and_another_base_refuses_it(house: Path, tmp_path: Path) -> None:
    facts = train(house / "sd", tmp_path, parameters={"prompt": "in ink", "alpha": 2.0})
    with safe_open(tmp_path / WEIGHTS, "pt") as file:
        said = json.loads(file.metadata()[LORA_KEY])
        names = set(file.keys())
    assert said == {name: value for name, value in facts.items() if name != "loss"}
    assert said["base_sha256"] == inspect_model(house / "sd", families=("diffusers",)).sha256
    assert (said["prompt"], said["alpha"], said["pictures"]) == ("in ink", 2.0, 8)
    assert all(name.startswith("unet.") and name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)
    with pytest.raises(ModelError, match="another base"):
        inspect_lora(tmp_path / WEIGHTS, recognise(house / "wide", families=("diffusers",)))
    with pytest.raises(ModelError, match="another base"):
        score(house / "wide", tmp_path, tmp_path / WEIGHTS)


def test_a_base_of_halves_is_learned_on_in_its_own_precision(
    house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU; the processor stands in for it, since bfloat16 computes on both."""
    monkeypatch.setattr(denoisers, "_computing", lambda _: (torch.device("cpu"), torch.bfloat16))
    facts = train(house / "sd", tmp_path)
    assert 0 < float(facts["loss"]) < 10
    layers = load_file(tmp_path / WEIGHTS)
    assert all(tensor.dtype == torch.float32 for tensor in layers.values())
    assert any(bool(tensor.any()) for name, tensor in layers.items() if ".lora_B." in name)


def test_a_loss_scaled_for_halves_teaches_the_same_bits(house: Path) -> None:
    taught = []
    for scale in (1.0, 1024.0):
        base = Denoiser(house / "sd", "a look")
        picture = base.encode(*next(crops(held_out(), 1006, 64, base.factor, flip=False)))
        lora = LearningLora(base.unet, rank=4, alpha=4.0, learning_rate=1e-2, iterations=2, loss_scale=scale, seed=1)
        for _ in range(2):
            noise = torch.randn(picture.mean.shape, generator=lora.generator)
            (scale * base.loss(picture, picture.mean, noise, 500)).backward()  # type: ignore[no-untyped-call]
            lora.step()
        taught.append(lora.state())
    assert all(torch.equal(taught[0][name], tensor) for name, tensor in taught[1].items())
    (scale * base.loss(picture, picture.mean, noise * float("inf"), 500)).backward()  # type: ignore[no-untyped-call]
    with pytest.raises(RunnerError, match="at step 3 the gradient is nan"):
        lora.step()


def test_a_base_that_predicts_velocity_is_learned_on_as_such(house: Path, tmp_path: Path) -> None:
    shutil.copytree(house / "sd", tmp_path / "v")
    edit_json(tmp_path / "v/scheduler/scheduler_config.json", prediction_type="v_prediction")
    of_noise, of_velocity = (Denoiser(path, "a look") for path in (house / "sd", tmp_path / "v"))
    crop, framing = next(crops(held_out(), 1006, 64, 8, flip=False))
    picture = of_noise.encode(crop, framing)
    noise = torch.randn(picture.mean.shape, generator=torch.Generator().manual_seed(1))
    clean = 30_000 * picture.mean  # so large that what the net itself says counts for nothing beside it
    kept = 1 - 0.00085  # where the schedule begins
    velocity = kept**0.5 * noise - (1 - kept) ** 0.5 * clean  # Salimans & Ho 2022
    snr = kept / (1 - kept)
    with torch.no_grad():
        plain = [float(d.loss(picture, clean, noise, 0)) for d in (of_noise, of_velocity)]
        weighted = [float(d.loss(picture, clean, noise, 0, snr_gamma=5.0)) for d in (of_noise, of_velocity)]
    assert plain[1] == pytest.approx(float((velocity**2).mean()), rel=0.1) and plain[1] > 10 * plain[0]
    # Hang et al. 2023: min(SNR, γ) over the SNR for noise, over the SNR + 1 for velocity.
    assert weighted == pytest.approx([plain[0] * 5 / snr, plain[1] * 5 / (snr + 1)], rel=1e-3)


def test_frames_are_spread_and_crops_cover_them_both_ways_round() -> None:
    assert spread(range(1001, 1011), 2) == [1003, 1008]
    assert spread([1, 2], 8) == [1, 2]
    picture = finished()
    made = list(crops(picture, 1001, 64, 8, flip=True))
    assert [(crop.shape, framing.left, framing.width) for crop, framing in made] == [
        ((3, 64, 64), left, 96) for left in (0, 32, 0, 32)
    ]
    shown = picture.display(1001, 64)
    assert np.array_equal(made[1][0], shown[:, :, 32:96])
    assert np.array_equal(made[2][0], shown[:, :, :31:-1])


def test_what_is_held_in_memory_is_bounded_and_still_even(house: Path) -> None:
    base = Denoiser(house / "sd", "a look")
    shots = [finished("a"), finished("b", first=2, last=6)]
    reads: list[tuple[int, int]] = []
    options: dict[str, Any] = {"lines": 64, "flip": False, "seed": 1, "on_frame": lambda *n: reads.append(n)}
    whole = encode_shots(shots, base, frames_a_shot=4, **options)
    assert len(whole) == 2 * 4 * 2 and reads[-1] == (8, 8)
    reads.clear()
    part = encode_shots(shots, base, frames_a_shot=4, most_bytes=4 * whole[0].size, **options)
    assert len(part) == 4 and reads[-1] == (2, 8), "one frame of each shot"


def test_every_parameter_has_its_form_and_bounds_that_hold() -> None:
    form = {entry["name"]: entry for entry in describe(StyleTrainingParameters)["parameters"]}
    assert {"prompt", "iterations", "rank", "alpha", "learning_rate", "lines", "seed", "frames_a_shot"} <= set(form)
    for name, value in (("rank", 0), ("rank", 1000), ("lines", 8), ("iterations", 0), ("learning_rate", 1.0)):
        parameters, faults = validate(StyleTrainingParameters, {name: value})
        assert parameters is None and [fault.where for fault in faults] == [f"parameter {name}"]


Spoil = Callable[[Path], object]


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def no_numbers(base: Path) -> None:
    """A UNet whose answers are beyond what float32 holds."""
    path = base / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    save_file(weights | {"conv_out.weight": weights["conv_out.weight"] * 1e38}, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "error", "reason"),
    [
        pytest.param(lambda b: shutil.rmtree(b / "text_encoder"), ModelError, "no folder text_encoder", id="no-text"),
        pytest.param(
            lambda b: (b / "vae/diffusion_pytorch_model.safetensors").unlink(), ModelError, "vae", id="no-vae"
        ),
        pytest.param(
            lambda b: edit_json(b / "scheduler/scheduler_config.json", prediction_type="sample"),
            ModelError,
            "predicts 'sample'",
            id="prediction",
        ),
        pytest.param(no_numbers, RunnerError, "at step 1 the loss is inf", id="diverged"),
    ],
)
def test_a_base_that_will_not_do_is_refused(
    house: Path, tmp_path: Path, spoil: Spoil, error: type[PipelineError], reason: str
) -> None:
    shutil.copytree(house / "sd", tmp_path / "base")
    spoil(tmp_path / "base")
    with pytest.raises(error, match=reason) as caught:
        train(tmp_path / "base", tmp_path / "out")
    assert caught.value.hint and not (tmp_path / "out" / WEIGHTS).exists()


def test_what_can_not_be_learned_from_is_refused_with_what_to_do(house: Path, tmp_path: Path) -> None:
    for options, reason, hint in (
        ({"parameters": {"lines": 96}}, "96 × 64 here, too small", "at most 64"),
        ({"parameters": {"rank": 65}}, "narrowest attention has, which is 32 wide", "at most 32"),
        ({"shots": []}, "no shots", "approved"),
        ({"shots": [MemoryFinishedShot(name="empty", plate={})]}, "no finished frames", "approved"),
    ):
        with pytest.raises(RunnerError, match=reason) as caught:
            train(house / "sd", tmp_path, **options)  # type: ignore[arg-type]
        assert hint in caught.value.hint
    trainer, context = LoraTrainer(), training(tmp_path)
    for model, reason in (
        (ModelRef(), "none was named"),
        (ModelRef(path=house / "sd", sha256="0" * 64), "sha256"),
        (ModelRef(path=house / "sd", options={"lora": "other.safetensors"}), "from a base alone"),
    ):
        with pytest.raises(ModelError, match=reason):
            trainer.train(context, model)
    with pytest.raises(ModelError, match="no LoRA at"):
        score(house / "sd", tmp_path, tmp_path / "absent.safetensors")
