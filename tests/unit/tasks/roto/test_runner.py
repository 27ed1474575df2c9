from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ModelError, RunnerError
from pipeline.quality.overlap import region_similarity
from pipeline.tasks.contract import Cancelled, FrameResult, ModelRef
from pipeline.tasks.registry import new_runner
from pipeline.tasks.roto.definition import ROTO, RotoParameters
from pipeline.tasks.roto.fitted import NET, load_facts, save_facts
from pipeline.tasks.roto.runner import RotoRunner

from .tiny import Scene, TinyShot, gliding, painted


@pytest.fixture(scope="module")
def runner() -> RotoRunner:
    made = new_runner(ROTO)
    assert isinstance(made, RotoRunner)
    made.load(ModelRef())
    return made


def flow_only() -> RotoParameters:
    return RotoParameters(iterations=0, edge_refine=False)


def run(runner: RotoRunner, shot: TinyShot, chunks: Sequence[Sequence[int]] | None = None) -> dict[int, FrameResult]:
    results: list[FrameResult] = []
    reach = ROTO.context_frames(shot.parameters)
    for frames in chunks or [shot.frames]:
        context = {f + d for f in frames for d in range(-reach, reach + 1)} & set(shot.scene.pictures) - set(frames)
        results += list(runner.run(replace(shot, frames=frames, context=sorted(context))))
    assert [r.frame for r in results] == [f for frames in chunks or [shot.frames] for f in frames]
    return {r.frame: r for r in results}


@pytest.fixture(scope="module")
def fitted(runner: RotoRunner, tmp_path_factory: pytest.TempPathFactory) -> TinyShot:
    scene = gliding()
    shot = TinyShot(
        scene, painted(scene, [1001, 1004, 1007]), tmp_path_factory.mktemp("fit"), RotoParameters(iterations=24)
    )
    runner.fit(shot)
    return shot


def test_a_fit_finds_the_object_on_frames_nobody_painted(runner: RotoRunner, fitted: TinyShot) -> None:
    results = run(runner, fitted)
    for frame in (1002, 1003, 1005, 1006):
        assert region_similarity(results[frame].layers["matte"]["A"], fitted.scene.mattes["ball"][frame]) > 0.8


def test_a_key_comes_back_as_it_was_given(runner: RotoRunner, fitted: TinyShot) -> None:
    soft = np.linspace(0, 1, 64 * 96, dtype=np.float32).reshape(64, 96)
    shot = replace(fitted, keys={"ball": {1004: soft}}, frames=[1004], context=[1003, 1005])
    (result,) = runner.run(shot)
    assert result.layers["matte"]["A"].tobytes() == soft.tobytes()
    assert result.quality["is_key"] == 1 and result.quality["confidence"] == 1
    (inverted,) = runner.run(replace(shot, parameters=RotoParameters(invert=True)))
    assert np.array_equal(inverted.layers["matte"]["A"], 1 - soft)


def test_any_chunking_gives_the_same_bits(runner: RotoRunner, fitted: TinyShot) -> None:
    whole = run(runner, fitted)
    chunked = run(RotoRunner(), fitted, [[1006, 1007], [1003], [1001, 1002, 1004, 1005]])
    for frame, result in whole.items():
        assert result.layers["matte"]["A"].tobytes() == chunked[frame].layers["matte"]["A"].tobytes()
        assert result.quality == chunked[frame].quality


def test_a_frame_goes_by_the_ones_beside_it_and_no_further(runner: RotoRunner, fitted: TinyShot) -> None:
    def without(*gone: int) -> bytes:
        pictures = {f: np.zeros_like(p) if f in gone else p for f, p in fitted.scene.pictures.items()}
        shot = replace(fitted, scene=replace(fitted.scene, pictures=pictures), keys={"ball": {}})
        return run(runner, shot, [[1003]])[1003].layers["matte"]["A"].tobytes()

    assert without() == without(1001, 1005)
    assert without(1002) != without() != without(1004)


