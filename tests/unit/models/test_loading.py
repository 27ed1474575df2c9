"""Each family loads from its path, offline, and gives the same bits twice."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from pipeline.errors import ModelError, RunnerError
from pipeline.models.diffusers_folder import open_diffusers, set_strength
from pipeline.models.loader import threads
from pipeline.models.onnx import open_onnx
from pipeline.models.transformers_folder import open_transformers
from tests import tiny


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reaches for the network fails the test."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a loader asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    noise = np.random.default_rng(3).random((64, 96, 3))
    return Image.fromarray((noise * 255).astype(np.uint8))


def redraw(pipe: Any, picture: Image.Image, **more: Any) -> np.ndarray:
    seeded = torch.Generator("cpu").manual_seed(1)
    with torch.inference_mode():
        found = pipe(
            "a look", image=picture, strength=0.5, num_inference_steps=2, generator=seeded, output_type="np", **more
        )
    return np.asarray(found.images[0])


def test_a_diffusers_folder_redraws_a_picture_the_same_twice(house: Path, picture: Image.Image) -> None:
    first = redraw(open_diffusers(house / "sd", "StableDiffusionImg2ImgPipeline"), picture)
    again = redraw(open_diffusers(house / "sd", "StableDiffusionImg2ImgPipeline"), picture)
    assert first.shape == (64, 96, 3)
    np.testing.assert_array_equal(first, again)


def test_a_lora_changes_the_picture_and_at_strength_0_doesnt(house: Path, picture: Image.Image) -> None:
    base = redraw(open_diffusers(house / "sd", "StableDiffusionImg2ImgPipeline"), picture)
    pipe = open_diffusers(house / "sd", "StableDiffusionImg2ImgPipeline", lora=house / "look.safetensors")
    assert np.abs(redraw(pipe, picture) - base).max() > 1e-3
    set_strength(pipe, 0.0)
    np.testing.assert_array_equal(redraw(pipe, picture), base)


def test_a_controlnet_steers_the_picture(house: Path, picture: Image.Image) -> None:
    base = redraw(open_diffusers(house / "sd", "StableDiffusionImg2ImgPipeline"), picture)
    name = "StableDiffusionControlNetImg2ImgPipeline"
    pipe = open_diffusers(house / "sd", name, controlnet=house / "control")
    steered = redraw(pipe, picture, control_image=picture)
    assert np.abs(steered - base).max() > 1e-3
    np.testing.assert_array_equal(steered, redraw(pipe, picture, control_image=picture))
    with pytest.raises(ModelError, match="needs a ControlNet"):
        open_diffusers(house / "sd", name)
    with pytest.raises(ModelError, match="takes no ControlNet"):
        open_diffusers(house / "sd", "StableDiffusionImg2ImgPipeline", controlnet=house / "control")


def test_an_inpainting_folder_fills_a_hole(house: Path, picture: Image.Image) -> None:
    hole = Image.fromarray(((np.arange(96)[None] > 64) * 255).astype(np.uint8).repeat(64, 0))
    pipe = open_diffusers(house / "inpaint", "StableDiffusionInpaintPipeline")
    first, again = (redraw(pipe, picture, mask_image=hole, height=64, width=96) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_loading_refuses_what_inspection_refuses(house: Path, spoiled: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="another base"):
        open_diffusers(house / "sd", "StableDiffusionImg2ImgPipeline", lora=house / "look_wide.safetensors")
    with pytest.raises(ModelError, match="another base"):
        open_diffusers(house / "sd", "StableDiffusionControlNetImg2ImgPipeline", controlnet=house / "control_wide")
    with pytest.raises(ModelError, match="no pipeline of the class"):
        open_diffusers(house / "sd", "DiffusionPipeline")
    with pytest.raises(ModelError, match="no model of the class"):
        open_transformers(house / "sam2", "AutoModel")
    with pytest.raises(ModelError, match="sha256"):
        open_diffusers(house / "sd", "StableDiffusionImg2ImgPipeline", sha256="0" * 64)
    with pytest.raises(ModelError, match="sha256"):
        open_transformers(house / "sam2", "Sam2VideoModel", sha256="0" * 64)
    with pytest.raises(ModelError, match="sha256"):
        open_onnx(house / "saliency.onnx", sha256="0" * 64)
    folder = spoiled("sd")
    (folder / "pipeline.py").write_text("raise SystemExit")
    with pytest.raises(ModelError, match="has code in it"):
        open_diffusers(folder, "StableDiffusionImg2ImgPipeline")


def test_weights_that_dont_fill_the_model_are_refused(spoiled: Callable[[str], Path]) -> None:
    folder = spoiled("vitmatte")
    tensors = load_file(folder / "model.safetensors")
    name = next(n for n in tensors if n.startswith("decoder."))
    save_file({k: v for k, v in tensors.items() if k != name}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=f"missing or misshapen, first {name}"):
        open_transformers(folder, "VitMatteForImageMatting")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"fusion_hidden_sizes": [16, 16, 12, 8]}))
    with pytest.raises(ModelError):
        open_transformers(folder, "VitMatteForImageMatting")


def test_vitmatte_gives_an_alpha_the_same_twice(house: Path) -> None:
    pixels = torch.rand((1, 4, 64, 64), generator=torch.Generator().manual_seed(2))
    alphas = [
        open_transformers(house / "vitmatte", "VitMatteForImageMatting")(pixel_values=pixels).alphas for _ in range(2)
    ]
    assert alphas[0].shape == (1, 1, 64, 64)
    assert torch.equal(*alphas)


def test_sam_2_tracks_a_painted_mask_the_same_twice(house: Path) -> None:
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    video = torch.rand((3, 3, tiny.SAM2_SIZE, tiny.SAM2_SIZE), generator=torch.Generator().manual_seed(2))
    mask = torch.zeros((1, 1, tiny.SAM2_SIZE, tiny.SAM2_SIZE))
    mask[..., 16:40, 16:40] = 1
    tracks = []
    for _ in range(2):
        model = open_transformers(house / "sam2", "Sam2VideoModel")
        session = Sam2VideoInferenceSession(video=video, video_height=64, video_width=64, dtype=torch.float32)
        index = session.obj_id_to_idx(1)
        session.add_mask_inputs(index, 0, mask)
        session.obj_with_new_inputs = [1]
        tracks.append(torch.cat([o.pred_masks for o in model.propagate_in_video_iterator(session, start_frame_idx=0)]))
    assert tracks[0].shape == (3, 1, 16, 16)
    assert torch.equal(*tracks)


def test_an_onnx_model_runs_by_names(house: Path) -> None:
    model = open_onnx(house / "saliency.onnx")
    picture = np.zeros((1, 3, 32, 32), np.float64)
    picture[..., 8:24, 8:24] = 1
    found = model.run({"input": picture})
    assert set(found) == {"mask0"}
    assert found["mask0"][0, 0, 16, 16] > 0.9 > 0.1 > found["mask0"][0, 0, 2, 2]
    np.testing.assert_array_equal(found["mask0"], open_onnx(house / "saliency.onnx").run({"input": picture})["mask0"])
    with pytest.raises(RunnerError, match=r"takes \['input'\]"):
        model.run({"picture": picture})
    with pytest.raises(RunnerError, match="the ONNX model failed"):
        model.run({"input": picture[:, :2]})


def test_an_onnx_model_in_rvms_layout_remembers(house: Path) -> None:
    model = open_onnx(house / "rvm.onnx")
    state = {f"r{i}i": np.zeros((1, 1, 1, 1), np.float32) for i in range(1, 5)}
    src = np.full((1, 3, 8, 8), 0.5, np.float32)
    alphas = []
    for _ in range(3):
        found = model.run({"src": src, "downsample_ratio": np.ones(1, np.float32), **state})
        state = {f"r{i}i": found[f"r{i}o"] for i in range(1, 5)}
        alphas.append(float(found["pha"].mean()))
    assert alphas[0] == pytest.approx(0.5)
    assert alphas == sorted(set(alphas)), "each frame's alpha rests on those before it"


def test_an_onnx_file_that_the_runtime_refuses_is_a_model_error(house: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    model = onnx.load(house / "saliency.onnx")
    model.graph.node.append(helper.make_node("NoSuchOperator", ["mask0"], ["d"]))
    onnx.save(model, str(tmp_path / "a.onnx"))
    with pytest.raises(ModelError, match="can't be loaded"):
        open_onnx(tmp_path / "a.onnx")


def test_the_farms_threads_are_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLATEWRIGHT_THREADS", raising=False)
    assert threads() == 1
    monkeypatch.setenv("PLATEWRIGHT_THREADS", "3")
    assert threads() == 3
    for text in ("0", "many", "-1", "²"):
        monkeypatch.setenv("PLATEWRIGHT_THREADS", text)
        with pytest.raises(ModelError, match="PLATEWRIGHT_THREADS"):
            threads()
