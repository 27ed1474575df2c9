"""Roto by models that were not taught the shot: SAM 2 with prompts or keys, ONNX saliency with or without keys."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ModelError, RunnerError
from pipeline.memory_shot import CURVE, MemoryShot
from pipeline.models.facts import NET_KEY
from pipeline.models.onnx import open_onnx
from pipeline.quality.overlap import region_similarity
from pipeline.tasks.contract import Cancelled, FrameResult, ModelRef
from pipeline.tasks.roto.definition import RotoParameters
from pipeline.tasks.roto.prompts import Prompts
from pipeline.tasks.roto.runner import RotoRunner
from pipeline.tasks.roto.saliency import LOOKS, NOTE, Saliency, gate
from pipeline.tasks.roto.sam2 import Sam2Tracker, Subject
from tests import tiny
from tests.unit.tasks.roto.tiny import Scene, disk, gliding


def shot_of(scene: Scene, folder: Path, parameters: RotoParameters, **more: Any) -> MemoryShot:
    """A scene as a shot in memory: its pictures are brought from model space to scene-linear."""
    folder.mkdir(exist_ok=True)
    plate = {frame: CURVE.inverse(picture) for frame, picture in scene.pictures.items()}
    return MemoryShot(plate=plate, parameters=parameters, folder=folder, **more)


def shining(count: int) -> Scene:
    """`gliding`, its ball the one bright thing."""
    scene = gliding(count)
    for frame, picture in scene.pictures.items():
        scene.pictures[frame] = np.where(scene.mattes["ball"][frame] > 0, np.float32(0.95), picture * np.float32(0.4))
    return scene


def chunk(shot: MemoryShot, frames: Sequence[int]) -> MemoryShot:
    return MemoryShot(
        plate=shot.plate, parameters=shot.parameters, folder=shot.folder, keys=shot.keys, frames=frames, cuts=shot.cuts
    )


def mattes(results: Sequence[FrameResult], layer: str = "matte") -> dict[int, np.ndarray]:
    return {r.frame: r.layers[layer]["A"] for r in results}


@pytest.fixture(scope="module")
def sam2(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return ModelRef(name="sam2", path=tiny.sam2(tmp_path_factory.mktemp("models") / "sam2"))


@pytest.fixture(scope="module")
def tracker(sam2: ModelRef) -> RotoRunner:
    runner = RotoRunner()
    runner.load(sam2)
    return runner


POINTED = RotoParameters(points=((30.0, 24.0),), points_off=((80.0, 50.0),), box=(16.0, 10.0, 44.0, 38.0))


@pytest.mark.parametrize(
    ("parameters", "frame"),
    [
        (POINTED, 1001),
        (RotoParameters(points=((36.0, 24.0),), prompt_frame=1004), 1004),
        (RotoParameters(strokes=(tuple((1003, 30.0 + i, 24.0) for i in range(12)),)), 1003),
    ],
)
def test_sam_2_follows_what_was_pointed_at_from_any_frame_both_ways(
    tracker: RotoRunner, tmp_path: Path, parameters: RotoParameters, frame: int
) -> None:
    shot = shot_of(gliding(5), tmp_path, parameters)
    facts = tracker.fit(shot)
    assert facts["prompted_frames"] == [frame]
    results = list(tracker.run(shot))
    assert [r.frame for r in results] == [1001, 1002, 1003, 1004, 1005]
    for result in results:
        matte = result.layers["matte"]["A"]
        assert matte.shape == (64, 96)
        assert 0 <= matte.min() <= matte.max() <= 1
        assert 0 <= result.quality["confidence"] <= 1
        assert result.quality["is_key"] == 0


def test_what_sam_2_is_told_decides_what_it_gives(tracker: RotoRunner, tmp_path: Path) -> None:
    """The weights are drawn by chance, so what is found means nothing; but it hangs on the prompt and on its frame."""
    found = {}
    for name, parameters in {
        "ball": POINTED,
        "ground": RotoParameters(points=((80.0, 50.0),)),
        "later": RotoParameters(points=((30.0, 24.0),), prompt_frame=1003),
    }.items():
        shot = shot_of(gliding(3), tmp_path / name, parameters.model_copy(update={"edge_refine": False}))
        tracker.fit(shot)
        found[name] = mattes(list(tracker.run(shot)))
    for other in ("ground", "later"):
        assert all(np.abs(found["ball"][f] - found[other][f]).max() > 1e-3 for f in found["ball"])


def test_sam_2_is_the_same_twice_and_in_any_chunk(tracker: RotoRunner, sam2: ModelRef, tmp_path: Path) -> None:
    first = shot_of(gliding(4), tmp_path / "a", POINTED)
    tracker.fit(first)
    whole = mattes(list(tracker.run(first)))
    other = RotoRunner()
    other.load(sam2)
    again = shot_of(gliding(4), tmp_path / "b", POINTED)
    other.fit(again)
    for frames in ([1001, 1002], [1003], [1004]):
        for frame, matte in mattes(list(other.run(chunk(again, frames)))).items():
            np.testing.assert_array_equal(matte, whole[frame])


def test_sam_2_takes_keys_of_several_objects_and_gives_them_back_untouched(tracker: RotoRunner, tmp_path: Path) -> None:
    scene = gliding(4, second=True)
    keys = {"ball": {1002: scene.mattes["ball"][1002]}, "puck": {1001: scene.mattes["puck"][1001]}}
    shot = shot_of(scene, tmp_path, RotoParameters(), keys=keys)
    facts = tracker.fit(shot)
    assert facts["objects"] == 2
    results = list(tracker.run(shot))
    for name, painted in keys.items():
        for frame, matte in painted.items():
            np.testing.assert_array_equal(mattes(results, name)[frame], matte)
    for result in results:
        union = np.maximum(result.layers["ball"]["A"], result.layers["puck"]["A"])
        np.testing.assert_array_equal(result.layers["matte"]["A"], union)


def test_sam_2_never_looks_across_a_cut(tracker: RotoRunner, tmp_path: Path) -> None:
    scene = gliding(6)
    shot = shot_of(scene, tmp_path / "a", POINTED, cuts=[1004])
    tracker.fit(shot)
    results = {r.frame: r for r in tracker.run(shot)}
    for frame in (1004, 1005, 1006):
        assert results[frame].layers["matte"]["A"].max() == 0
        assert results[frame].quality["confidence"] == 0
    other = gliding(6)
    for frame in (1004, 1005, 1006):
        other.pictures[frame] = 1 - other.pictures[frame]
    changed = shot_of(other, tmp_path / "b", POINTED, cuts=[1004])
    tracker.fit(changed)
    for frame, result in {r.frame: r for r in tracker.run(changed)}.items():
        if frame < 1004:
            np.testing.assert_array_equal(result.layers["matte"]["A"], results[frame].layers["matte"]["A"])


class _Whole(Sam2Tracker):
    """Keeps all that the model remembers, as its own video loop does."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._reach = 10_000


