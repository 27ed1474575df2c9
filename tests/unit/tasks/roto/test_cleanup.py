from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.tasks.roto.clean import drop_islands
from pipeline.tasks.roto.refine import enlarge, feather, follow_edges
from pipeline.tasks.roto.uncertainty import Credit, uncertainty

from .tiny import disk, texture

LINES = (240, 427)


def test_an_island_far_from_the_prior_is_dropped_and_the_body_stays_bit_for_bit() -> None:
    body, island = disk(100, 120, 40, *LINES) * np.float32(0.9), disk(350, 60, 25, *LINES)
    out = drop_islands(np.maximum(body, island), disk(102, 118, 40, *LINES))
    assert np.array_equal(out, body)


def test_a_piece_beside_the_body_and_near_the_prior_is_kept() -> None:
    both = np.maximum(disk(100, 120, 40, *LINES), disk(145, 120, 4, *LINES))
    assert np.array_equal(drop_islands(both, disk(100, 120, 42, *LINES)), both)


def test_without_a_prior_large_pieces_stay_and_specks_go() -> None:
    large, second, speck = disk(100, 120, 40, *LINES), disk(250, 120, 30, *LINES), disk(350, 60, 3, *LINES)
    out = drop_islands(np.max([large, second, speck], axis=0), np.zeros(LINES, np.float32))
    assert np.array_equal(out, np.maximum(large, second))


def test_a_larger_piece_that_motion_does_not_know_gives_way_to_the_one_it_does() -> None:
    known, other = disk(100, 120, 25, *LINES), disk(330, 120, 50, *LINES)
    assert np.array_equal(drop_islands(np.maximum(known, other), known), known)


def test_one_piece_is_never_touched() -> None:
    alone = disk(330, 60, 20, *LINES)
    assert drop_islands(alone, disk(60, 200, 20, *LINES)) is alone


def test_enlarging_keeps_an_edge_sharp() -> None:
    small = cv2.GaussianBlur(disk(160, 120, 60, 240, 320), (0, 0), 0.5)
    large = enlarge(small, 960, 1280)
    plain = cv2.resize(small, (1280, 960))

    def ramp(matte: np.ndarray) -> int:
        row = matte[480, 640:]
        return int(((row > 0.1) & (row < 0.9)).sum())

    assert 0 < ramp(large) < ramp(plain)
    assert large[0, 0] == 0 and large[480, 640] == 1
    assert enlarge(small, 240, 320) is small


def test_a_matte_that_misses_the_edge_is_drawn_to_it() -> None:
    truth = disk(320, 240, 120, 480, 640)
    rgb = np.where(truth > 0, np.float32(0.8), np.float32(0.2)) + (texture(3, 480, 640).transpose(2, 0, 1) - 0.5) * 0.05
    off = cv2.GaussianBlur(disk(321.5, 240, 120, 480, 640), (0, 0), 1.5)
    out = follow_edges(off, rgb.astype(np.float32))
    assert np.abs(out - truth).mean() < 0.5 * np.abs(off - truth).mean()


def test_away_from_the_edge_refining_changes_nothing() -> None:
    truth = disk(160, 120, 60, 240, 320)
    out = follow_edges(truth, texture(4, 240, 320).transpose(2, 0, 1))
    away = cv2.GaussianBlur(truth, (0, 0), 4)
    assert np.array_equal(out[(away < 1e-4) | (away > 1 - 1e-4)], truth[(away < 1e-4) | (away > 1 - 1e-4)])


def test_refining_by_tiles_shows_no_joins() -> None:
    rgb = texture(5, 300, 600).transpose(2, 0, 1)
    matte = cv2.GaussianBlur((texture(6, 300, 600)[..., 0] > 0.5).astype(np.float32), (0, 0), 3)
    shifted = follow_edges(
        np.pad(matte, ((0, 0), (37, 0)), mode="reflect"), np.pad(rgb, ((0, 0), (0, 0), (37, 0)), mode="reflect")
    )
    assert np.abs(shifted[:, 60:] - follow_edges(matte, rgb)[:, 23:]).max() < 1e-3


def test_feathering_widens_by_what_it_says_and_none_means_none() -> None:
    step = disk(160, 120, 80, 240, 320)
    assert feather(step, 0) is step
    row = feather(step, 10)[120, 160:]
    assert 8 <= int(((row > 0.05) & (row < 0.95)).sum()) <= 24
    assert row.min() >= 0 and row.max() <= 1


def test_uncertainty_sees_a_doubtful_edge_and_a_matte_that_left_its_prior() -> None:
    solid = disk(100, 120, 40, *LINES)
    sure = uncertainty(solid, solid)
    assert (sure.entropy, sure.disagreement) == (0, 0)
    assert sure.coverage == pytest.approx(solid.mean())
    assert uncertainty(solid * np.float32(0.7), solid).entropy == pytest.approx(0.84)
    assert uncertainty(solid, disk(300, 120, 40, *LINES)).disagreement == 1
    assert uncertainty(np.zeros_like(solid), np.zeros_like(solid)).worst == 0


def test_credit_foretells_the_overlap_that_the_keys_showed() -> None:
    credit = Credit.from_keys([(0.6, 0.8), (0.4, 0.7)])
    assert credit.error_per_doubt == pytest.approx(0.5)
    assert credit.quality(0.9) == pytest.approx(0.95)
    assert credit.quality(1.0) == 1 and credit.quality(0.0) == 0
    assert Credit.from_keys([]) == Credit()
    assert 0 < Credit.from_keys([(0.9, 0.1)]).quality(0.5) < 0.1, "what flow reached is never quite nothing"
