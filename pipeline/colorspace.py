"""Names of colour spaces: interop ids outside, the pinned config's own names inside."""

from __future__ import annotations

from pipeline.errors import PlateError

PINNED_CONFIG = "ocio://cg-config-v2.2.0_aces-v1.3_ocio-v2.4"
"""`ocio://default` differs from wheel to wheel, so a picture would too."""

CONFIG_NAMES = {
    "lin_rec709_scene": "Linear Rec.709 (sRGB)",
    "lin_ap1_scene": "ACEScg",
    "lin_ap0_scene": "ACES2065-1",
    "lin_p3d65_scene": "Linear P3-D65",
    "lin_rec2020_scene": "Linear Rec.2020",
    "srgb_rec709_scene": "sRGB - Texture",
    "g22_rec709_scene": "Gamma 2.2 Rec.709 - Texture",
    "g24_rec709_scene": "Gamma 2.4 Rec.709 - Texture",
    "data": "Raw",
}
"""Interop id → the pinned config's name."""

_ALIASES = {
    "linear": "lin_rec709_scene",
    "lin_rec709": "lin_rec709_scene",
    "lin_srgb": "lin_rec709_scene",
    "scene_linear": "lin_rec709_scene",
    "acescg": "lin_ap1_scene",
    "lin_ap1": "lin_ap1_scene",
    "aces2065-1": "lin_ap0_scene",
    "lin_ap0": "lin_ap0_scene",
    "aces": "lin_ap0_scene",
    "srgb": "srgb_rec709_scene",
    "srgb_tx": "srgb_rec709_scene",
    "srgb_texture": "srgb_rec709_scene",
    "raw": "data",
}

CHROMATICITIES = {
    "lin_rec709_scene": (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    "lin_ap1_scene": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
    "lin_ap0_scene": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
    "lin_p3d65_scene": (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.3290),
    "lin_rec2020_scene": (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.3290),
}
"""Primaries and white (red x, y, green x, y, blue x, y, white x, y); AP0 and AP1 from SMPTE ST 2065-1 and ACES S-2014-004."""


def interop_id(name: str) -> str:
    """The interop id of any name that people or files use for a space that this product knows.

    Raises: PlateError when it is not known.
    """
    key = name.strip()
    for known, config_name in CONFIG_NAMES.items():
        if key.casefold() in (known, config_name.casefold()):
            return known
    if alias := _ALIASES.get(key.casefold()):
        return alias
    raise PlateError(f"colour space {name!r} is not known", "known: " + ", ".join(CONFIG_NAMES))


def is_scene_linear(space: str) -> bool:
    """Whether plates in this space are already what models and publishes work in."""
    return space.startswith("lin_")
