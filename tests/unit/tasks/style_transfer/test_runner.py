from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ModelError, RunnerError
from pipeline.memory_shot import MemoryShot
from pipeline.tasks.contract import Cancelled, FrameResult, ModelRef
from pipeline.tasks.registry import new_runner
from pipeline.tasks.style_transfer.definition import STYLE_TRANSFER, StyleParameters
from pipeline.tasks.style_transfer.runner import StyleTransferRunner

from .scene import FIRST, HEIGHT, WIDTH, disk, gliding, paint, shot, shown, texture


@pytest.fixture(scope="module")
def runner() -> StyleTransferRunner:
    made = new_runner(STYLE_TRANSFER)
    assert isinstance(made, StyleTransferRunner)
    made.load(ModelRef())
    return made


def run(
    runner: StyleTransferRunner, shot: MemoryShot, chunks: Sequence[Sequence[int]] | None = None
) -> dict[int, FrameResult]:
    """Chunk by chunk, each with the context that the definition asks for."""
    whole = sorted(shot.plate)
    reach = STYLE_TRANSFER.context_frames(shot.parameters)
    results: list[FrameResult] = []
    for frames in chunks or [whole]:
        first, last = whole.index(frames[0]), whole.index(frames[-1])
        context = [*whole[max(0, first - reach) : first], *whole[last + 1 : last + 1 + reach]]
        results += runner.run(replace(shot, frames=frames, context=context, available=()))
    return {r.frame: r for r in results}


def picture(result: FrameResult) -> np.ndarray:
    """A result in model space."""
    assert result.rgb is not None
    return shown(result.rgb)


@pytest.fixture(scope="module")
def fitted(runner: StyleTransferRunner, tmp_path_factory: pytest.TempPathFactory) -> MemoryShot:
    made = shot(tmp_path_factory.mktemp("fit"))
    facts = runner.fit(made)
    assert facts["keys"] == [FIRST] and facts["seed"] == 5
    return made


def test_frames_that_nobody_painted_look_as_if_somebody_had(runner: StyleTransferRunner, fitted: MemoryShot) -> None:
    results = run(runner, fitted)
    for frame in (1003, 1007):
        truth, key = paint(fitted.plate[frame]), fitted.keys["look"][FIRST]
        error, still = (np.abs(p - truth).mean() for p in (picture(results[frame]), key))
        assert error < 0.04 and error < still / 2, f"frame {frame}"


def test_a_key_comes_back_as_it_was_painted(runner: StyleTransferRunner, fitted: MemoryShot) -> None:
    result = run(runner, fitted)[FIRST]
    assert np.allclose(picture(result), fitted.keys["look"][FIRST], atol=2e-6)
    assert result.quality["confidence"] == pytest.approx(1) and result.quality["key_distance"] == 0


@pytest.mark.parametrize("blend", [0, 1, 3])
def test_any_chunking_gives_the_same_bits(runner: StyleTransferRunner, fitted: MemoryShot, blend: int) -> None:
    made = replace(fitted, parameters=StyleParameters(blend_frames=blend))
    whole = run(runner, made)
    chunked = run(StyleTransferRunner(), made, [[1004, 1005], [1007], [1001, 1002, 1003], [1006]])
    for frame, result in whole.items():
        assert result.rgb is not None and chunked[frame].rgb is not None
        assert result.rgb.tobytes() == chunked[frame].rgb.tobytes()  # type: ignore[union-attr]
        assert result.quality == chunked[frame].quality


def test_a_fit_and_its_frames_are_the_same_bits_for_a_seed(runner: StyleTransferRunner, tmp_path: Path) -> None:
    kept = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        made = shot(tmp_path / name, seed=seed)
        runner.fit(made)
        kept[name] = run(runner, made, [[1006]])[1006].rgb.tobytes()  # type: ignore[union-attr]
    assert kept["a"] == kept["b"] != kept["c"]


def test_every_frame_has_the_measures_that_the_definition_names(
    runner: StyleTransferRunner, fitted: MemoryShot
) -> None:
    results = run(runner, fitted)
    for result in results.values():
        assert set(result.quality) == set(STYLE_TRANSFER.measures)
        assert all(np.isfinite(v) for v in result.quality.values())
        assert 0 <= result.quality["confidence"] <= 1 and result.quality["coverage"] == 1
    assert [results[f].quality["key_distance"] for f in (1001, 1002, 1007)] == [0, 1, 6]
    assert results[1002].quality["confidence"] > results[1007].quality["confidence"]