def test_the_fit_settles_the_precision_for_every_chunk(runner: RotoRunner, fitted: TinyShot, tmp_path: Path) -> None:
    shutil.copytree(fitted.folder, tmp_path / "fit")
    shot = replace(fitted, folder=tmp_path / "fit")
    mattes = []
    for bfloat16 in (False, True):
        save_facts(shot.folder, replace(load_facts(shot.folder), bfloat16=bfloat16))
        mattes.append(run(runner, shot, [[1003]])[1003].layers["matte"]["A"])
    assert float(np.abs(mattes[0] - mattes[1]).max()) > 0 and region_similarity(*mattes) > 0.98


def test_a_painted_neighbour_counts_as_painted(runner: RotoRunner, fitted: TinyShot) -> None:
    empty = np.zeros((64, 96), np.float32)
    beside = {"ball": {1002: empty, 1004: empty}}
    plain, lowered = (
        float(run(runner, replace(fitted, keys=keys), [[1003]])[1003].layers["matte"]["A"].sum())
        for keys in ({"ball": {}}, beside)
    )
    assert lowered < plain


def test_the_same_seed_gives_the_same_bits_and_another_does_not(runner: RotoRunner, tmp_path: Path) -> None:
    scene = gliding()
    weights = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        shot = TinyShot(scene, painted(scene, [1001, 1007]), tmp_path / name, RotoParameters(iterations=3), seed=seed)
        facts = runner.fit(shot)
        assert facts["seed"] == seed and facts["iterations"] == 3
        weights[name] = (tmp_path / name / NET).read_bytes()
    assert weights["a"] == weights["b"] != weights["c"]


def test_every_frame_has_its_measures(runner: RotoRunner, fitted: TinyShot) -> None:
    for frame, result in run(runner, fitted).items():
        assert set(result.quality) == {"confidence", "entropy", "disagreement", "coverage", "is_key"}
        assert all(0 <= value <= 1 for value in result.quality.values())
        assert result.quality["is_key"] == (frame in (1001, 1004, 1007))
        assert 0.05 < result.quality["coverage"] < 0.2
        matte = result.layers["matte"]["A"]
        assert matte.dtype == np.float32 and matte.shape == (64, 96) and matte.min() >= 0 and matte.max() <= 1


def test_two_objects_give_a_layer_each_and_their_union(runner: RotoRunner, tmp_path: Path) -> None:
    scene = gliding(second=True)
    keys = painted(scene, [1001, 1007])
    del keys["puck"][1007]  # keyed on other frames than the ball
    shot = TinyShot(scene, keys, tmp_path, RotoParameters(iterations=24))
    assert runner.fit(shot)["objects"] == 2
    results = run(runner, shot)
    for result in results.values():
        assert set(result.layers) == {"matte", "ball", "puck"}
        union = np.maximum(result.layers["ball"]["A"], result.layers["puck"]["A"])
        assert np.array_equal(result.layers["matte"]["A"], union)
    for name in ("ball", "puck"):
        assert region_similarity(results[1003].layers[name]["A"], scene.mattes[name][1003]) > 0.7
    assert np.array_equal(results[1007].layers["ball"]["A"], scene.mattes["ball"][1007])
    assert results[1001].quality["is_key"] == 1 and results[1007].quality["is_key"] == 0


def test_without_iterations_flow_alone_answers_and_no_net_is_left(tmp_path: Path) -> None:
    scene = gliding()
    shot = TinyShot(scene, painted(scene, [1001]), tmp_path, flow_only())
    runner = RotoRunner()  # never loaded: no weights are needed
    runner.fit(shot)
    assert not (tmp_path / NET).exists()
    results = run(runner, shot)
    assert region_similarity(results[1004].layers["matte"]["A"], scene.mattes["ball"][1004]) > 0.85
    assert results[1002].quality["confidence"] > results[1006].quality["confidence"]


