from __future__ import annotations

from itertools import pairwise

import numpy as np

from pipeline.motion import FlowEstimator, FlowPair
from pipeline.quality.overlap import region_similarity
from pipeline.tasks.roto.flow import Propagated, cross_check, propagate

from .tiny import HEIGHT, WIDTH, disk, gliding


def pairs_of(pictures: list[np.ndarray]) -> list[FlowPair | None]:
    flow = FlowEstimator()
    grey = [flow.prepare(p) for p in pictures]
    return [flow.pair(a, b) for a, b in pairwise(grey)]


def spread(keys: dict[int, np.ndarray], pairs: list[FlowPair | None], breaks: list[int]) -> dict[int, Propagated]:
    found = list(propagate(keys, pairs, breaks, (HEIGHT, WIDTH)))
    assert len(found) == len(dict(found)) == len(pairs) + 1
    return dict(found)


def still(count: int) -> list[FlowPair | None]:
    zero = np.zeros((HEIGHT // 2, WIDTH // 2, 2), np.float16)
    return [FlowPair(zero, zero)] * (count - 1)


def test_flow_carries_a_matte_along_a_translation_from_either_side() -> None:
    scene = gliding()
    truth = [scene.mattes["ball"][f] for f in sorted(scene.pictures)]
    pairs = pairs_of([scene.pictures[f] for f in sorted(scene.pictures)])
    for key in (0, 6):
        found = spread({key: truth[key]}, pairs, [])
        assert all(region_similarity(found[i].matte / 255, truth[i]) > 0.85 for i in range(7))
        assert region_similarity(found[6 - key].matte / 255, truth[key]) < 0.5, "the disk did move away from its key"


def test_two_keys_give_a_better_middle_than_either_alone_or_as_good() -> None:
    scene = gliding(count=9, step=3)
    truth = [scene.mattes["ball"][f] for f in sorted(scene.pictures)]
    pairs = pairs_of([scene.pictures[f] for f in sorted(scene.pictures)])
    both, left = spread({0: truth[0], 8: truth[8]}, pairs, []), spread({0: truth[0]}, pairs, [])
    assert region_similarity(both[7].matte / 255, truth[7]) >= region_similarity(left[7].matte / 255, truth[7])
    assert both[7].trust > left[7].trust


def test_a_key_is_kept_as_it_is_and_is_fully_trusted() -> None:
    matte = disk(40, 30, 10)
    found = spread({2: matte}, still(4), [])
    assert np.array_equal(found[2].matte, (matte * 255).astype(np.uint8))
    assert found[2].trust == 1


def test_nothing_is_carried_across_a_cut() -> None:
    found = spread({1: disk(40, 30, 10)}, still(6), [3])
    assert found[2].matte.any() and found[0].matte.any()
    for i in (3, 4, 5):
        assert not found[i].matte.any() and found[i].trust == 0


def test_a_pair_across_a_cut_is_never_touched() -> None:
    pairs = still(4)
    pairs[1] = None
    found = spread({0: disk(40, 30, 10), 3: disk(20, 30, 10)}, pairs, [2])
    assert np.array_equal(found[1].matte, found[0].matte) and np.array_equal(found[2].matte, found[3].matte)


def test_trust_falls_with_distance_and_faster_where_flow_does_not_return() -> None:
    there = np.zeros((HEIGHT // 2, WIDTH // 2, 2), np.float16)
    away = there + np.float16(3)
    kept, broken = (
        spread({0: disk(40, 30, 10)}, still(4), []),
        spread({0: disk(40, 30, 10)}, [FlowPair(away, there)] * 3, []),
    )
    assert 1 > kept[1].trust > kept[2].trust > kept[3].trust > 0.9
    assert broken[3].trust < 0.3


def test_a_check_of_the_keys_is_what_the_others_make_of_them() -> None:
    keys = {0: disk(40, 30, 10), 3: disk(44, 30, 10), 6: disk(48, 30, 10)}
    checked = cross_check(keys, still(7), [], (HEIGHT, WIDTH))
    for here, others in ((0, {3: keys[3]}), (3, {0: keys[0], 6: keys[6]}), (6, {3: keys[3]})):
        expected = spread(others, still(7), [])[here]
        assert np.abs(checked[here].matte.astype(int) - expected.matte).max() <= 1
        assert abs(checked[here].trust - expected.trust) < 0.01
    assert set(cross_check(keys, still(7), [5], (HEIGHT, WIDTH))) == {0, 3}, (
        "the key behind the cut has no other to be checked by"
    )
