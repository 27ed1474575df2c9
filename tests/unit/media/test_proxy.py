"""Review proxies: as the direct OCIO view, small, cached, and honest about what they can't show."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import PyOpenColorIO as ocio
import pytest

from pipeline.colorspace import PINNED_CONFIG
from pipeline.errors import ParameterError, PlateError, StorageError
from pipeline.media import proxy
from pipeline.media.proxy import ProxyMaker, matte8, overlay8

RNG = np.random.default_rng(5)


def colours(count: int, *, saturation: float = 0.8) -> np.ndarray:
    """(3, 8, count/8) scene-linear colours of -7 to +3 stops round 1."""
    free = RNG.random((count, 3))
    pulled = RNG.random((count, 1)) * saturation
    levels = np.exp2(RNG.random((count, 1)) * 10 - 7)
    return ((free * pulled + 1 - pulled) * levels).T.reshape(3, 8, -1).astype(np.float32)


def direct(
    frame: np.ndarray, space: str, view: str = "ACES 1.0 - SDR Video", display: str = "sRGB - Display"
) -> np.ndarray:
    """The view without a lattice, 0 … 255 as float."""
    config = ocio.Config.CreateFromBuiltinConfig(PINNED_CONFIG)
    pixels = np.ascontiguousarray(frame.transpose(1, 2, 0)).copy()
    config.getProcessor(space, display, view, ocio.TRANSFORM_DIR_FORWARD).getDefaultCPUProcessor().applyRGB(pixels)
    return np.clip(pixels, 0, 1) * 255


def test_typical_colours_lie_within_two_codes_of_the_direct_view(tmp_path: Path) -> None:
    frame = colours(200_000)
    got = ProxyMaker("lin_rec709_scene", cache=tmp_path).rgb8(frame, 8)
    assert np.abs(got - direct(frame, "Linear Rec.709 (sRGB)")).max() <= 2


def test_wide_gamut_colours_lie_within_two_codes_but_for_one_in_a_thousand(tmp_path: Path) -> None:
    frame = colours(200_000)
    error = np.abs(ProxyMaker("lin_ap1_scene", cache=tmp_path).rgb8(frame, 8) - direct(frame, "ACEScg"))
    assert np.percentile(error, 99.9) <= 2
    assert error.mean() < 0.5


def test_greys_stay_grey_at_every_level(tmp_path: Path) -> None:
    frame = np.repeat(np.exp2(np.linspace(-12, 7, 4096, dtype=np.float32)).reshape(1, 8, -1), 3, axis=0)
    for space, name in (("lin_ap0_scene", "ACES2065-1"), ("lin_rec709_scene", "Linear Rec.709 (sRGB)")):
        got = ProxyMaker(space, cache=tmp_path).rgb8(frame, 8)
        assert np.abs(got - direct(frame, name)).max() <= 1
        assert np.ptp(got.astype(int), axis=-1).max() <= 1


def test_another_view_is_another_picture_and_both_are_kept(tmp_path: Path) -> None:
    frame = colours(4096)
    plain = ProxyMaker("lin_rec709_scene", view="Un-tone-mapped", cache=tmp_path)
    assert np.abs(plain.rgb8(frame, 8) - direct(frame, "Linear Rec.709 (sRGB)", "Un-tone-mapped")).max() <= 2
    default = ProxyMaker("lin_rec709_scene", cache=tmp_path)
    assert default.view == "ACES 1.0 - SDR Video"
    assert np.abs(default.rgb8(frame, 8).astype(int) - plain.rgb8(frame, 8)).max() > 10
    assert len(list(tmp_path.glob("view-*.npy"))) == 2


def test_a_baked_view_is_read_from_the_cache_and_a_broken_one_baked_again(tmp_path: Path) -> None:
    frame = colours(4096)
    wanted = ProxyMaker("lin_rec709_scene", cache=tmp_path).rgb8(frame, 8)
    (kept,) = tmp_path.glob("view-*.npy")
    lattice = np.load(kept)
    np.save(kept, lattice * 0)  # a black view, whole: read back as it is
    assert ProxyMaker("lin_rec709_scene", cache=tmp_path).rgb8(frame, 8).max() == 0
    for broken in (b"", kept.read_bytes()[:1000], b"text, not a lattice"):
        kept.write_bytes(broken)
        assert np.array_equal(ProxyMaker("lin_rec709_scene", cache=tmp_path).rgb8(frame, 8), wanted)
        assert np.array_equal(np.load(kept), lattice)
    assert [p.name for p in tmp_path.iterdir()] == [kept.name]


def test_a_cache_that_can_not_be_written_costs_no_picture(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where the cache folder should be")
    assert ProxyMaker("lin_rec709_scene", cache=blocked).rgb8(colours(64), 8).shape == (8, 8, 3)


def test_a_shows_own_config_is_used(tmp_path: Path) -> None:
    config = ocio.Config.CreateRaw()
    config.addColorSpace(ocio.ColorSpace(name="plate"))
    darker = ocio.ExponentTransform(value=[0.5, 0.5, 0.5, 1.0])
    config.addColorSpace(ocio.ColorSpace(name="monitor", fromReference=darker))
    config.addDisplayView("Cinema", "Show", "monitor", looks="")
    path = tmp_path / "show.ocio"
    path.write_text(config.serialize())
    maker = ProxyMaker("plate", config=str(path), display="Cinema", cache=tmp_path / "cache")
    assert maker.view == "Show"
    assert np.abs(maker.rgb8(np.full((3, 4, 4), 0.25, np.float32), 4).astype(int) - 128).max() <= 1


def test_a_view_display_config_or_space_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no view 'Nope'") as view:
        ProxyMaker("lin_rec709_scene", view="Nope", cache=tmp_path)
    assert "Un-tone-mapped" in view.value.hint
    with pytest.raises(ParameterError, match="no display 'Nope'") as display:
        ProxyMaker("lin_rec709_scene", display="Nope", cache=tmp_path)
    assert "sRGB - Display" in display.value.hint
    with pytest.raises(ParameterError, match="can't be used"):
        ProxyMaker("lin_rec709_scene", config=str(tmp_path / "none.ocio"), cache=tmp_path)
    with pytest.raises(PlateError, match="no colour space 'Venus Log'"):
        ProxyMaker("Venus Log", cache=tmp_path)


def test_proxies_are_scaled_in_scene_linear_and_never_enlarged(tmp_path: Path) -> None:
    maker = ProxyMaker("lin_rec709_scene", view="Un-tone-mapped", cache=tmp_path)
    stripes = np.zeros((3, 8, 16), np.float32)
    stripes[..., 1::2] = 0.5  # half covered: 0.25 linear is sRGB 137, the mean of the codes would be 94
    assert np.abs(maker.rgb8(stripes, 4).astype(int) - 137).max() <= 1
    assert maker.rgb8(stripes, 4).shape == (4, 8, 3)
    assert maker.rgb8(stripes, 100).shape == (8, 16, 3)


def test_a_matte_is_shown_as_data_and_clipped_only_for_show() -> None:
    matte = np.float32([[0, 0.5, 1.0, 1.5, -0.5, np.nan]])
    assert matte8(matte, 1).tolist() == [[0, 128, 255, 255, 0, 0]]
    half = np.zeros((4, 4), np.float16)
    half[:, :2] = 1
    assert matte8(half, 2).tolist() == [[255, 0], [255, 0]]


def test_the_overlay_tints_where_the_matte_is_and_nowhere_else() -> None:
    picture = np.full((1, 3, 3), 100, np.uint8)
    got = overlay8(picture, np.uint8([[0, 128, 255]])).astype(int)
    assert got[0, 0].tolist() == [100, 100, 100]
    wanted = [100 + (c - 100) * proxy.OVERLAY_STRENGTH for c in proxy.OVERLAY_COLOR]
    assert np.abs(got[0, 2] - wanted).max() <= 1
    assert np.abs(got[0, 1] - [100 + (w - 100) * 128 / 255 for w in wanted]).max() <= 1


def test_a_written_proxy_decodes_to_its_colours_in_their_order(tmp_path: Path) -> None:
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:, :16], picture[:, 16:32], picture[:, 32:] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    ProxyMaker.write(tmp_path / "p.jpg", picture)
    back = cv2.imread(str(tmp_path / "p.jpg"))[..., ::-1].astype(int)
    assert np.abs(back[:, 4:12] - (200, 30, 30)).max() <= 6
    assert np.abs(back[:, 36:44] - (30, 30, 200)).max() <= 6
    ProxyMaker.write(tmp_path / "m.jpg", picture[..., 0])
    assert cv2.imread(str(tmp_path / "m.jpg"), cv2.IMREAD_UNCHANGED).ndim == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.jpg", "p.jpg"]


def test_a_proxy_into_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        ProxyMaker.write(tmp_path / "gone" / "p.jpg", np.zeros((4, 4, 3), np.uint8))