def test_invert_and_feather_shape_every_frame(tmp_path: Path) -> None:
    scene = gliding()
    shot = TinyShot(scene, painted(scene, [1001]), tmp_path, flow_only())
    runner = RotoRunner()
    runner.fit(shot)
    plain = run(runner, shot)
    inverted = run(runner, replace(shot, parameters=flow_only().model_copy(update={"invert": True})))
    feathered = run(runner, replace(shot, parameters=flow_only().model_copy(update={"feather": 4.0})))
    for frame in shot.frames:
        a = plain[frame].layers["matte"]["A"]
        assert np.array_equal(inverted[frame].layers["matte"]["A"], 1 - a)
        softness = [float((m * (1 - m)).sum()) for m in (a, feathered[frame].layers["matte"]["A"])]
        assert softness[1] > softness[0] + 10


def test_previews_come_before_the_net_learns(runner: RotoRunner, tmp_path: Path) -> None:
    scene = gliding()
    shot = TinyShot(scene, painted(scene, [1001, 1007]), tmp_path)
    runner.fit(shot)
    learning = next(i for i, event in enumerate(shot.events) if event.startswith("fit "))
    assert shot.events[0] == "preview", "the keys themselves need no reading"
    assert "preview" in shot.events[shot.events.index("read") : shot.events.index("read") + 8]
    assert "preview" not in shot.events[learning:]
    assert {frame for frame, _ in shot.previews} == set(shot.frames)
    assert all(set(layers) == {"matte"} and layers["matte"].shape[0] <= 270 for _, layers in shot.previews)


@pytest.mark.parametrize("at", [0.05, 0.3])
def test_a_cancel_is_honoured_amid_flow_and_amid_learning(runner: RotoRunner, tmp_path: Path, at: float) -> None:
    scene = gliding()
    shot = TinyShot(scene, painted(scene, [1001]), tmp_path, RotoParameters(iterations=50), cancel_at=at)
    with pytest.raises(Cancelled):
        runner.fit(shot)
    assert not (tmp_path / "fit.json").exists()
    with pytest.raises(RunnerError, match="no finished roto fit"):
        run(runner, shot)


def test_a_shot_behind_a_cut_gets_nothing_from_the_other(tmp_path: Path) -> None:
    scene = gliding()
    shot = TinyShot(scene, painted(scene, [1002]), tmp_path, flow_only(), cuts=[1005])
    runner = RotoRunner()
    runner.fit(shot)
    results = run(runner, shot)
    assert results[1004].layers["matte"]["A"].any()
    for frame in (1005, 1006, 1007):
        assert not results[frame].layers["matte"]["A"].any()
        assert results[frame].quality["confidence"] == 0


def test_a_plate_above_the_working_height_is_worked_small_and_given_full(tmp_path: Path) -> None:
    small = gliding(count=3)
    big = Scene(
        {f: np.ascontiguousarray(p.repeat(10, 1).repeat(10, 2)) for f, p in small.pictures.items()},
        {"ball": {f: m.repeat(10, 0).repeat(10, 1) for f, m in small.mattes["ball"].items()}},
    )
    shot = TinyShot(big, painted(big, [1001]), tmp_path, flow_only())
    runner = RotoRunner()
    facts = runner.fit(shot)
    assert (facts["working_height"], facts["working_width"]) == (480, 720)
    results = run(runner, shot)
    assert results[1002].layers["matte"]["A"].shape == (640, 960)
    assert region_similarity(results[1002].layers["matte"]["A"], big.mattes["ball"][1002]) > 0.9
    assert all(layers["matte"].shape == (270, 405) for _, layers in shot.previews)


def test_keys_that_cannot_serve_are_refused_with_a_reason(tmp_path: Path) -> None:
    scene = gliding()
    runner = RotoRunner()
    matte = scene.mattes["ball"][1001]
    for keys, reason in (
        ({}, "no key mattes"),
        ({"ball": {}}, "no key matte"),
        ({"ball": {999: matte}}, "outside the shot"),
        ({"matte": {1001: matte}, "ball": {1001: matte}}, "union"),
    ):
        with pytest.raises(RunnerError, match=reason):
            runner.fit(TinyShot(scene, keys, tmp_path, flow_only()))