def test_forgetting_what_the_memory_no_longer_reaches_changes_nothing(tracker: RotoRunner) -> None:
    """A shot longer than the memory: the same mattes, from a tracker that keeps everything."""
    scene = gliding(24, step=1.0)
    pictures = [scene.pictures[f] for f in sorted(scene.pictures)]
    told = {"ball": Subject(prompts={4: Prompts(on=((34.0, 24.0),))})}
    found = []
    for kind in (Sam2Tracker, _Whole):
        walker = kind(tracker._sam2, lambda i: pictures[i], len(pictures), (64, 96), [])
        found.append({t.index: t for t in walker.track(told)})
    assert sorted(found[0]) == list(range(24))
    for index, kept in found[1].items():
        np.testing.assert_array_equal(found[0][index].matte, kept.matte)


def test_a_key_is_followed_as_the_models_own_loop_would(tracker: RotoRunner) -> None:
    """The same frames and mask, given to the library's whole-video session."""
    import torch
    from torch.nn import functional as F
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    scene = gliding(5)
    pictures = [scene.pictures[f] for f in sorted(scene.pictures)]
    matte = scene.mattes["ball"][1001]
    walker = Sam2Tracker(tracker._sam2, lambda i: pictures[i], 5, (64, 96), [])
    found = {t.index: t.matte for t in walker.track({"ball": Subject(mattes={0: matte})})}
    video = torch.stack([walker._picture(i) for i in range(5)])
    session = Sam2VideoInferenceSession(video=video, video_height=64, video_width=96, dtype=torch.float32)
    square = F.interpolate(torch.from_numpy(matte)[None, None], (tiny.SAM2_SIZE,) * 2, mode="bilinear", antialias=True)
    session.add_mask_inputs(session.obj_id_to_idx(1), 0, (square >= 0.5).float())
    session.obj_with_new_inputs = [1]
    for out in tracker._sam2.propagate_in_video_iterator(session, start_frame_idx=0):
        large = F.interpolate(out.pred_masks.float(), (64, 96), mode="bilinear", align_corners=False)
        np.testing.assert_allclose(found[out.frame_idx], torch.sigmoid(large)[0, 0].numpy(), atol=1e-5)
    assert region_similarity(found[0], matte) > 0.8


