"""What a model is, is found out before it is loaded; what can't be loaded safely is refused with a reason."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pipeline.errors import ModelError
from pipeline.models.facts import NET_KEY, WORDS
from pipeline.models.files import sha256_of
from pipeline.models.inspect import inspect_model, recognise
from tests import tiny

EVERY = tuple(WORDS)
Spoiled = Callable[[str], Path]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("sd", "diffusers"),
        ("inpaint", "diffusers"),
        ("sam2", "sam2"),
        ("vitmatte", "vitmatte"),
        ("saliency.onnx", "saliency-onnx"),
        ("rvm.onnx", "rvm-onnx"),
    ],
)
def test_each_family_is_recognised_with_its_hash(house: Path, name: str, family: str) -> None:
    facts = inspect_model(house / name, families=EVERY)
    assert (facts.family, facts.path, facts.sha256) == (family, house / name, sha256_of(house / name))
    assert inspect_model(house / name, families=(family,), sha256=facts.sha256) == facts
    with pytest.raises(ModelError, match="sha256"):
        inspect_model(house / name, families=EVERY, sha256="0" * 64)


def test_a_model_of_a_family_that_the_task_cant_load_is_refused_by_name(house: Path) -> None:
    with pytest.raises(ModelError, match=r"ViTMatte folder .* this task takes a SAM 2 video folder"):
        recognise(house / "vitmatte", families=("sam2",))
    with pytest.raises(ModelError, match="no model to choose"):
        recognise(house / "vitmatte", families=())


def test_a_net_of_our_own_says_which_it_is(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"a": np.zeros(3, np.float32)}, path, metadata={NET_KEY: "roto/1"})
    facts = recognise(path, families=EVERY)
    assert (facts.family, facts.base) == ("net", "roto/1")
    save_file({"a": np.zeros(3, np.float32)}, path)
    with pytest.raises(ModelError, match=r"platewright\.net"):
        recognise(path, families=EVERY)


def test_a_lora_is_no_model(house: Path) -> None:
    with pytest.raises(ModelError, match="LoRA, which goes beside its base"):
        recognise(house / "look.safetensors", families=EVERY)


def test_absent_empty_and_unknown_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("weights")
    (tmp_path / "zero.onnx").touch()
    for name, reason in (
        ("absent", "no weights at"),
        ("empty", "no config.json"),
        ("notes.txt", r"neither \.safetensors nor \.onnx"),
        ("zero.onnx", "no ONNX model"),
    ):
        with pytest.raises(ModelError, match=reason):
            recognise(tmp_path / name, families=EVERY)


@pytest.mark.parametrize("maker", [tiny.pickled, tiny.exported])
@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".safetensors", ".onnx"])
def test_pickled_and_exported_weights_are_refused(tmp_path: Path, maker: Callable[[Path], Path], suffix: str) -> None:
    path = maker(tmp_path / "net.pt2").rename(tmp_path / f"net{suffix}")
    with pytest.raises(ModelError, match="can hold code"):
        recognise(path, families=EVERY)


@pytest.mark.parametrize("name", ["sd", "sam2"])
@pytest.mark.parametrize("file", ["pipeline.py", "unet/modeling.py", "deep/er/x.so"])
def test_a_folder_with_code_in_it_is_refused(spoiled: Spoiled, name: str, file: str) -> None:
    folder = spoiled(name)
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text("raise SystemExit")
    with pytest.raises(ModelError, match="has code in it"):
        recognise(folder, families=EVERY)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "unet/diffusion_pytorch_model.bin", "vae/x.ckpt"])
def test_a_folder_with_pickles_in_it_is_refused(spoiled: Spoiled, file: str) -> None:
    folder = spoiled("sd")
    (folder / file).write_bytes(b"anything")
    with pytest.raises(ModelError, match="pickled weights"):
        recognise(folder, families=EVERY)


def test_a_pickle_that_calls_itself_safetensors_is_found_inside_a_folder(spoiled: Spoiled) -> None:
    folder = spoiled("sd")
    tiny.pickled(folder / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ModelError, match="can hold code"):
        recognise(folder, families=EVERY)


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("model_index.json", {"_class_name": "StudioPipeline"}, "StudioPipeline"),
        ("model_index.json", {"_class_name": ["pipeline", "StudioPipeline"]}, "StudioPipeline"),
        ("model_index.json", {"unet": ["my_package", "UNet2DConditionModel"]}, "my_package"),
        ("model_index.json", {"unet": ["diffusers", "loaders.run"]}, "loaders.run"),
        ("model_index.json", {"scheduler": ["os", "DDIMScheduler"]}, "no class that is loaded"),
        ("model_index.json", {"extra": ["subprocess", "Popen"]}, "Popen"),
        ("model_index.json", {"custom_pipeline": "someone/pipe"}, "custom_pipeline"),
        ("model_index.json", {"trust_remote_code": True}, "trust_remote_code"),
        ("unet/config.json", {"auto_map": {"AutoModel": "modeling.Net"}}, "auto_map"),
        ("unet/config.json", {"nested": [{"auto_map": {"AutoModel": "modeling.Net"}}]}, "auto_map"),
        ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["t.T", None]}}, "auto_map"),
        ("unet/config.json", {"_class_name": "ControlNetModel"}, "the index says"),
        ("text_encoder/config.json", {"quantization_config": {"quant_method": "x"}}, "quantisation"),
    ],
)
def test_a_base_folder_that_names_code_of_its_own_is_refused(
    spoiled: Spoiled, file: str, change: dict[str, object], reason: str
) -> None:
    folder = spoiled("sd")
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=reason):
        recognise(folder, families=EVERY)


def test_an_adapter_that_would_fetch_its_base_is_refused(spoiled: Spoiled) -> None:
    folder = spoiled("sam2")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/base"}))
    with pytest.raises(ModelError, match="adapter"):
        recognise(folder, families=EVERY)


def test_json_that_is_broken_or_bottomless_is_refused(spoiled: Spoiled) -> None:
    folder = spoiled("sam2")
    for content, reason in (
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ('{"a":' + "[" * 90 + "]" * 90 + "}", "deeper"),
    ):
        (folder / "config.json").write_text(content)
        with pytest.raises(ModelError, match=reason):
            recognise(folder, families=EVERY)


def test_an_image_model_of_sam_2_is_not_taken_for_one_that_tracks(spoiled: Spoiled) -> None:
    folder = spoiled("sam2")
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if not k.startswith("memory_")}, folder / "model.safetensors")
    with pytest.raises(ModelError, match="memory_attention"):
        recognise(folder, families=EVERY)


def test_shards_are_read_through_their_index_and_only_beside_it(spoiled: Spoiled) -> None:
    folder = spoiled("sam2")
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    halves = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({n: tensors[n] for n in part}, folder / file)
    (folder / "model.safetensors").unlink()
    places = {n: file for file, part in halves.items() for n in part}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert recognise(folder, families=EVERY).family == "sam2"
    for bad, reason in (
        ({names[0]: "../secret.safetensors"}, "no file beside it"),
        ({names[0]: "model-2.safetensors"}, "where it isn't"),
        ({names[0]: "model-3.safetensors"}, "can't be read"),
    ):
        index.write_text(json.dumps({"weight_map": places | bad}))
        with pytest.raises(ModelError, match=reason):
            recognise(folder, families=EVERY)


def test_inspecting_imports_nothing_heavy(house: Path) -> None:
    names = ("sd", "sam2", "vitmatte", "saliency.onnx", "rvm.onnx")
    code = (
        "import sys; from pathlib import Path; from pipeline.models.inspect import inspect_model\n"
        f"for n in {names!r}: inspect_model(Path({str(house)!r}) / n, families={EVERY!r})\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers', 'onnx', 'onnxruntime', 'safetensors', 'cv2'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
