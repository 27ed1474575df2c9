"""Model-space curves: exact against their specifications, exact back, and the picture that a model is shown."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.media.transform import ACEScct, Curve, HybridCurve, LogC4, to_display

HALVES = np.arange(65536, dtype=np.uint16).view(np.float16)
FINITE = HALVES[np.isfinite(HALVES)]
HYBRIDS = [HybridCurve(peak, knee) for peak in (0.4, 1.0, 1.01, 4.0, 686.0, 65504.0) for knee in (0.18, 0.5, 0.9)]


def through(curve: Curve, halves: np.ndarray) -> np.ndarray:
    return curve.inverse(curve.forward(halves.astype(np.float32))).astype(np.float16)


def srgb(x: float) -> float:
    return 12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055


@pytest.mark.parametrize("curve", HYBRIDS, ids=lambda c: f"peak{c.peak:g}-knee{c.knee:g}")
def test_every_finite_half_comes_back_through_the_hybrid_curve_bit_for_bit(curve: HybridCurve) -> None:
    assert FINITE.size == 63488
    assert np.array_equal(through(curve, FINITE).view(np.uint16), FINITE.view(np.uint16))


@pytest.mark.parametrize("curve", [ACEScct(), LogC4()], ids=["acescct", "logc4"])
def test_every_finite_half_but_the_sign_of_zero_comes_back_through_a_log_curve(curve: Curve) -> None:
    changed = FINITE[through(curve, FINITE).view(np.uint16) != FINITE.view(np.uint16)]
    assert changed.tolist() == [0.0]
    assert np.signbit(changed[0])


def test_a_plate_within_one_is_shown_as_exactly_srgb() -> None:
    x = np.linspace(-1, 1, 4001, dtype=np.float32)
    expected = [math.copysign(srgb(abs(float(v))), float(v)) for v in x]
    assert np.abs(HybridCurve(1.0).forward(x) - expected).max() < 2e-7
    assert np.array_equal(HybridCurve(0.3, 0.2).forward(x), HybridCurve(1.0).forward(x))


@pytest.mark.parametrize("curve", HYBRIDS[6:], ids=lambda c: f"peak{c.peak:g}-knee{c.knee:g}")
def test_the_shoulder_starts_smoothly_at_the_knee_and_puts_the_peak_at_one(curve: HybridCurve) -> None:
    below = np.linspace(0, curve.knee, 500, dtype=np.float32)
    assert np.abs(curve.forward(below) - [srgb(float(v)) for v in below]).max() < 2e-7
    step = 1e-4
    left, knee, right = (
        float(v) for v in curve.forward(np.float32([curve.knee - step, curve.knee, curve.knee + step]))
    )
    assert (right - knee) / step == pytest.approx((knee - left) / step, rel=5e-2)
    assert float(curve.forward(np.float32([curve.peak]))[0]) == pytest.approx(1.0, abs=1e-6)
    assert float(curve.forward(np.float32([curve.peak * 2]))[0]) > 1.0


def test_acescct_gives_the_values_of_its_specification() -> None:
    # S-2016-001: 18 % grey, the toe's break, 0 and 65504 (the largest half).
    given = np.float32([0.18, 0.0078125, 0.0, 65504.0, -0.1])
    wanted = [0.4135884, 0.1552511, 0.0729055, 1.4679964, 10.5402377 * -0.1 + 0.0729055]
    assert np.allclose(ACEScct().forward(given), wanted, atol=2e-6)


def test_logc4_gives_the_values_of_its_specification() -> None:
    # ARRI LogC4 specification: 0 codes to 95/1023, 18 % grey to 0.2783958, 469.8 to 1.
    given = np.float32([0.0, 0.18, 469.8])
    assert np.allclose(LogC4().forward(given), [95 / 1023, 0.2783958, 1.0], atol=2e-6)


@pytest.mark.parametrize("curve", [HybridCurve(20.0), ACEScct(), LogC4()], ids=["hybrid", "acescct", "logc4"])
def test_a_nan_stays_one_and_hides_nothing_beside_it(curve: Curve) -> None:
    clean = np.linspace(-2, 30, 1000, dtype=np.float32)
    dirty = clean.copy()
    dirty[7] = np.nan
    there, back = curve.forward(dirty), curve.inverse(curve.forward(dirty))
    assert np.isnan(there[7])
    assert np.isnan(back[7])
    assert np.array_equal(np.delete(there, 7), np.delete(curve.forward(clean), 7))


@pytest.mark.parametrize("curve", [HybridCurve(20.0), ACEScct(), LogC4()], ids=["hybrid", "acescct", "logc4"])
def test_a_curve_can_work_in_place_and_into_strided_memory(curve: Curve) -> None:
    x = np.random.default_rng(1).normal(1, 2, (3, 190, 200)).astype(np.float32)
    wanted = curve.forward(x)
    place = x.copy()
    assert curve.forward(place, out=place) is place
    assert np.array_equal(place, wanted)
    strided = np.zeros((3, 200, 190), np.float32).transpose(0, 2, 1)
    curve.forward(x, out=strided)
    assert np.array_equal(strided, wanted)
    assert np.array_equal(curve.forward(x.transpose(2, 1, 0)), wanted.transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("peak", "knee"), [(0.0, 0.5), (-1.0, 0.5), (math.inf, 0.5), (math.nan, 0.5), (4, 0.001), (4, 1.0)]
)
def test_a_curve_that_can_not_be_is_refused(peak: float, knee: float) -> None:
    with pytest.raises(ValueError, match=r"peak|knee"):
        HybridCurve(peak, knee)


def test_the_shown_picture_keeps_aspect_never_grows_and_leaves_its_input() -> None:
    rgb = np.random.default_rng(2).random((3, 108, 192), dtype=np.float32)
    kept = rgb.copy()
    assert to_display(rgb, HybridCurve(1.0), 54).shape == (3, 54, 96)
    assert to_display(rgb, HybridCurve(1.0), 50).shape == (3, 50, 89)
    assert to_display(rgb, HybridCurve(1.0), 500).shape == (3, 108, 192)
    assert np.array_equal(rgb, kept)


def test_an_edge_against_a_highlight_stays_where_half_the_pixel_is_covered() -> None:
    dark, light = 0.02, 50.0
    rgb = np.full((3, 40, 40), dark, np.float32)
    rgb[:, :, 21:] = light  # two-to-one: column 10 of the small picture is half covered
    curve = HybridCurve(light)
    row = to_display(rgb, curve, 20)[0, 10]
    low, high = (float(v) for v in curve.forward(np.float32([dark, light])))
    assert row[9] == pytest.approx(low, abs=1e-6)
    assert row[10] == pytest.approx((low + high) / 2, abs=1e-6)
    assert row[11] == pytest.approx(high, abs=1e-6)
