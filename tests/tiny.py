"""Real models at tiny size, with weights drawn from a seed: the classes that a studio's own folders are of, each in a second or two.

Every function makes a folder or file under the path given, as the library itself saves it, and returns that path.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

SAM2_SIZE = 64
"""Side of the tiny SAM 2's pictures."""


def quiet() -> None:
    """Offline, no progress bars, one thread."""
    from pipeline.models.loader import hush, settle_torch, stay_offline

    stay_offline()
    settle_torch()
    import diffusers
    import transformers

    hush(diffusers)
    hush(transformers)


def tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer with an alphabet of bytes and no merges."""
    from transformers import CLIPTokenizer

    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [b for b in range(256) if b not in printable]
    signs = [chr(b) for b in printable] + [chr(256 + n) for n in range(len(hidden))]
    words = [*signs, *(s + "</w>" for s in signs), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def unet(*, inputs: int = 4, width: int = 32, seed: int = 0) -> Any:
    """Stable Diffusion's UNet with two levels and texts of `width` numbers a word."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    return UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=32,
        in_channels=inputs,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=8,
        norm_num_groups=8,
    ).eval()


def stable_diffusion(folder: Path, *, inpaint: bool = False, width: int = 32, seed: int = 0) -> Path:
    """A Stable Diffusion folder: for pictures to pictures, or with the nine inputs of an inpainting one."""
    quiet()
    import torch
    from diffusers import StableDiffusionInpaintPipeline, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    words = tokenizer(folder / "tokenizer")
    torch.manual_seed(seed)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            max_position_embeddings=77,
            bos_token_id=len(words) - 2,
            eos_token_id=len(words) - 1,
            pad_token_id=1,
        )
    )
    vae = _autoencoder()
    cls = StableDiffusionInpaintPipeline if inpaint else StableDiffusionPipeline
    pipe = cls(
        tokenizer=words,
        text_encoder=text.eval(),
        unet=unet(inputs=9 if inpaint else 4, width=width, seed=seed + 1),
        vae=vae.eval(),
        scheduler=_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(str(folder), safe_serialization=True)
    return folder


def stable_diffusion_xl(folder: Path, *, seed: int = 0) -> Path:
    """A Stable Diffusion XL folder: two text encoders, whose UNet is told a picture's size and crop besides."""
    quiet()
    import torch
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    words = [tokenizer(folder / name) for name in ("tokenizer", "tokenizer_2")]
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=len(words[0]),
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=3,
        max_position_embeddings=77,
        bos_token_id=len(words[0]) - 2,
        eos_token_id=len(words[0]) - 1,
        pad_token_id=1,
        projection_dim=32,
    )
    net = UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1),
        projection_class_embeddings_input_dim=6 * 8 + 32,
        norm_num_groups=8,
    )
    pipe = StableDiffusionXLPipeline(
        tokenizer=words[0],
        tokenizer_2=words[1],
        text_encoder=CLIPTextModel(config).eval(),
        text_encoder_2=CLIPTextModelWithProjection(config).eval(),
        unet=net.eval(),
        vae=_autoencoder().eval(),
        scheduler=_schedule(),
    )
    pipe.save_pretrained(str(folder), safe_serialization=True)
    return folder


def _autoencoder() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=[8, 16, 16, 32],
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        latent_channels=4,
        norm_num_groups=8,
    )


def _schedule() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def controlnet(folder: Path, *, width: int = 32) -> Path:
    """A ControlNet for the tiny Stable Diffusion of that width."""
    quiet()
    import torch
    from diffusers import ControlNetModel

    base = unet(width=width, seed=1)
    torch.manual_seed(2)
    net = ControlNetModel.from_unet(base, conditioning_channels=3)
    with torch.no_grad():  # its last layers are born zero: nothing would change
        for block in [*net.controlnet_down_blocks, net.controlnet_mid_block]:
            torch.nn.init.normal_(block.weight, std=0.2)
    net.save_pretrained(str(folder), safe_serialization=True)
    return folder


