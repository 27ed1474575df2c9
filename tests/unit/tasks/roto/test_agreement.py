from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import RunnerError
from pipeline.motion import FlowPair
from pipeline.tasks.roto.agreement import Agreement
from pipeline.tasks.roto.fitted import load_flows, save_flows

from .tiny import Float, disk

SHAPE = (64, 96)


def moving(dx: float) -> FlowPair:
    """Everything moves right by `dx` pixels of the working resolution a frame."""
    forward = np.zeros((32, 48, 2), np.float16)
    forward[..., 0] = dx / 2
    return FlowPair(forward, -forward)


def answers(*probabilities: Float) -> dict[int, Float]:
    return {frame: p[None] for frame, p in enumerate(probabilities)}


def test_a_frame_that_stumbles_is_outvoted_by_what_its_neighbours_bring() -> None:
    places = [disk(30 + 6 * i, 32, 12) * 0.98 + 0.01 for i in range(3)]
    stumbled = places[1] * 0.4  # just below one half inside the disk
    seen = answers(places[0], stumbled, places[2])
    found = Agreement(seen.__getitem__, [0, 1, 2], {0: moving(6), 1: moving(6)}, [0, 1, 2]).at(1)[0] > 0.5
    truth = places[1] > 0.5
    assert not (stumbled > 0.5).any()
    assert (found & truth).sum() > 0.98 * truth.sum() and (found & ~truth).sum() < 0.02 * truth.sum()


@pytest.mark.parametrize("why", ["a cut on both sides", "not readable", "the flow does not return"])
def test_what_does_not_reach_a_frame_has_no_say(why: str) -> None:
    seen = answers(disk(30, 32, 12), disk(30, 32, 12) * 0.4, disk(30, 32, 12))
    flows = {0: moving(0), 1: moving(0)}
    readable = [0, 1, 2]
    if why == "a cut on both sides":
        flows = {}
    elif why == "not readable":
        readable = [1]
    else:
        torn = moving(8)
        flows = {i: FlowPair(torn.forward, torn.forward) for i in flows}
    found = Agreement(seen.__getitem__, [0, 1, 2], flows, readable).at(1)
    assert np.allclose(found, np.clip(seen[1], 0.0025, 0.9975), atol=1e-5)


def test_each_frame_is_asked_for_once_and_alone_decides_what_is_passed_on() -> None:
    asked: list[int] = []
    rng = np.random.default_rng(3)
    seen = answers(*rng.random((5, *SHAPE), dtype=np.float32))

    def answer(frame: int) -> Float:
        asked.append(frame)
        return seen[frame]

    flows = {i: moving(2) for i in range(4)}
    whole = Agreement(answer, range(5), flows, range(5))
    found = {frame: whole.at(frame) for frame in range(5)}
    assert sorted(asked) == list(range(5))
    alone = Agreement(seen.__getitem__, range(5), flows, [1, 2, 3]).at(2)
    assert alone.tobytes() == found[2].tobytes()


def test_flows_come_back_to_within_a_sixteenth_of_a_pixel_where_they_are_smooth(tmp_path: Path) -> None:
    ys, xs = np.mgrid[:33, :48].astype(np.float32)
    forward = np.dstack([xs * 0.2 - 31, ys * -0.1]).astype(np.float16)
    save_flows(tmp_path, {7: FlowPair(forward, (-forward).astype(np.float16))})
    found = load_flows(tmp_path, [6, 7], (66, 96))
    assert set(found) == {7} and found[7].forward.shape == (33, 48, 2)
    inner = np.s_[2:-2, 2:-2]
    assert np.abs(found[7].forward[inner].astype(np.float32) - forward[inner]).max() < 1 / 16
    assert np.abs(found[7].backward[inner].astype(np.float32) + forward[inner]).max() < 1 / 16


def test_lost_and_damaged_flows_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="lacks its flows"):
        load_flows(tmp_path, [1], SHAPE)
    np.savez(tmp_path / "flows.npz", **{"1": np.zeros(9, np.uint8)})
    with pytest.raises(RunnerError, match="lacks its flows"):
        load_flows(tmp_path, [1], SHAPE)