def test_neighbours_steady_a_noisy_plate(runner: StyleTransferRunner, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    plate = {f: (p + rng.normal(0, 0.01, p.shape)).astype(np.float16) for f, p in gliding().items()}
    made = shot(tmp_path, plate=plate)
    runner.fit(made)
    flicker = {}
    for name, blend in (("none", 0), ("two", 2)):
        found = run(runner, replace(made, parameters=StyleParameters(blend_frames=blend)))
        ground = [picture(found[f])[:, 46:, :20] for f in sorted(found)[1:]]  # it stands still there
        flicker[name] = float(np.mean([np.abs(b - a).mean() for a, b in pairwise(ground)]))
    source = float(
        np.mean([np.abs(shown(plate[f + 1]) - shown(plate[f]))[:, 46:, :20].mean() for f in range(1002, 1007)])
    )
    assert flicker["two"] < flicker["none"] < source


def test_strength_0_leaves_the_plate_bit_for_bit(runner: StyleTransferRunner, fitted: MemoryShot) -> None:
    for result in run(runner, replace(fitted, parameters=StyleParameters(strength=0.0))).values():
        assert result.changed is not None and not result.changed.any()
        assert result.rgb is not None and np.array_equal(result.rgb, fitted.linear(result.frame))


def test_a_keyed_strength_lays_the_style_on_little_by_little(runner: StyleTransferRunner, fitted: MemoryShot) -> None:
    full = run(runner, fitted)
    keyed = run(runner, replace(fitted, curves={"strength": {1003: 0.0, 1004: 0.5, 1005: 1.0}}))
    assert np.array_equal(keyed[1003].rgb, fitted.linear(1003))  # type: ignore[arg-type]
    middle = (shown(fitted.plate[1004]) + picture(full[1004])) / 2
    assert np.allclose(picture(keyed[1004]), middle, atol=1e-4)
    assert np.array_equal(keyed[1005].rgb, full[1005].rgb)  # type: ignore[arg-type]


def test_a_mask_says_where(runner: StyleTransferRunner, fitted: MemoryShot) -> None:
    mask = disk(40).astype(np.float32)
    masked = replace(fitted, parameters=StyleParameters(mask="m.png"), masks={"mask": {1004: mask, 1005: mask * 0}})
    result, empty = (run(runner, masked, [[f]])[f] for f in (1004, 1005))
    assert result.changed is not None and np.array_equal(result.changed, mask > 0)
    assert result.rgb is not None and np.array_equal(result.rgb[:, mask == 0], fitted.linear(1004)[:, mask == 0])
    inside = run(runner, fitted)[1004].rgb
    assert inside is not None and np.allclose(result.rgb[:, mask == 1], inside[:, mask == 1], atol=1e-5)
    assert empty.changed is not None and not empty.changed.any() and empty.quality["coverage"] == 0
    with pytest.raises(RunnerError, match="no frame 1006"):
        run(runner, masked, [[1006]])


def test_highlights_and_negatives_of_the_plate_are_carried_over(runner: StyleTransferRunner, tmp_path: Path) -> None:
    plate = gliding()
    for p in plate.values():
        p[:, 4:10, 80:90] = 40
        p[1, 50:54, 4:10] = -0.25
    key = np.clip(shown(plate[FIRST]), 0, 1)  # painted on an 8-bit picture of the frame: it ends at 1
    made = shot(tmp_path, plate=plate, keys=())
    made = replace(made, keys={"look": {FIRST: key}})
    runner.fit(made)
    result = run(runner, made)[1004]
    assert result.rgb is not None
    assert result.rgb[:, 5:9, 82:88].min() > 38 and result.rgb[1, 51:53, 5:9].max() < -0.2
    clipped = run(runner, replace(made, parameters=StyleParameters(keep_highlights=False)))[1004]
    assert clipped.rgb is not None and clipped.rgb.max() < 1.01
    first = run(runner, made)[FIRST]
    assert first.rgb is not None and np.allclose(first.rgb, plate[FIRST].astype(np.float32), rtol=1e-3, atol=1e-4)


def test_frames_between_two_keys_take_from_both(runner: StyleTransferRunner, tmp_path: Path) -> None:
    made = shot(tmp_path, keys=(1001, 1007))
    darker = replace(made, keys={"look": {1001: made.keys["look"][1001], 1007: made.keys["look"][1007] * 0.6}})
    runner.fit(darker)
    results = run(runner, darker)
    light = [float(picture(results[f]).mean()) for f in range(1001, 1008)]
    assert light == sorted(light, reverse=True), "one key's colours pass into the other's"
    assert [results[f].quality["key_distance"] for f in (1001, 1003, 1004, 1006)] == [0, 2, 3, 1]
    both = shot(tmp_path, keys=(1001, 1007))
    runner.fit(both)
    error = np.abs(picture(run(runner, both)[1004]) - paint(both.plate[1004])).mean()
    assert error < 0.04


def test_a_shot_behind_a_cut_is_left_alone_without_a_board(runner: StyleTransferRunner, tmp_path: Path) -> None:
    made = shot(tmp_path, cuts=[1005])
    runner.fit(made)
    results = run(runner, made)
    for frame in (1005, 1006, 1007):
        assert results[frame].quality["confidence"] == 0 and results[frame].quality["key_distance"] == -1
        assert np.array_equal(results[frame].rgb, made.linear(frame))  # type: ignore[arg-type]
    alone = shot(tmp_path, plate={f: p for f, p in made.plate.items() if f < 1005})
    runner.fit(alone)
    assert np.array_equal(results[1004].rgb, run(runner, alone)[1004].rgb)  # type: ignore[arg-type]


def test_a_mood_board_paints_what_nobody_did(runner: StyleTransferRunner, tmp_path: Path) -> None:
    warm = (texture(7) * np.float32([0.4, 0.2, 0.1]) + np.float32([0.5, 0.3, 0.1])).transpose(2, 0, 1).copy()
    made = shot(tmp_path, keys=(), references={"mood": [warm]}, parameters=StyleParameters(mood="board"))
    facts = runner.fit(made)
    assert facts["keys"] == [] and facts["mood_keys"] == [1004]
    results = run(runner, made)
    for frame in (1001, 1004, 1007):
        mean = picture(results[frame]).mean((1, 2))
        assert np.abs(mean - warm.mean((1, 2))).max() < 0.08, "the board's colours"
        lighter = picture(results[frame])[:, disk(28 + 2 * (frame - FIRST))].mean()
        assert lighter > picture(results[frame]).mean() + 0.02, "the disk is still to be seen"
    cut = replace(made, keys=shot(tmp_path).keys, cuts=[1005])
    assert runner.fit(cut)["mood_keys"] == [1006], "the painted shot needs no board, the one behind the cut does"


def test_previews_come_in_order_keys_first_then_frames_moved_along(runner: StyleTransferRunner, tmp_path: Path) -> None:
    notes: list[str] = []
    made = shot(tmp_path, keys=(1003,), on_progress=lambda fraction, note: notes.append(f"{len(made.previews)} {note}"))
    runner.fit(made)
    assert made.previews[0][0] == 1003 and notes[0].startswith("1 motion"), "the key is shown before anything is read"
    assert {frame for frame, _ in made.previews} >= {1003, 1005}
    assert all(layers["picture"].shape == (3, HEIGHT, WIDTH) for _, layers in made.previews)
    assert notes[-1].endswith("fit done")


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_a_cancel_is_honoured_and_leaves_no_finished_fit(
    runner: StyleTransferRunner, tmp_path: Path, at: float
) -> None:
    def stop(fraction: float, note: str) -> None:
        if fraction >= at:
            raise Cancelled

    made = shot(tmp_path, on_progress=stop)
    with pytest.raises(Cancelled):
        runner.fit(made)
    with pytest.raises(RunnerError, match="no finished style fit"):
        run(runner, made)


def test_a_plate_above_the_working_height_is_searched_small_and_given_full(
    runner: StyleTransferRunner, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    small = texture(1, 30, 40, 2.0)
    plate = {}
    for i in range(2):
        big = np.roll(small, i, axis=1).repeat(20, 0).repeat(20, 1)  # 600 lines, moved by 20 pixels
        plate[FIRST + i] = big.transpose(2, 0, 1).astype(np.float16)
    canvas = np.asarray(rng.random((3, 600, 800)), np.float32)  # detail that only the full size can hold
    made = replace(shot(tmp_path, plate=plate, keys=()), keys={"look": {FIRST: canvas}})
    made.parameters = StyleParameters(blend_frames=0)
    facts = runner.fit(made)
    assert (facts["working_height"], facts["working_width"]) == (540, 720)
    result = picture(run(runner, made)[FIRST + 1])
    assert result.shape == (3, 600, 800)
    inner = np.s_[:, 60:-60, 100:-60]
    assert np.std(result[inner]) > 0.6 * np.std(canvas), "strokes keep their own pixels"


def test_what_cannot_serve_is_refused_with_a_reason(runner: StyleTransferRunner, tmp_path: Path) -> None:
    good = shot(tmp_path)
    key = good.keys["look"][FIRST]
    for keys, reason in (
        ({}, "neither a painted frame nor a mood board"),
        ({"look": {999: key}}, "outside the shot"),
        ({"look": {FIRST: key}, "other": {FIRST: key}}, "painted twice"),
        ({"look": {FIRST: key[:, ::2, ::2].copy()}}, "is 48×32, the plate 96×64"),
    ):
        with pytest.raises(RunnerError, match=reason):
            runner.fit(replace(good, keys=keys))


def test_a_wrong_thread_count_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATEWRIGHT_THREADS", "many")
    with pytest.raises(ModelError, match="PLATEWRIGHT_THREADS"):
        StyleTransferRunner().load(ModelRef())