def test_a_net_that_was_never_loaded_is_an_error_not_a_guess(tmp_path: Path) -> None:
    scene = gliding()
    with pytest.raises(RunnerError, match="not loaded"):
        RotoRunner().fit(TinyShot(scene, painted(scene, [1001]), tmp_path))


def test_a_studios_net_starts_the_fit_in_the_place_of_imagenet(
    runner: RotoRunner, fitted: TinyShot, tmp_path: Path
) -> None:
    studio = RotoRunner()
    studio.load(ModelRef(name="house", path=fitted.folder / NET))
    scene = fitted.scene
    start = TinyShot(scene, fitted.keys, tmp_path, RotoParameters(iterations=1))
    studio.fit(start)
    found = run(studio, start)[1003].layers["matte"]["A"]
    assert region_similarity(found, scene.mattes["ball"][1003]) > 0.8, (
        "one step on top of a fitted net keeps what it knew"
    )


def test_a_studios_net_answers_without_a_fit_and_for_each_object(fitted: TinyShot, tmp_path: Path) -> None:
    studio = RotoRunner()
    studio.load(ModelRef(name="house", path=fitted.folder / NET))
    lost = {"ball": {1001: fitted.scene.mattes["ball"][1001]}}
    for name, second in (("one", False), ("two", True)):
        (tmp_path / name).mkdir()
        scene = gliding(second=second)
        keys = {**lost, "puck": {1001: scene.mattes["puck"][1001]}} if second else lost
        shot = TinyShot(scene, keys, tmp_path / name, flow_only())
        assert studio.fit(shot)["iterations"] == 0
        assert load_facts(shot.folder).has_net
        results = run(studio, shot)
        assert (
            region_similarity(results[1004].layers["ball" if second else "matte"]["A"], scene.mattes["ball"][1004])
            > 0.8
        )
        alone = replace(shot, folder=tmp_path / f"{name}-flow")
        alone.folder.mkdir()
        flow = RotoRunner()
        flow.fit(alone)
        assert not load_facts(alone.folder).has_net
        assert not np.array_equal(run(flow, alone)[1004].layers["matte"]["A"], results[1004].layers["matte"]["A"])
    kept = (tmp_path / "one" / NET).read_bytes()
    assert kept == (fitted.folder / NET).read_bytes() == (tmp_path / "two" / NET).read_bytes(), "it is asked as it is"


def test_a_net_of_two_objects_is_not_asked_for_one_without_a_fit(runner: RotoRunner, tmp_path: Path) -> None:
    scene = gliding(second=True)
    for name in ("pair", "single"):
        (tmp_path / name).mkdir()
    runner.fit(TinyShot(scene, painted(scene, [1001]), tmp_path / "pair", RotoParameters(iterations=1)))
    studio = RotoRunner()
    studio.load(ModelRef(path=tmp_path / "pair" / NET))
    with pytest.raises(RunnerError, match="knows 2 objects, the shot has 1"):
        studio.fit(TinyShot(gliding(), painted(gliding(), [1001]), tmp_path / "single", flow_only()))


def test_weights_that_are_not_safetensors_or_not_the_hashed_ones_are_refused(fitted: TinyShot, tmp_path: Path) -> None:
    pickle = tmp_path / "net.pt"
    pickle.write_bytes(b"x")
    broken = tmp_path / "net.safetensors"
    broken.write_bytes(b"x" * 100)
    for model in (
        ModelRef(path=pickle),
        ModelRef(path=broken),
        ModelRef(path=tmp_path / "absent.safetensors"),
        ModelRef(path=fitted.folder / NET, sha256="0" * 64),
    ):
        with pytest.raises(ModelError):
            RotoRunner().load(model)


def test_a_wrong_thread_count_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATEWRIGHT_THREADS", "many")
    with pytest.raises(ModelError, match="PLATEWRIGHT_THREADS"):
        RotoRunner().load(ModelRef())
