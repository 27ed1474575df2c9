"""The algorithms one by one, against what they must find."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.tasks.shot_extension import grain as grain_of
from pipeline.tasks.shot_extension.camera import apply, homography, motion_of, predict, root, shift
from pipeline.tasks.shot_extension.fill import fill
from pipeline.tasks.shot_extension.mosaic import Layout, left_of_grain
from pipeline.tasks.shot_extension.moved import between, extrapolate
from pipeline.tasks.shot_extension.plan import (
    Scene,
    beyond,
    chain,
    choose_sources,
    near,
    neighbours,
    place,
    split,
    usable,
)
from pipeline.tasks.shot_extension.smooth import push_pull
from pipeline.tasks.shot_extension.splat import splat

Float = NDArray[np.float32]

SIZE = (96, 160)


def test_a_homography_is_found_in_its_flow_at_full_size() -> None:
    true = np.array([[1.01, 0.004, 3.0], [-0.003, 0.99, -2.0], [1e-5, -2e-5, 1.0]])
    found, share = homography(motion_of(true, (48, 80), SIZE), SIZE)
    own = np.array([[0, 0], [159, 0], [0, 95], [159, 95]], np.float32)
    assert np.abs(apply(found, own) - apply(true, own)).max() < 0.1
    assert share > 0.95


def test_an_object_does_not_pull_the_camera_along() -> None:
    flow = motion_of(shift(4, 0), SIZE, SIZE)
    flow[20:70, 40:100] = (-9, 5)
    found, share = homography(flow, SIZE)
    assert np.abs(found - shift(4, 0)).max() < 0.05
    assert 0.7 < share < 0.9


def test_noise_without_a_camera_gives_the_median_shift() -> None:
    flow = np.random.default_rng(0).uniform(-30, 30, (*SIZE, 2)).astype(np.float32)
    found, share = homography(flow, SIZE)
    assert share == 0 and np.abs(found - np.eye(3))[:2, 2].max() < 3


def test_a_steady_camera_goes_on_and_a_growing_one_grows_a_little() -> None:
    steady = predict([shift(3, 0), shift(3, 0)], 3, SIZE)
    assert all(np.abs(step - shift(3, 0)).max() < 1e-4 for step in steady)
    growing = [float(step[0, 2] / step[2, 2]) for step in predict([shift(2, 0), shift(4, 0)], 3, SIZE)]
    assert growing == pytest.approx([4.5, 4.75, 4.875], abs=1e-3)
    assert np.abs(predict([], 1, SIZE)[0] - np.eye(3)).max() == 0


def test_a_step_is_shared_out_over_a_gap() -> None:
    step = root(shift(6, 3), 3, SIZE)
    assert np.abs(np.linalg.matrix_power(step, 3) - shift(6, 3)).max() < 1e-3


def test_a_plate_of_one_column_can_lend_to_its_neighbours() -> None:
    scene = chain((1, 2, 3), lambda a, b: np.eye(3))
    assert [other for other, _ in usable(scene, 2, [1, 3], (40, 1))] == [1, 3]


def panning(frames: tuple[int, ...]) -> Scene:
    return chain(frames, lambda a, b: shift(-5.0 * (b - a), 0))


def test_frames_are_placed_inside_gaps_and_beyond_ends() -> None:
    scene = panning((10, 11, 12, 15, 16))
    for frame in (8, 9, 10, 13, 14, 16, 18):
        assert np.abs(place(scene, frame, SIZE) - shift(5.0 * (frame - 10), 0)).max() < 1e-2, frame
    assert np.abs(beyond(scene, 16, 17, SIZE) - shift(-5, 0)).max() < 1e-2


def test_scenes_end_at_cuts() -> None:
    assert split([1, 2, 5, 6], range(0, 8), [4]) == [((1, 2), (0, 1, 2, 3)), ((5, 6), (4, 5, 6, 7))]
    assert neighbours((1, 2, 5), 3) == (2, 5) and neighbours((1, 2), 0) == (None, 1)
    assert near((1, 2, 3, 5, 6), 4, 2) == [2, 3, 5, 6]


def test_the_nearest_frame_that_shows_it_is_chosen_before_a_far_one() -> None:
    scene = panning(tuple(range(20)))
    candidates = [(f, np.linalg.inv(place(scene, 10, SIZE)) @ scene.camera[f]) for f in range(20) if f != 10]
    height, width = SIZE
    inside = (0.0, 0.0, width - 1.0, height - 1.0)
    chosen = choose_sources(candidates, 10, SIZE, (0, 0, width + 12, height), inside)
    # Twelve pixels on the right: the camera gets there three frames later.
    assert chosen[0] in (13, 14)
    assert all(f > 10 for f in chosen)
    assert choose_sources(candidates, 10, SIZE, (0, -20, width - 1, height - 1), inside) == []


def test_push_pull_keeps_what_is_known_and_goes_on_smoothly() -> None:
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (32, 1))
    known = np.ones((32, 64), np.float32)
    known[10:20, 20:40] = 0
    out = push_pull(ramp, known)
    assert (out[known > 0] == ramp[known > 0]).all()
    assert np.abs(out - ramp).max() < 0.12
    assert (push_pull(ramp, np.zeros_like(known)) == 0).all()


def test_a_splat_lands_where_the_flow_says_and_leaves_a_hole() -> None:
    values = np.random.default_rng(1).uniform(0, 1, (20, 30, 2)).astype(np.float32)
    flow = np.zeros((20, 30, 2), np.float32)
    flow[..., 0] = 4
    moved, density = splat(values, flow, np.ones((20, 30), np.float32))
    assert np.abs(moved[:, 4:] - values[:, :-4]).max() < 1e-6
    assert density[:, :4].max() == 0 and density[:, 4:].min() == 1


def test_a_splat_prefers_what_weighs_more() -> None:
    values = np.array([[[1.0], [2.0]]], np.float32)
    flow = np.array([[[1, 0], [0, 0]]], np.float32)
    moved, _ = splat(values, flow, np.array([[99.0, 1.0]], np.float32))
    assert moved[0, 1, 0] == pytest.approx(1.01)


def test_extrapolation_carries_an_object_on_against_the_camera() -> None:
    h, w = SIZE
    back = np.zeros((h, w, 2), np.float32)
    back[..., 0] = 2  # the camera's: the picture moves left by two a frame
    back[30:60, 50:90, 0] = -3  # an object that moves right by three
    moved = extrapolate(7, back, -back, shift(2, 0), shift(-4, 0), steps=2, span=1, decay=0.0, size=SIZE)
    ((frame, vectors, _),) = moved.fields
    assert frame == 7
    assert np.abs(vectors[40:50, 65:85] - (-6, 0)).max() < 1e-3, "six pixels back lies the object"
    assert np.abs(vectors[5:20, 20:120] - (4, 0)).max() < 1e-3
    assert moved.known[40:50, 48:50].max() == 0, "what it left is unknown"
    slower = extrapolate(7, back, -back, shift(2, 0), shift(-4, 0), steps=2, span=1, decay=1.0, size=SIZE)
    assert np.abs(slower.fields[0][1] - (4, 0)).max() < 1e-3, "an object that stops goes with the background"


def test_between_takes_what_is_uncovered_from_the_side_that_sees_it() -> None:
    h, w = SIZE
    flow_ab, flow_ba = np.zeros((h, w, 2), np.float32), np.zeros((h, w, 2), np.float32)
    flow_ab[30:60, 40:80, 0] = 16
    flow_ba[30:60, 56:96, 0] = -16
    moved = between(1, 2, flow_ab, flow_ba, 0.5)
    (_, to_a, share_a), (_, to_b, _) = moved.fields
    assert np.abs(to_a[40:50, 55:80] - (-8, 0)).max() < 0.3 and np.abs(to_b[40:50, 55:80] - (8, 0)).max() < 0.3
    assert share_a[40:50, 42:46].max() < 0.2, "behind the object only the later frame sees the background"
    assert share_a[40:50, 90:94].min() > 0.8, "before it only the earlier one does"
    assert share_a[5:20].mean() == pytest.approx(0.5, abs=0.01)


def test_a_fill_keeps_what_is_known_and_repeats_its_texture() -> None:
    y = np.mgrid[0:64, 0:96][0]
    picture = np.dstack([0.5 + 0.4 * np.sin(2 * np.pi * y / 16)] * 3).astype(np.float32)
    known = np.ones((64, 96), bool)
    known[:, 70:] = False
    made = fill(np.where(known[..., None], picture, 9.0).astype(np.float32), known, seed=1)
    assert (made[known] == picture[known]).all()
    assert np.abs(made - picture)[~known].mean() < 0.05, "the stripes go on"
    assert made.tobytes() == fill(np.where(known[..., None], picture, 9.0).astype(np.float32), known, seed=1).tobytes()


def test_a_fill_with_too_little_to_take_from_goes_on_smoothly() -> None:
    picture = np.full((12, 12, 3), 0.3, np.float32)
    known = np.zeros((12, 12), bool)
    known[:2] = True
    assert np.abs(fill(picture * known[..., None], known, seed=0) - 0.3).max() < 1e-3


def grainy(sigma: float, blur: float, seed: int) -> Float:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((160, 240, 3)).astype(np.float32)
    if blur:
        noise = cv2.GaussianBlur(noise, (0, 0), blur)
    return sigma * noise / noise.std()


def textured() -> Float:
    rng = np.random.default_rng(4)
    rough = cv2.GaussianBlur(rng.standard_normal((160, 240, 3)).astype(np.float32), (0, 0), 1.5)
    return np.clip(np.linspace(0.2, 0.8, 240, dtype=np.float32)[None, :, None] + 0.06 * rough / rough.std(), 0.05, 0.95)


@pytest.mark.parametrize(("sigma", "blur"), [(0.02, 0.0), (0.02, 0.7), (0.04, 0.5)])
def test_grain_is_told_from_texture(sigma: float, blur: float) -> None:
    """Three times as much texture as grain, on every pixel."""
    clean, still = textured(), np.zeros((160, 240, 2), np.float32)
    pairs = [(clean + grainy(sigma, blur, s), clean + grainy(sigma, blur, s + 50), still) for s in (1, 2)]
    found = grain_of.measure(pairs)
    assert found.sigma.mean() == pytest.approx(sigma, rel=0.25)
    assert found.correlation == pytest.approx(np.exp(-1 / (4 * blur**2)) if blur else 0.0, abs=0.15)


def test_made_grain_has_the_measured_spread_width_and_colour() -> None:
    mix = np.linalg.cholesky(np.array([[1, 0.5, 0.2], [0.5, 1, 0.5], [0.2, 0.5, 1]])).astype(np.float32)
    grain = grain_of.Grain(np.array([0, 1], np.float32), np.full((2, 3), 0.03, np.float32), 0.5, mix)
    made = grain_of.make(grain, (200, 300), seed=3, frame=1001)
    assert made.std((0, 1)) == pytest.approx(1.0, abs=0.03)
    flat = made.reshape(-1, 3)
    assert np.corrcoef(flat.T)[0, 1] == pytest.approx(0.5, abs=0.03)
    assert float((made[:, 1:] * made[:, :-1]).mean()) == pytest.approx(0.5, abs=0.05)
    assert made.tobytes() == grain_of.make(grain, (200, 300), seed=3, frame=1001).tobytes()
    assert not np.allclose(made, grain_of.make(grain, (200, 300), seed=3, frame=1002))
    assert np.isfinite(grain_of.make(grain, (4, 4), seed=0, frame=-5)).all()


def test_grain_is_added_as_far_as_it_lacks() -> None:
    grain = grain_of.Grain(
        np.array([0, 1], np.float32), np.full((2, 3), 0.03, np.float32), 0.0, np.eye(3, dtype=np.float32)
    )
    flat = np.full((100, 100, 3), 0.5, np.float32)
    kept = np.zeros((100, 100), np.float32)
    kept[:50] = 1
    made = grain_of.add(flat, grain, kept, strength=1.0, seed=0, frame=1)
    assert (made[:50] == flat[:50]).all()
    assert made[50:].std() == pytest.approx(0.03, rel=0.05)
    assert grain_of.add(flat, grain, kept, strength=0.0, seed=0, frame=1) is flat


def test_sampling_between_pixels_costs_grain() -> None:
    at = np.array([[[3.0, 4.0], [3.5, 4.0], [3.5, 4.5]]], np.float32)
    assert left_of_grain(at)[0] == pytest.approx([1.0, 0.5, 0.25])


def test_a_layout_maps_the_window_to_its_grid() -> None:
    layout = Layout((100, 200), (120, 260), (40, 10), (50, 100))
    corner = np.array([[[40.0, 10.0]]], np.float32)  # the plate's first pixel in the window
    left, top, right, bottom = layout.pads
    assert (left, top, right, bottom) == (21, 6, 11, 6)
    assert layout.to_grid(corner)[0, 0] == pytest.approx([left - 0.25, top - 0.25])
    assert layout.padded == (62, 132)


def test_a_picture_thinner_than_the_grid_has_its_median_shift() -> None:
    found, share = homography(np.full((40, 1, 2), (3, 0), np.float32), (40, 1))
    assert share == 0 and found[0, 2] == pytest.approx(3)