def test_a_fit_by_sam_2_shows_previews_and_stops_when_told(tracker: RotoRunner, tmp_path: Path) -> None:
    shot = shot_of(gliding(4), tmp_path, POINTED)
    tracker.fit(shot)
    assert {frame for frame, _ in shot.previews} == {1001, 1002, 1003, 1004}

    def stop(fraction: float, note: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        tracker.fit(shot_of(gliding(4), tmp_path, POINTED, on_progress=stop))


def test_sam_2_without_anything_to_follow_is_refused(tracker: RotoRunner, tmp_path: Path) -> None:
    scene = gliding(3)
    key = {"ball": {1001: scene.mattes["ball"][1001]}}
    for parameters, keys, reason in (
        (RotoParameters(), {}, "nothing says"),
        (RotoParameters(points_off=((3.0, 3.0),)), {}, "nothing says"),
        (POINTED, key, "has a key already"),
        (POINTED.model_copy(update={"prompt_frame": 1009}), {}, "not in the shot"),
        (POINTED, {**key, "puck": key["ball"]}, "mean one object"),
    ):
        with pytest.raises(RunnerError, match=reason):
            tracker.fit(shot_of(scene, tmp_path, parameters, keys=keys))


@pytest.fixture(scope="module")
def salient(tmp_path_factory: pytest.TempPathFactory) -> RotoRunner:
    """A model that finds what is brighter than the mean."""
    runner = RotoRunner()
    runner.load(
        ModelRef(name="bright", path=tiny.saliency_onnx(tmp_path_factory.mktemp("models") / "bright.onnx", side=None))
    )
    return runner


def test_a_saliency_model_finds_the_object_without_a_key(salient: RotoRunner, tmp_path: Path) -> None:
    scene = shining(4)
    shot = shot_of(scene, tmp_path, RotoParameters())
    salient.fit(shot)
    assert shot.previews
    results = list(salient.run(shot))
    for frame, matte in mattes(results).items():
        assert region_similarity(matte, scene.mattes["ball"][frame]) > 0.6
    for result in salient.run(chunk(shot, [1003])):
        np.testing.assert_array_equal(result.layers["matte"]["A"], mattes(results)[1003])


def test_keys_limit_what_a_saliency_model_finds(salient: RotoRunner, tmp_path: Path) -> None:
    scene = shining(4)
    for picture in scene.pictures.values():  # a second bright thing, which nobody painted
        picture[:, 44:60, 70:92] = 0.95
    free = shot_of(scene, tmp_path / "free", RotoParameters(edge_refine=False))
    salient.fit(free)
    assert mattes(list(salient.run(free)))[1003][50, 80] > 0.9
    keys = {"ball": {1001: scene.mattes["ball"][1001]}}
    shot = shot_of(scene, tmp_path / "keyed", RotoParameters(edge_refine=False), keys=keys)
    salient.fit(shot)
    results = mattes(list(salient.run(shot)))
    np.testing.assert_array_equal(results[1001], keys["ball"][1001])
    assert results[1003][44:60, 70:92].max() < 0.01
    assert region_similarity(results[1003], scene.mattes["ball"][1003]) > 0.6


def test_a_saliency_model_takes_no_prompts(salient: RotoRunner, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="takes no points"):
        salient.fit(shot_of(shining(2), tmp_path, POINTED))


def test_the_keys_tell_how_a_model_wants_its_pictures(tmp_path: Path) -> None:
    """Pictures divided by their peak and those left alone differ, where the peak is far below 1."""
    scene = shining(2)
    model = open_onnx(tiny.saliency_onnx(tmp_path / "a.onnx", side=None))
    rgb, key = scene.pictures[1001], scene.mattes["ball"][1001]
    saliency = Saliency(model)
    scores = saliency.choose({1001: (rgb, key)})
    assert set(scores) == set(LOOKS)
    assert scores[saliency.look] == max(scores.values())
    assert Saliency(model).choose({}) == {}


def test_a_files_note_names_its_look(tmp_path: Path) -> None:
    import onnx

    made = onnx.load(tiny.saliency_onnx(tmp_path / "a.onnx"))
    made.metadata_props.add(key=NOTE, value="modnet")
    onnx.save(made, str(tmp_path / "b.onnx"))
    saliency = Saliency(open_onnx(tmp_path / "b.onnx"))
    assert (saliency.look, saliency.noted) == ("modnet", True)
    assert saliency.choose({1001: (gliding(1).pictures[1001], disk(30, 24, 13))}) == {}
    made.metadata_props[0].value = "mine"
    onnx.save(made, str(tmp_path / "c.onnx"))
    with pytest.raises(ModelError, match="mine"):
        Saliency(open_onnx(tmp_path / "c.onnx"))


def test_logits_and_probabilities_give_the_same_matte(tmp_path: Path) -> None:
    rgb = gliding(1).pictures[1001]
    soft, logits = (
        Saliency(
            open_onnx(tiny.saliency_onnx(tmp_path / f"{raw}.onnx", side=None, outputs=n, logits=raw)), "plain"
        ).matte(rgb)
        for raw, n in ((False, 1), (True, 3))
    )
    assert soft.shape == (64, 96)
    np.testing.assert_allclose(soft, logits, atol=2e-3)


def test_a_gate_lets_pass_what_is_near_and_nothing_far() -> None:
    prior = disk(30, 24, 10)
    passed = gate(np.ones_like(prior), prior)
    assert passed[prior > 0].min() == 1
    assert passed[:, 60:].max() == 0


def test_a_chunk_without_its_fit_is_refused(salient: RotoRunner, tmp_path: Path) -> None:
    shot = shot_of(gliding(2), tmp_path, RotoParameters())
    with pytest.raises(RunnerError, match="fit"):
        list(salient.run(shot))


def test_another_tasks_net_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "net.safetensors"
    save_file({"a": np.zeros(3, np.float32)}, path, metadata={NET_KEY: "matte/1"})
    with pytest.raises(ModelError, match="matte/1"):
        RotoRunner().load(ModelRef(path=path))


def test_changed_weights_are_refused_by_their_hash(sam2: ModelRef, tmp_path: Path) -> None:
    assert sam2.path is not None
    copy = Path(shutil.copytree(sam2.path, tmp_path / "sam2"))
    onnx = tiny.saliency_onnx(tmp_path / "a.onnx")
    for path in (copy, onnx):
        with pytest.raises(ModelError, match="sha256"):
            RotoRunner().load(ModelRef(path=path, sha256="0" * 64))


def test_a_family_that_is_not_rotos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="RVM"):
        RotoRunner().load(ModelRef(path=tiny.rvm_onnx(tmp_path / "rvm.onnx")))
