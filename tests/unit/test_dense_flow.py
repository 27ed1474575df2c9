from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.dense_flow import DenseFlow


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (8, 8), (4, 150), (7, 12), (12, 7), (11, 11)])
def test_a_picture_that_is_too_small_for_dis_has_a_flow_of_its_own_size(height: int, width: int) -> None:
    still = np.random.default_rng(0).integers(0, 255, (height, width), np.uint8)
    flow = DenseFlow().between(still, still)
    assert flow.shape == (height, width, 2) and flow.dtype == np.float32
    assert np.abs(flow).max() == 0


def test_a_shift_is_found_in_a_picture_of_six_lines() -> None:
    rng = np.random.default_rng(1)
    texture = cv2.GaussianBlur(rng.integers(0, 255, (6, 80), np.uint8), (0, 0), 2)
    a, b = (np.ascontiguousarray(texture[:, x : x + 60]) for x in (4, 2))
    flow = DenseFlow().between(a, b)
    assert np.median(flow[..., 0]) == pytest.approx(2, abs=0.5)


def test_what_dis_can_take_it_is_given_as_it_is() -> None:
    a, b = np.random.default_rng(2).integers(0, 255, (2, 8, 12), np.uint8)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(0)
    assert np.array_equal(DenseFlow().between(a, b), dis.calc(a, b, None))
