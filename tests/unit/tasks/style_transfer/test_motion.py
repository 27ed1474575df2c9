"""Ways into keys, what a fit keeps of them, and the blends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import RunnerError
from pipeline.motion import FlowPair
from pipeline.tasks.style_transfer.blend import Neighbour, Side, blend_sides, steady, walk
from pipeline.tasks.style_transfer.carry import Carried, carry
from pipeline.tasks.style_transfer.fitted import Fitted, MotionReader, MotionWriter, load_facts, save_facts

from .scene import texture

SHAPE = (32, 48)


def pan(x: float, y: float = 0.0) -> FlowPair:
    """Everything moves by (x, y) to the next frame."""
    forward = np.broadcast_to(np.array((x, y), np.float16), (*SHAPE, 2)).copy()
    return FlowPair(forward, -forward)


def test_offsets_add_up_along_the_way_and_confidence_falls() -> None:
    ways = {(i, key): way for i, key, way in carry([0], [pan(2), pan(1.5), pan(0, 1)], 4, SHAPE)}
    assert set(ways) == {(1, 0), (2, 0), (3, 0)}
    assert np.allclose(ways[3, 0].offset, (-3.5, -1), atol=1e-3)
    means = [float(ways[i, 0].confidence.mean()) for i in (1, 2, 3)]
    assert 1 > means[0] > means[1] > means[2] > 0.5


def test_what_came_in_from_outside_is_not_believed() -> None:
    (_, _, way), *_ = carry([0], [pan(8)], 2, SHAPE)
    assert way.confidence[:, :7].max() < 0.2 and way.confidence[:, 10:-10].min() > 0.9


def test_each_frame_is_led_to_the_nearest_key_on_either_side_and_over_no_cut() -> None:
    pairs = [pan(1), pan(1), pan(1), None, pan(1)]
    found = {(i, key) for i, key, _ in carry([0, 3], pairs, 6, SHAPE)}
    assert found == {(1, 0), (2, 0), (1, 3), (2, 3)}


def test_a_fit_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    offset = (rng.integers(-3000, 3000, (*SHAPE, 2)) / 32).astype(np.float32)
    carried = Carried(offset, (rng.integers(0, 256, SHAPE) / 255).astype(np.float32))
    plate = (rng.integers(0, 256, (20, 30, 3)) / 255).astype(np.float32)
    with MotionWriter(tmp_path) as writer:
        writer.way(1003, 1001, carried)
        writer.flow(1001, pan(1.25, -0.5))
        writer.plate(1001, plate)
        writer.painting(1001, plate)
    fitted = Fitted(20, 30, {1001: "look", 1040: ""}, {1003: (1001,)}, (1030,))
    save_facts(tmp_path, fitted)
    assert load_facts(tmp_path) == fitted
    reader = MotionReader(tmp_path)
    way = reader.way(1003, 1001)
    assert np.array_equal(way.offset, offset) and np.allclose(way.confidence, carried.confidence, atol=1e-6)
    assert np.array_equal(reader.flow(1001).forward, pan(1.25, -0.5).forward)
    assert np.allclose(reader.plate(1001), plate, atol=1e-6) and np.allclose(reader.painting(1001), plate, atol=1e-5)
    with pytest.raises(RunnerError, match="lacks sure/9/1001"):
        reader.way(9, 1001)
    reader.close()


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "platewright.style-fit/0"}'])
def test_a_fit_that_never_finished_or_is_of_another_version_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "fit.json").write_text(text)
    with pytest.raises(RunnerError, match=r"no finished|another version"):
        load_facts(tmp_path)
    with pytest.raises(RunnerError, match="lacks its motion"):
        MotionReader(tmp_path)


def test_between_two_keys_the_nearer_speaks_louder_and_equal_pictures_stay() -> None:
    one, two = texture(1), texture(2)
    worth = np.ones((64, 96), np.float32)
    near = blend_sides([Side(one, worth, 1), Side(two, worth, 9)])
    assert np.abs(near - one).mean() < 0.2 * np.abs(near - two).mean()
    same = blend_sides([Side(one, worth, 4), Side(one, worth, 4)])
    assert np.allclose(same, one, atol=1e-5)


def test_the_side_that_fits_better_gives_the_strokes() -> None:
    one, two = texture(1), texture(2)
    left = np.ones((64, 96), np.float32)
    left[:, 48:] = 0.02
    made = blend_sides([Side(one, left, 5), Side(two, left[:, ::-1].copy(), 5)])
    assert np.abs(made - one)[:, :40].mean() < 0.02 and np.abs(made - two)[:, 56:].mean() < 0.02


def test_a_way_over_several_frames_is_the_sum_of_its_steps() -> None:
    ahead = walk([pan(2), pan(1)], ahead=True)
    back = walk([pan(2), pan(1)], ahead=False)
    assert np.allclose(ahead[1].offset, (3, 0)) and np.allclose(back[1].offset, (-3, 0))


def test_noise_is_averaged_where_the_plate_agrees_and_kept_out_where_it_does_not() -> None:
    rng = np.random.default_rng(2)
    clean = texture(3)
    noisy = [np.asarray(clean + rng.normal(0, 0.05, clean.shape), np.float32) for _ in range(3)]
    path = walk([pan(0)], ahead=True)[0]
    near = [Neighbour(path, picture, clean) for picture in noisy[1:]]
    made, flicker = steady(noisy[0], clean, near, 1.0)
    assert np.std(made - clean) < 0.7 * np.std(noisy[0] - clean)
    assert 0.03 < flicker < 0.12
    stranger = [Neighbour(path, picture, clean + np.float32(1)) for picture in noisy[1:]]
    kept, _ = steady(noisy[0], clean, stranger, 1.0)
    assert np.allclose(kept, noisy[0], atol=1e-5)
    untouched, _ = steady(noisy[0], clean, near, 0.0)
    assert np.allclose(untouched, noisy[0], atol=1e-6)
