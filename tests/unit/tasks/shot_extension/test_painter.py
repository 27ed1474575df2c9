"""Real diffusers classes at tiny size: what they paint is noise, where it lands and what it leaves alone is what counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ModelError
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.shot_extension.definition import ExtensionParameters
from pipeline.tasks.shot_extension.painter import Painter
from pipeline.tasks.shot_extension.runner import ExtensionRunner
from tests.tiny import quiet, stable_diffusion, unet

from .tiny import FIRST, HEIGHT, WIDTH, plate, run, shot, shown

HAVE = tuple(range(FIRST, FIRST + 5))
ROOM = 24
QUICK = {"steps": 2, "guidance": 1.0, "prompt": "a"}


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion(tmp_path_factory.mktemp("inpaint"), inpaint=True)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AnimateDiff folder: the tiny picture model with motion between frames."""
    quiet()
    from diffusers import AnimateDiffPipeline, MotionAdapter, StableDiffusionPipeline

    folder = tmp_path_factory.mktemp("video")
    base = StableDiffusionPipeline.from_pretrained(
        str(stable_diffusion(folder / "base")), local_files_only=True, safety_checker=None
    )
    adapter = MotionAdapter(
        block_out_channels=(32, 64), motion_layers_per_block=1, motion_norm_num_groups=8, motion_num_attention_heads=4
    )
    parts = {name: base.components[name] for name in ("vae", "text_encoder", "tokenizer", "scheduler")}
    pipe = AnimateDiffPipeline(**parts, unet=unet(), motion_adapter=adapter)
    pipe.save_pretrained(str(folder / "animate"), safe_serialization=True)
    return folder / "animate"


def test_an_inpainting_model_paints_what_no_frame_shows(inpainting: Path, tmp_path: Path) -> None:
    parameters = ExtensionParameters(mode="space", left=ROOM, **QUICK)  # type: ignore[arg-type]
    have = plate(HAVE)
    made = {}
    for name, model in (("own", ModelRef()), ("model", ModelRef(path=inpainting, family="diffusers"))):
        runner = ExtensionRunner()
        runner.load(model)
        folder = tmp_path / name
        folder.mkdir()
        runner.fit(shot(have, parameters, folder, HAVE, whole=True))
        made[name] = run(runner, have, parameters, folder, [[FIRST, FIRST + 1]])
        runner.unload()
    own, model_s = made["own"][FIRST], made["model"][FIRST]
    assert own.rgb is not None and model_s.rgb is not None
    unseen = model_s.layers["extension"]["coverage"] < 0.5
    assert unseen[:, : ROOM - 4].all()
    differs = np.abs(shown(own.rgb) - shown(model_s.rgb)).mean(0)
    assert differs[:, : ROOM - 4].mean() > 0.05, "the model's own pixels"
    assert model_s.rgb[:, :, ROOM:].astype(np.float16).tobytes() == np.ascontiguousarray(have[FIRST]).tobytes()


def test_painting_is_seeded_and_leaves_the_known_alone(inpainting: Path) -> None:
    painter = Painter(ModelRef(path=inpainting))
    assert painter.kind == "inpaint"
    picture = np.random.default_rng(0).uniform(-0.1, 1.5, (64, 96, 3)).astype(np.float32)
    known = np.ones((64, 96), bool)
    known[:, 60:] = False
    parameters = ExtensionParameters(mode="space", left=1, **QUICK)  # type: ignore[arg-type]
    first, again = (painter.paint(picture, known, parameters, seed=4) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert first[:, :60].tobytes() == np.ascontiguousarray(picture[:, :60]).tobytes()
    assert np.abs(first - painter.paint(picture, known, parameters, seed=5)).max() > 0.01


def test_a_video_model_repaints_missing_frames_and_no_others(video: Path, tmp_path: Path) -> None:
    parameters = ExtensionParameters(mode="time", grain=0.0, **QUICK)  # type: ignore[arg-type]
    have = plate(HAVE)
    wanted = [*HAVE, HAVE[-1] + 1, HAVE[-1] + 2]
    made = {}
    for name, model in (("own", ModelRef()), ("model", ModelRef(path=video, family="diffusers"))):
        runner = ExtensionRunner()
        runner.load(model)
        folder = tmp_path / name
        folder.mkdir()
        facts = runner.fit(shot(have, parameters, folder, wanted, whole=True))
        assert facts["repainted"] == (2 if name == "model" else 0)
        made[name] = run(runner, have, parameters, folder, [wanted[4:6], wanted[6:]])
        runner.unload()
    for frame in wanted[4:]:
        own, other = made["own"][frame].rgb, made["model"][frame].rgb
        assert own is not None and other is not None and other.shape == (3, HEIGHT, WIDTH)
        assert (np.abs(shown(own) - shown(other)).mean() > 0.01) == (frame not in have)


def test_a_folder_that_extends_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        Painter(ModelRef(path=tmp_path))
