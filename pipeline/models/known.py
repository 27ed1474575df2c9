"""The classes that a folder may name. A name outside of these is refused, so a folder never decides what code is looked up."""

from __future__ import annotations

import re

PIPELINES = frozenset({
    "StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline",
    "StableDiffusionControlNetPipeline", "StableDiffusionControlNetImg2ImgPipeline", "StableDiffusionControlNetInpaintPipeline",
    "StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline",
    "StableDiffusionXLControlNetPipeline", "StableDiffusionXLControlNetImg2ImgPipeline", "StableDiffusionXLControlNetInpaintPipeline",
    "StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline",
    "FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline", "FluxFillPipeline",
    "StableVideoDiffusionPipeline", "AnimateDiffPipeline", "AnimateDiffVideoToVideoPipeline",
    "CogVideoXPipeline", "CogVideoXImageToVideoPipeline", "CogVideoXVideoToVideoPipeline",
    "LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline",
    "WanPipeline", "WanImageToVideoPipeline", "WanVideoToVideoPipeline", "WanVACEPipeline",
})  # fmt: skip
"""diffusers pipelines that a folder may be of, and that a runner may open it as."""
_NETS = {
    "diffusers": frozenset({
        "UNet2DConditionModel", "UNetMotionModel", "UNetSpatioTemporalConditionModel", "MotionAdapter", "ControlNetModel",
        "AutoencoderKL", "AutoencoderTiny", "AutoencoderKLTemporalDecoder", "AutoencoderKLCogVideoX", "AutoencoderKLLTXVideo",
        "AutoencoderKLWan", "SD3Transformer2DModel", "FluxTransformer2DModel", "CogVideoXTransformer3DModel",
        "LTXVideoTransformer3DModel", "WanTransformer3DModel", "WanVACETransformer3DModel",
    }),
    "transformers": frozenset({
        "CLIPTextModel", "CLIPTextModelWithProjection", "CLIPVisionModelWithProjection", "CLIPVisionModel", "T5EncoderModel",
        "UMT5EncoderModel",
    }),
}  # fmt: skip
"""Components with weights."""
_PARTS = {
    "diffusers": re.compile(r"[A-Z][A-Za-z0-9]*Scheduler"),
    "transformers": re.compile(r"(CLIP|T5|Llama)Tokenizer(Fast)?|CLIPImageProcessor(Fast|Pil)?|CLIPFeatureExtractor"),
}
"""Components without."""
UNUSED = frozenset({"safety_checker", "feature_extractor", "image_encoder"})
"""Components that a runner loads only where the pipeline can't do without; a checker of contents has no say in a render farm."""
_UNUSED_LIBRARIES = frozenset({"stable_diffusion", "stable_diffusion_xl"})


def is_net(library: str, name: str) -> bool:
    """Whether that library's class is a known one with weights."""
    return name in _NETS.get(library, ())


def is_known(component: str, library: str, name: str) -> bool:
    """Whether a folder may name that class for that component."""
    if component == "safety_checker" and library in {*_UNUSED_LIBRARIES, "diffusers", "transformers"}:
        return True
    pattern = _PARTS.get(library)
    return is_net(library, name) or (pattern is not None and pattern.fullmatch(name) is not None)