def lora(path: Path, *, width: int = 32, seed: int = 3) -> Path:
    """A LoRA of rank 4 for the attention of the tiny Stable Diffusion of that width, as diffusers saves one."""
    quiet()
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    net = unet(width=width, seed=1)
    torch.manual_seed(seed)
    net.add_adapter(
        LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False)
    )
    StableDiffusionPipeline.save_lora_weights(
        str(path.parent),
        unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(net)),
        safe_serialization=True,
        weight_name=path.name,
    )
    return path


def sam2(folder: Path, *, seed: int = 0) -> Path:
    """A Sam2VideoModel of a million weights, for pictures of 64 × 64."""
    quiet()
    import torch
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VideoModel, Sam2VisionConfig

    side = SAM2_SIZE
    backbone = Sam2HieraDetConfig(
        image_size=[side, side],
        hidden_size=16,
        num_attention_heads=1,
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 1, 1, 1],
        window_size_per_stage=[4, 4, 4, 4],
        global_attention_blocks=[3],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone.to_dict(),
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[side // 4] * 2, [side // 8] * 2, [side // 16] * 2],
        fpn_hidden_size=128,
    )
    config = Sam2VideoConfig(
        vision_config=vision.to_dict(),
        image_size=side,
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_num_attention_heads=1,
        memory_attention_feed_forward_hidden_size=128,
        memory_attention_rope_feat_sizes=[side // 16] * 2,
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=128,
        prompt_encoder_config={"image_size": side, "hidden_size": 128},
        mask_decoder_config={
            "hidden_size": 128,
            "mlp_dim": 128,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 128,
        },
    )
    torch.manual_seed(seed)
    model = Sam2VideoModel(config).eval()
    # As libraries draw weights, a model this deep says the same to everything: these keep its signals alive to the end.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                torch.nn.init.xavier_normal_(weight, gain=1.5)
            elif name.endswith("pred_obj_score_head.proj_out.bias"):
                weight.fill_(6.0)  # it sees its object everywhere
    model.save_pretrained(str(folder), safe_serialization=True)
    return folder


def vitmatte(folder: Path, *, seed: int = 0) -> Path:
    """A VitMatteForImageMatting with a backbone of two layers."""
    quiet()
    import torch
    from transformers import VitDetConfig, VitMatteConfig, VitMatteForImageMatting

    backbone = VitDetConfig(
        num_channels=4,
        image_size=64,
        pretrain_image_size=64,
        patch_size=16,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        use_relative_position_embeddings=True,
        window_size=2,
        window_block_indices=[0],
        residual_block_indices=[1],
        out_features=["stage2"],
    )
    config = VitMatteConfig(
        backbone_config=backbone,
        hidden_size=32,
        convstream_hidden_sizes=[8, 12, 16],
        fusion_hidden_sizes=[32, 16, 12, 8],
    )
    torch.manual_seed(seed)
    VitMatteForImageMatting(config).eval().save_pretrained(str(folder), safe_serialization=True)
    return folder


def saliency_onnx(path: Path, *, side: int | None = 32, outputs: int = 1, logits: bool = False) -> Path:
    """A saliency model as ISNet, U²-Net and BiRefNet are exported: one normalised picture in, `outputs` mattes out.

    It finds what is clearly brighter than the picture's mean: a box blur of 5 pixels of the three channels' sum, through a steep
    sigmoid unless `logits`. `side` None leaves the sides free. Later outputs are the first, blurred again.
    """
    from onnx import TensorProto, helper

    sides: list[Any] = ["height", "width"] if side is None else [side, side]
    soft = np.full((1, 3, 5, 5), 1 / 25, np.float32)
    again = np.full((1, 1, 5, 5), 1 / 25, np.float32)
    weights = [
        _tensor("soft", soft),
        _tensor("again", again),
        _tensor("margin", np.float32(1.5)),
        _tensor("steep", np.float32(4.0)),
        _tensor("axes", np.array([2, 3], np.int64)),
    ]
    nodes = [
        helper.make_node("Conv", ["input", "soft"], ["sum"], kernel_shape=[5, 5], pads=[2, 2, 2, 2]),
        helper.make_node("ReduceMean", ["sum", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["sum", "mean"], ["over"]),
        helper.make_node("Sub", ["over", "margin"], ["clearly"]),
        helper.make_node("Mul", ["clearly", "steep"], ["logit"]),
        helper.make_node("Identity" if logits else "Sigmoid", ["logit"], ["mask0"]),
    ]
    for i in range(1, outputs):
        nodes.append(
            helper.make_node("Conv", [f"mask{i - 1}", "again"], [f"mask{i}"], kernel_shape=[5, 5], pads=[2, 2, 2, 2])
        )
    return _onnx(
        path,
        nodes,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *sides])],
        [helper.make_tensor_value_info(f"mask{i}", TensorProto.FLOAT, [1, 1, *sides]) for i in range(outputs)],
        weights,
    )


