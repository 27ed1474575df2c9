"""A LoRA or a ControlNet goes beside the base that it was made for, and beside no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pipeline.errors import ModelError
from pipeline.models.inspect import ModelFacts, inspect_controlnet, inspect_lora, recognise
from tests import tiny


@pytest.fixture(scope="session")
def base(house: Path) -> ModelFacts:
    return recognise(house / "sd", families=("diffusers",))


def test_a_lora_for_this_base_is_taken(house: Path, base: ModelFacts) -> None:
    facts = inspect_lora(house / "look.safetensors", base)
    assert (facts.family, facts.base, facts.details["rank"]) == ("lora", base.base, "4")


def test_a_lora_for_another_base_is_refused_with_both_widths(house: Path, base: ModelFacts) -> None:
    with pytest.raises(ModelError, match=r"another base: .*attn2\.to_k takes 64 and gives 64.* takes 32 and gives 64"):
        inspect_lora(house / "look_wide.safetensors", base)


def test_a_lora_of_layers_that_the_base_lacks_is_refused(house: Path, base: ModelFacts, tmp_path: Path) -> None:
    tensors = load_file(house / "look.safetensors")
    more = {n.replace("down_blocks.1", "down_blocks.3"): t for n, t in tensors.items()}
    save_file(more, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"has no layer unet\.down_blocks\.3"):
        inspect_lora(tmp_path / "a.safetensors", base)
    other = {n.replace("unet.", "transformer."): t for n, t in tensors.items()}
    save_file(other, tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match="changes the transformer"):
        inspect_lora(tmp_path / "b.safetensors", base)


def kohya(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same LoRA under kohya's names."""
    out: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        half = "down" if "lora.down" in name or "lora_A" in name else "up"
        layer = name.removeprefix("unet.").split(".lora")[0].replace(".", "_")
        out[f"lora_unet_{layer}.lora_{half}.weight"] = tensor
        out[f"lora_unet_{layer}.alpha"] = np.full((), 4.0, np.float32)
    return out


def test_kohyas_names_are_placed_too(house: Path, base: ModelFacts, tmp_path: Path) -> None:
    save_file(kohya(load_file(house / "look.safetensors")), tmp_path / "k.safetensors")
    assert inspect_lora(tmp_path / "k.safetensors", base).details["layers"] == "32"
    save_file(kohya(load_file(house / "look_wide.safetensors")), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="another base"):
        inspect_lora(tmp_path / "w.safetensors", base)
    original = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    for width, taken in ((32, True), (2048, False)):
        pair = {
            f"{original}.lora_down.weight": np.zeros((4, width), np.float32),
            f"{original}.lora_up.weight": np.zeros((64, 4), np.float32),
        }
        save_file(pair, tmp_path / "o.safetensors")
        if taken:
            inspect_lora(tmp_path / "o.safetensors", base)
        else:
            with pytest.raises(ModelError, match="takes 2048"):
                inspect_lora(tmp_path / "o.safetensors", base)


@pytest.mark.parametrize("outer", ["", "text_model."])
def test_a_text_encoders_layers_are_found_under_both_their_names(base: ModelFacts, tmp_path: Path, outer: str) -> None:
    layer = f"text_encoder.{outer}encoder.layers.0.self_attn.q_proj"
    for width, taken in ((32, True), (768, False)):
        halves = {"lora_A": np.zeros((4, width), np.float32), "lora_B": np.zeros((width, 4), np.float32)}
        save_file({f"{layer}.{half}.weight": t for half, t in halves.items()}, tmp_path / "t.safetensors")
        if taken:
            inspect_lora(tmp_path / "t.safetensors", base)
        else:
            with pytest.raises(ModelError, match="takes 768"):
                inspect_lora(tmp_path / "t.safetensors", base)


def test_what_is_no_lora_is_refused(house: Path, base: ModelFacts, tmp_path: Path) -> None:
    for tensors, reason in (
        ({"unet.conv_in.weight": np.zeros((2, 2), np.float32)}, "no LoRA that can be placed"),
        ({"a.alpha": np.zeros(1, np.float32)}, "no LoRA layers"),
        ({"lora_unet_x.hada_w1_a": np.zeros((2, 2), np.float32)}, "no LoRA that can be placed"),
        ({"elsewhere.to_q.lora_A.weight": np.zeros((2, 2), np.float32)}, "of no part of a model"),
        ({"unet.mid_block.attentions.0.proj_in.lora_A.weight": np.zeros(2, np.float32)}, "shape"),
        ({"unet.mid_block.attentions.0.proj_in.lora_A.weight": np.zeros((4, 64), np.float32)}, "don't belong together"),
    ):
        save_file(tensors, tmp_path / "a.safetensors")
        with pytest.raises(ModelError, match=reason):
            inspect_lora(tmp_path / "a.safetensors", base)
    with pytest.raises(ModelError, match="can hold code"):
        inspect_lora(tiny.pickled(tmp_path / "look.pt"), base)
    with pytest.raises(ModelError, match="no LoRA at"):
        inspect_lora(tmp_path / "absent.safetensors", base)
    with pytest.raises(ModelError, match="sha256"):
        inspect_lora(house / "look.safetensors", base, sha256="0" * 64)
    with pytest.raises(ModelError, match="no base"):
        inspect_lora(house / "look.safetensors", recognise(house / "sam2", families=("sam2",)))


def test_a_controlnet_goes_with_the_base_of_its_widths(house: Path, base: ModelFacts, tmp_path: Path) -> None:
    assert inspect_controlnet(house / "control", base).details["conditioning_channels"] == "3"
    with pytest.raises(ModelError, match=r"another base: its cross_attention_dim is 64, .* 32"):
        inspect_controlnet(house / "control_wide", base)
    with pytest.raises(ModelError, match="no ControlNet"):
        inspect_controlnet(house / "sam2", base)
    with pytest.raises(ModelError, match="no ControlNet folder"):
        inspect_controlnet(tmp_path / "absent", base)
