"""Each algorithm by itself: against a second implementation, against values known by hand, at its edges."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.sparse
from numpy.typing import NDArray

from pipeline.quality.matting import score_matte
from pipeline.tasks.matte.closed_form import Problem, solve
from pipeline.tasks.matte.foreground import estimate_foreground
from pipeline.tasks.matte.likelihood import opinion, side_of
from pipeline.tasks.matte.prior import brushed, from_roto, from_trimap
from pipeline.tasks.matte.refine import guided, refine
from pipeline.tasks.matte.screen import despill, key, saturation, screen_share, usable
from pipeline.tasks.matte.strokes import strokes_at

from .tiny import GREEN, HEIGHT, WIDTH, composite, greenscreen

Float = NDArray[np.float32]


def rows_of(planar: Float) -> Float:
    return np.ascontiguousarray(planar.transpose(1, 2, 0))


def dense_laplacian(rgb: Float, noise: float) -> NDArray[np.float64]:
    """The matting Laplacian, window by window, as Levin et al. write it."""
    height, width = rgb.shape[:2]
    full = np.zeros((height * width, height * width))
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            index = [(y + dy) * width + x + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
            window = rgb.reshape(-1, 3)[index].astype(np.float64)
            off = window - window.mean(0)
            own = (noise * np.square(window.mean(0)).mean() + 1e-9) / 9
            inverse = np.linalg.inv(off.T @ off / 9 + own * np.eye(3))
            full[np.ix_(index, index)] += np.eye(9) - (1 + off @ inverse @ off.T) / 9
    return full


def test_the_solver_finds_the_minimum_of_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    rgb = cv2.GaussianBlur(rng.random((14, 17, 3), dtype=np.float32), (0, 0), 1.5)
    unknown = np.zeros((14, 17), np.bool_)
    unknown[3:12, 4:15] = True
    known = (np.arange(17) > 8).astype(np.float32)[None].repeat(14, 0)
    target = rng.random((14, 17), dtype=np.float32)
    weight = (0.5 + rng.random((14, 17), dtype=np.float32)).astype(np.float32)
    found = solve(Problem(rgb, known, unknown, target, weight, 1e-3), smoothness=3.0)
    free = unknown.ravel()
    laplacian = 3.0 * dense_laplacian(rgb, 1e-3)
    matrix = laplacian[np.ix_(free, free)] + np.diag(weight.ravel()[free])
    right = weight.ravel()[free] * target.ravel()[free] - laplacian[np.ix_(free, ~free)] @ known.ravel()[~free]
    best = np.clip(np.linalg.solve(matrix, right), 0, 1)
    assert np.abs(found.ravel()[free] - best).max() < 2e-3
    assert np.array_equal(found[~unknown], known[~unknown])


def test_a_band_at_the_pictures_border_is_solved_too() -> None:
    made = composite()
    rgb = rows_of(made.rgb[1001])[40:80, 20:70]
    alpha = made.alpha[1001][40:80, 20:70]
    everywhere = np.ones(alpha.shape, np.bool_)
    found = solve(
        Problem(np.ascontiguousarray(rgb), alpha * 0, everywhere, alpha, np.full(alpha.shape, 10, np.float32))
    )
    assert np.isfinite(found).all() and score_matte(found, alpha).mse < 1


def test_starting_from_half_the_size_ends_at_the_same_matte(monkeypatch: pytest.MonkeyPatch) -> None:
    made = composite()
    prior = from_roto(made.roto[1001], 3.0)
    rgb = rows_of(made.rgb[1001])
    straight = refine(rgb, prior).matte
    monkeypatch.setattr("pipeline.tasks.matte.closed_form._DIRECT", 400)
    stepped = refine(rgb, prior).matte
    assert np.abs(straight - stepped).max() < 0.02


def test_colours_of_two_sides_tell_alpha() -> None:
    rng = np.random.default_rng(1)
    rgb = np.empty((60, 60, 3), np.float32)
    rgb[:, :30], rgb[:, 30:] = (0.8, 0.3, 0.1), (0.1, 0.2, 0.6)
    mixed = np.float32([0.7])[:, None]
    rgb[20:40, 28:32] = rgb[0, 0] * mixed + rgb[0, 59] * (1 - mixed)
    rgb += rng.normal(0, 0.003, rgb.shape).astype(np.float32)
    band = np.zeros((60, 60), np.bool_)
    band[20:40, 28:32] = True
    columns = np.arange(60)[None].repeat(60, 0)
    fore, back = (side_of(rgb, side, band, 6.0) for side in (columns < 26, columns > 33))
    seen = opinion(rgb[band], fore, back, np.full(int(band.sum()), 0.5, np.float32))
    assert np.abs(seen.alpha - 0.7).mean() < 0.02
    assert seen.variance.max() < 0.05
    alike = opinion(rgb[band], fore, fore, np.full(int(band.sum()), 0.5, np.float32))
    assert alike.variance.min() > 100


@pytest.mark.parametrize("reach", [2.0, 9.0, 40.0])
def test_moments_are_those_of_the_sure_pixels_at_any_reach(reach: float) -> None:
    rgb = np.full((80, 90, 3), 0.25, np.float32)
    rgb[:, 45:] = (0.5, 4.0, 1.0)
    band = np.zeros((80, 90), np.bool_)
    band[:, 44] = True
    side = side_of(rgb, np.arange(90)[None].repeat(80, 0) < 40, band, reach)
    assert np.abs(side.mean - 0.25).max() < 1e-3
    assert np.abs(side.spread).max() < 1e-3


def test_a_prior_is_sure_far_from_the_outline_and_open_under_the_brush() -> None:
    made = composite()
    roto = made.roto[1001]
    hair = brushed(roto.shape, [[(100.0, 20.0), (110.0, 30.0)]], 6.0)
    prior = from_roto(roto, 1.5, hair)
    assert prior.unknown[hair].all() and not prior.back[hair].any()
    assert not prior.unknown[0, 0] and prior.known[0, 0] == 0 and prior.known[48, 44] == 1
    assert prior.fore[48, 44] and prior.back[0, 0]
    assert prior.variance[hair].min() > prior.variance[~hair].max()


def test_a_trimap_stays_as_it_was_painted() -> None:
    trimap = np.full((20, 30), 0.5, np.float32)
    trimap[:, :8], trimap[:, 22:] = 0, 1
    prior = from_trimap(trimap)
    assert np.array_equal(prior.unknown, trimap == 0.5)
    assert np.all(prior.known[trimap == 1] == 1) and np.all(prior.known[trimap == 0] == 0)
    assert np.all(np.diff(prior.mean[10, 8:22]) > 0)


def test_a_guided_filter_of_a_flat_guide_is_a_blur_and_follows_a_step() -> None:
    matte = np.zeros((40, 40), np.float32)
    matte[:, 20:] = 1
    flat = np.full((40, 40, 3), 0.5, np.float32)
    assert np.ptp(guided(flat, matte, 4)[20, 14:26]) > 0.5
    shifted = np.zeros((40, 40, 3), np.float32)
    shifted[:, 22:] = 0.8  # the picture's edge lies two pixels off the roto's
    found = guided(shifted, matte, 6)
    assert found[20, 22] - found[20, 21] > 5 * (found[20, 21] - found[20, 20])


def test_foreground_colours_are_cleaner_than_the_plates_and_opaque_ones_untouched() -> None:
    made = composite()
    rgb, alpha = rows_of(made.rgb[1001]), made.alpha[1001]
    found = estimate_foreground(rgb, alpha)
    soft = (alpha > 0.1) & (alpha < 0.9)
    truth = rows_of(made.fore[1001])
    assert np.abs(found - truth)[soft].mean() < 0.15 * np.abs(rgb - truth)[soft].mean()
    assert found[alpha == 1].tobytes() == rgb[alpha == 1].tobytes()
    assert np.array_equal(estimate_foreground(rgb, np.zeros_like(alpha)), np.zeros_like(rgb))
    assert np.array_equal(estimate_foreground(rgb, np.ones_like(alpha)), rgb)


def test_a_highlight_behind_hair_does_not_end_up_in_it() -> None:
    made = composite(ground=np.full((HEIGHT, WIDTH, 3), 12.0, np.float32), grain=0.0)
    found = estimate_foreground(rows_of(made.rgb[1001]), made.alpha[1001])
    soft = (made.alpha[1001] > 0.3) & (made.alpha[1001] < 0.9)
    assert found[soft].mean() < 1.0 < rows_of(made.rgb[1001])[soft].mean()


def test_a_key_follows_uneven_light_and_a_clean_plate() -> None:
    made = greenscreen()
    rgb = rows_of(made.rgb[1001])
    found = key(rgb, GREEN)
    off = made.alpha[1001] == 0
    assert found.alpha[off].mean() < 0.01
    one_light = 1 - (rgb[..., 1] - np.maximum(rgb[..., 0], rgb[..., 2])) / (GREEN[1] - max(GREEN[0], GREEN[2]))
    assert np.clip(one_light, 0, 1)[off].mean() > 5 * found.alpha[off].mean()


def test_what_a_screen_is() -> None:
    made = greenscreen()
    rgb = rows_of(made.rgb[1001])
    assert screen_share(rgb, GREEN) == pytest.approx((made.alpha[1001] == 0).mean(), abs=0.03)
    assert screen_share(rgb, (0.05, 0.08, 0.4)) == 0
    assert usable(GREEN) and usable((0.05, 0.09, 0.4)) and not usable((0.2, 0.2, 0.21)) and not usable((0.0, 0.0, 0.0))
    assert saturation((0.1, 0.4, 0.2)) == pytest.approx(0.5)


def test_despill_touches_only_what_the_screen_lit() -> None:
    rgb = np.float32([[[0.2, 0.5, 0.3], [0.6, 0.4, 0.2], [3.0, 9.0, 1.0]]])
    assert despill(rgb, GREEN, 0.0) is rgb
    found = despill(rgb, GREEN, 1.0)
    assert found[0, 0] == pytest.approx([0.2, 0.3, 0.3]) and found[0, 2] == pytest.approx([3, 3, 1])
    assert found[0, 1].tobytes() == rgb[0, 1].tobytes()
    assert despill(rgb, (0.1, 0.1, 0.5), 1.0)[0].tobytes() == rgb[0].tobytes()


def test_strokes_hold_and_move_between_the_frames_they_were_drawn_on() -> None:
    strokes = (((10, 0.0, 0.0), (10, 4.0, 0.0)), ((20, 10.0, 5.0), (20, 14.0, 5.0)))
    assert strokes_at(strokes, 5) == strokes_at(strokes, 10) == [[(0, 0), (4, 0)]]
    assert strokes_at(strokes, 15) == [[(5, 2.5), (9, 2.5)]]
    assert strokes_at(strokes, 99) == [[(10, 5), (14, 5)]]
    other = (*strokes, ((20, 1.0, 1.0),))  # two on one frame, one on the other: the nearer holds
    assert strokes_at(other, 14) == [[(0, 0), (4, 0)]] and len(strokes_at(other, 17)) == 2
    assert strokes_at((), 3) == []


def test_a_single_touch_of_the_brush_is_a_disk() -> None:
    touched = brushed((40, 40), [[(20.0, 15.0)]], 5.0)
    assert touched[15, 20] and touched[15, 24] and not touched[15, 27]
    assert touched.sum() == pytest.approx(np.pi * 25, rel=0.2)


def test_scipy_is_given_a_symmetric_matrix() -> None:
    """Conjugate gradients need one; the assembly must not favour a direction."""
    from pipeline.tasks.matte.closed_form import _laplacian

    made = composite()
    rgb = rows_of(made.rgb[1001])[20:50, 20:60]
    unknown = np.zeros(rgb.shape[:2], np.bool_)
    unknown[2:-2, 2:-2] = True
    plane = np.zeros(unknown.shape, np.float32)
    matrix, _ = _laplacian(Problem(np.ascontiguousarray(rgb), plane, unknown, plane, plane), np.flatnonzero(unknown))
    assert isinstance(matrix, scipy.sparse.csr_array)
    assert abs(matrix - matrix.T).max() < 1e-4 * abs(matrix).max()