def rvm_onnx(path: Path) -> Path:
    """A model in RVM's layout: the picture and four recurrent states in, foreground, alpha and the new states out.

    Alpha is the sigmoid of the picture's sum over its threshold plus a tenth of the first state, which counts frames: a
    matte that remembers. The states start as (1, 1, 1, 1) zeros, as RVM's do.
    """
    from onnx import TensorProto, helper

    f = TensorProto.FLOAT
    weights = [
        _tensor("sum", np.full((1, 3, 1, 1), 1.0, np.float32)),
        _tensor("threshold", np.float32(1.5)),
        _tensor("steep", np.float32(8.0)),
        _tensor("tenth", np.float32(0.1)),
        _tensor("one", np.float32(1.0)),
        _tensor("zero", np.float32(0.0)),
    ]
    nodes = [
        helper.make_node("Conv", ["src", "sum"], ["total"], kernel_shape=[1, 1]),
        helper.make_node("Sub", ["total", "threshold"], ["over"]),
        helper.make_node("Mul", ["over", "steep"], ["steeper"]),
        helper.make_node("Mul", ["r1i", "tenth"], ["memory"]),
        helper.make_node("Mul", ["downsample_ratio", "zero"], ["nothing"]),
        helper.make_node("Add", ["steeper", "memory"], ["remembered"]),
        helper.make_node("Add", ["remembered", "nothing"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["pha"]),
        helper.make_node("Mul", ["src", "one"], ["fgr"]),
        *(helper.make_node("Add", [f"r{i}i", "one"], [f"r{i}o"]) for i in range(1, 5)),
    ]

    def port(name: str, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, f, shape)

    states = [[f"b{i}", f"c{i}", f"h{i}", f"w{i}"] for i in range(1, 5)]
    inputs = [
        port("src", ["batch", 3, "height", "width"]),
        *(port(f"r{i}i", states[i - 1]) for i in range(1, 5)),
        port("downsample_ratio", [1]),
    ]
    outputs = [
        port("fgr", ["batch", 3, "height", "width"]),
        port("pha", ["batch", 1, "height", "width"]),
        *(port(f"r{i}o", states[i - 1]) for i in range(1, 5)),
    ]
    return _onnx(path, nodes, inputs, outputs, weights)


def classifier_onnx(path: Path) -> Path:
    """An ONNX model of another signature: a picture in, ten scores out."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
        helper.make_node("Conv", ["pooled", "weights"], ["spread"], kernel_shape=[1, 1]),
        helper.make_node("Flatten", ["spread"], ["scores"]),
    ]
    weights = [_tensor("weights", np.ones((10, 3, 1, 1), np.float32))]
    return _onnx(
        path,
        nodes,
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        weights,
    )


def pickled(path: Path) -> Path:
    """Weights as torch.save writes them: a zip with a pickle inside, whatever the suffix."""
    import torch

    torch.save({"weight": torch.zeros(2, 2)}, path)
    return path


def exported(path: Path) -> Path:
    """A program as torch.export writes it (`.pt2`)."""
    import torch

    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),)), path)
    return path


def _tensor(name: str, value: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(value), name)


def _onnx(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any]) -> Path:
    import onnx
    from onnx import helper

    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
