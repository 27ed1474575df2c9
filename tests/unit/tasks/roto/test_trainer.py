from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import ModelError, RunnerError
from pipeline.memory_shot import CURVE, MemoryFinishedShot
from pipeline.models.backbone import load_backbone
from pipeline.models.checkpoints import FolderCheckpoints
from pipeline.models.facts import NET, NET_KEY
from pipeline.models.inspect import recognise
from pipeline.parameters import Parameters
from pipeline.quality.overlap import Score, score_mattes
from pipeline.tasks.contract import Cancelled, ModelRef
from pipeline.tasks.roto import fit
from pipeline.tasks.roto.definition import ROTO, RotoParameters, RotoTrainingParameters
from pipeline.tasks.roto.fitted import load_facts, load_priors
from pipeline.tasks.roto.lessons import SUBJECT, Lesson, Lessons, key_sets, read_shot
from pipeline.tasks.roto.runner import RotoRunner
from pipeline.tasks.roto.sampler import KeyFrame, Sampler
from pipeline.tasks.roto.trainer import RotoTrainer
from pipeline.tasks.training import WEIGHTS, FinishedShot

from .tiny import Scene, disk, gliding, texture


def finished(scene: Scene, name: str = "show/sh010 roto v001", cuts: Sequence[int] = ()) -> MemoryFinishedShot:
    """A scene as an approved version: its plate scene-linear, its ball delivered as `matte`."""
    plate = {f: CURVE.inverse(p) for f, p in scene.pictures.items()}
    return MemoryFinishedShot(name=name, plate=plate, layers={"matte": scene.mattes["ball"]}, cuts=cuts)


def rolling(seed: int, count: int = 7, height: int = 64, width: int = 96) -> Scene:
    """A bright disk that moves over a ground of its own."""
    scene = Scene(mattes={"ball": {}})
    ground, skin = texture(seed, height, width) * 0.5, texture(seed + 50, height, width) * 0.5 + 0.45
    for i in range(count):
        matte = disk(width * 0.3 + 2 * i, height * (0.3 + 0.05 * (seed % 7)), 9 + seed % 5, height, width)
        picture = np.where(matte[..., None] > 0, skin, ground)
        scene.pictures[1001 + i] = np.ascontiguousarray(np.clip(picture, 0, 1).transpose(2, 0, 1), np.float32)
        scene.mattes["ball"][1001 + i] = matte
    return scene


@dataclass(slots=True, kw_only=True)
class Context:
    """What a trainer may touch; `stop_at` cancels at the first report from that fraction on."""

    folder: Path
    shots: Sequence[FinishedShot] = ()
    parameters: Parameters = field(default_factory=lambda: RotoTrainingParameters(iterations=6, frames_a_shot=3))
    seed: int = 3
    stop_at: float = 2.0
    every_s: float = 1e9
    notes: list[str] = field(default_factory=list)
    checkpoints: FolderCheckpoints = field(init=False)

    def __post_init__(self) -> None:
        self.checkpoints = FolderCheckpoints(self.folder.parent / "states", every_s=self.every_s)

    def progress(self, fraction: float, note: str = "") -> None:
        assert 0 <= fraction <= 1
        self.notes.append(note)
        if fraction >= self.stop_at:
            raise Cancelled


@dataclass(slots=True, kw_only=True)
class Judging:
    """What a score may touch."""

    folder: Path
    shot: FinishedShot
    parameters: Parameters = field(default_factory=lambda: RotoTrainingParameters(score_iterations=0))
    seed: int = 0
    stop_at: float = 2.0
    fractions: list[float] = field(default_factory=list)

    def progress(self, fraction: float, note: str = "") -> None:
        assert 0 <= fraction <= 1
        self.fractions.append(fraction)
        if fraction >= self.stop_at:
            raise Cancelled


def trained(context: Context, base: ModelRef | None = None) -> bytes:
    context.folder.mkdir(parents=True, exist_ok=True)
    RotoTrainer().train(context, base or ModelRef())
    return (context.folder / WEIGHTS).read_bytes()


@pytest.fixture(scope="module")
def school() -> list[MemoryFinishedShot]:
    return [finished(rolling(seed), f"show/sh{seed:03d} roto v001") for seed in (1, 2)]


@pytest.fixture(scope="module")
def studio(school: list[MemoryFinishedShot], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studio") / "attempt"
    parameters = RotoTrainingParameters(iterations=60, frames_a_shot=5)
    trained(Context(folder=folder, shots=school, parameters=parameters))
    return folder / WEIGHTS


def test_what_it_learned_shows_on_a_shot_it_never_saw(studio: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw.safetensors"
    fit.write_weights(fit.new_net(1, 3, load_backbone(), imagenet=True), raw)
    unseen = finished(rolling(5), "show/sh005 roto v001")
    before, after = (
        RotoTrainer().score(Judging(folder=tmp_path, shot=unseen), ModelRef(path=path)) for path in (raw, studio)
    )
    assert after["jf"] > before["jf"] + 0.03 and after["jf"] > 0.9


def test_the_weights_are_a_roto_net_and_nothing_else_is_left(studio: Path) -> None:
    facts = recognise(studio, families=("net",))
    assert (facts.family, facts.base) == (NET, fit.NET_NAME)
    assert [path.name for path in studio.parent.iterdir()] == [WEIGHTS]
    assert ROTO.training is not None and ROTO.training.makes == NET == ROTO.stand_in


def test_a_training_that_was_stopped_goes_on_to_the_same_bits(school: list[MemoryFinishedShot], tmp_path: Path) -> None:
    parameters = RotoTrainingParameters(iterations=20, frames_a_shot=3)
    whole = trained(Context(folder=tmp_path / "whole" / "a", shots=school, parameters=parameters))
    stopped = Context(folder=tmp_path / "halves" / "a", shots=school, parameters=parameters, every_s=0.0, stop_at=0.5)
    with pytest.raises(Cancelled):
        trained(stopped)
    assert not list(stopped.folder.iterdir()), "neither lessons nor weights are left behind"
    again = replace(stopped, folder=tmp_path / "halves" / "b", stop_at=2.0, notes=[])
    assert trained(again) == whole
    learning = [note for note in again.notes if note.startswith("learning")]
    assert learning[0].startswith("learning 15/20"), "it went on from the state that was kept"
    another = replace(stopped, folder=tmp_path / "other" / "a", seed=4, stop_at=2.0)
    assert trained(another) != whole


def test_a_state_of_another_training_is_not_taken_up(school: list[MemoryFinishedShot], tmp_path: Path) -> None:
    other = Context(folder=tmp_path / "runs" / "a", shots=school[:1], every_s=0.0)
    trained(other)
    fresh = Context(folder=tmp_path / "clean" / "a", shots=school)
    assert trained(Context(folder=tmp_path / "runs" / "b", shots=school)) == trained(fresh)


def test_a_state_holds_all_that_the_next_step_goes_by() -> None:
    scene = rolling(1)
    frame = fit_frame(scene)
    learners = []
    for _ in range(2):
        net = fit.new_net(1, 0, load_backbone(), imagenet=True)
        learners.append(fit.Learner(net, 8, fit.IMAGENET_RATES))
    samples = [Sampler([frame], [SUBJECT], 1).draw() for _ in range(4)]
    first, second = learners
    for sample in samples[:2]:
        first.step(sample)
    second.restore(*first.state())
    for sample in samples[2:]:
        assert first.step(sample) == second.step(sample)
    assert second.mean_loss() == first.mean_loss()
    one, other = first.state()[0], second.state()[0]
    assert set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def fit_frame(scene: Scene) -> KeyFrame:
    rgb = np.ascontiguousarray(scene.pictures[1001].transpose(1, 2, 0))
    return KeyFrame(rgb, {SUBJECT: scene.mattes["ball"][1001]})


def test_a_training_goes_on_from_a_studios_own_net(
    studio: Path, school: list[MemoryFinishedShot], tmp_path: Path
) -> None:
    trained(Context(folder=tmp_path / "next", shots=school), ModelRef(path=studio))
    before, after = load_file(studio), load_file(tmp_path / "next" / WEIGHTS)
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0 < moved < 0.1, "six steps change little of what it knew"


def test_a_base_that_is_not_a_roto_net_is_refused(
    studio: Path, school: list[MemoryFinishedShot], tmp_path: Path
) -> None:
    strange = tmp_path / "strange.safetensors"
    save_file({"x": torch.zeros(1)}, strange, metadata={NET_KEY: "style/1"})
    context = Context(folder=tmp_path / "a", shots=school)
    for base, reason in (
        (ModelRef(path=strange), "style/1"),
        (ModelRef(path=studio, sha256="0" * 64), "sha256|changed|hash"),
        (ModelRef(path=tmp_path / "absent.safetensors"), "absent"),
    ):
        with pytest.raises(ModelError, match=reason):
            trained(context, base)


def test_shots_of_any_size_learn_together_and_a_cut_parts_them(tmp_path: Path) -> None:
    scene = rolling(1)
    shots = [finished(scene, cuts=[1004]), finished(rolling(2, height=40, width=70)), finished(rolling(3, count=1))]
    assert trained(Context(folder=tmp_path / "a", shots=shots))


def test_what_cannot_be_learned_from_is_refused_with_a_reason(school: list[MemoryFinishedShot], tmp_path: Path) -> None:
    bare = replace(school[0], name="show/sh900 roto v002", layers={})
    blank = {f: np.zeros((64, 96), np.float32) for f in school[0].frames}
    empty = replace(school[0], name="show/sh901 roto v003", layers={"matte": blank})
    for shots, reason in (
        ([], "no finished shot"),
        ([school[0], bare], "show/sh900 roto v002 has no layer 'matte' on frame 1001"),
        ([empty], "show/sh901 roto v003: its layer 'matte' is empty"),
    ):
        with pytest.raises(RunnerError, match=reason):
            trained(Context(folder=tmp_path / "a", shots=shots))
    with pytest.raises(RunnerError, match="RotoParameters"):
        trained(Context(folder=tmp_path / "a", shots=school, parameters=RotoParameters()))
    for held in (bare, empty, finished(rolling(1, count=2))):
        with pytest.raises(RunnerError, match=r"has no layer|can't be scored"):
            RotoTrainer().score(Judging(folder=tmp_path, shot=held), ModelRef())


@pytest.mark.parametrize("at", [0.05, 0.4])
def test_a_cancel_is_honoured_while_it_reads_and_while_it_learns(
    school: list[MemoryFinishedShot], tmp_path: Path, at: float
) -> None:
    context = Context(folder=tmp_path / "a", shots=school, stop_at=at)
    with pytest.raises(Cancelled):
        trained(context)
    assert context.notes[-1].startswith("reading show/sh001" if at < 0.15 else "learning")
    assert not list(context.folder.iterdir())


def measured(
    ref: ModelRef,
    shot: MemoryFinishedShot,
    keyed: Sequence[int],
    folder: Path,
    *,
    iterations: int = 0,
    seed: int = 0,
    frames: Sequence[int] = (),
) -> Score:
    """The runner's work with keys of the truth, measured by hand."""
    folder.mkdir()
    truth = shot.layers["matte"]
    parameters = RotoParameters(iterations=iterations)
    keys = {SUBJECT: {f: truth[f] for f in keyed}}
    context = shot.as_shot(parameters, keys=keys, folder=folder, seed=seed, frames=frames)
    runner = RotoRunner()
    runner.load(ref)
    runner.fit(context)
    return score_mattes({r.frame: r.layers["matte"]["A"] for r in runner.run(context)}, truth, keyed)


@pytest.mark.parametrize("model", ["imagenet", "studio"])
def test_a_score_is_what_the_runner_makes_of_keys_of_the_truth(studio: Path, tmp_path: Path, model: str) -> None:
    scene = rolling(6)
    ref = ModelRef(path=studio) if model == "studio" else ModelRef()
    judging = Judging(
        folder=tmp_path, shot=finished(scene), seed=7, parameters=RotoTrainingParameters(score_iterations=2)
    )
    scores = RotoTrainer().score(judging, ref)
    assert ROTO.training is not None and set(scores) == set(ROTO.training.measures)
    by_hand = {
        count: measured(ref, finished(scene), frames, tmp_path / str(count), iterations=2, seed=7)
        for count, frames in ((1, [1001]), (3, [1001, 1004, 1007]))
    }
    assert scores["jf_1"] == by_hand[1].jf and scores["jf_3"] == by_hand[3].jf
    assert scores["jf"] == pytest.approx((by_hand[1].jf + by_hand[3].jf) / 2, abs=1e-12)
    assert scores["worst"] == min(s.j for score in by_hand.values() for s in score.frames.values())
    assert judging.fractions == sorted(judging.fractions) and judging.fractions[-1] == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("score-")]


def test_a_score_stays_in_the_longest_scene_and_where_something_is_seen(studio: Path, tmp_path: Path) -> None:
    scene = rolling(6, count=9)
    scene.mattes["ball"][1003] = np.zeros((64, 96), np.float32)
    shot, ref = finished(scene, cuts=[1003]), ModelRef(path=studio)
    parameters = RotoTrainingParameters(score_iterations=0, score_frames=5)
    scores = RotoTrainer().score(Judging(folder=tmp_path, shot=shot, parameters=parameters), ref)
    frames = range(1003, 1008)
    assert scores["jf_1"] == measured(ref, shot, [1004], tmp_path / "one", frames=frames).jf
    assert scores["jf_3"] == measured(ref, shot, [1004, 1006, 1007], tmp_path / "three", frames=frames).jf


def test_a_score_stops_when_told(studio: Path, tmp_path: Path) -> None:
    judging = Judging(folder=tmp_path, shot=finished(rolling(6)), stop_at=0.3)
    with pytest.raises(Cancelled):
        RotoTrainer().score(judging, ModelRef(path=studio))


def read(shot: FinishedShot, folder: Path, frames: int) -> list[Lesson]:
    folder.mkdir()
    return read_shot(shot, folder, frames, (0, 0), lambda _: None)


def test_the_priors_of_a_lesson_are_what_a_fit_would_give_the_net(tmp_path: Path) -> None:
    scene = gliding(step=4.0)
    lessons = read(finished(scene), tmp_path / "lessons", 7)
    (tmp_path / "fit").mkdir()
    shot = finished(scene).as_shot(
        RotoParameters(iterations=0), keys={SUBJECT: {1001: scene.mattes["ball"][1001]}}, folder=tmp_path / "fit"
    )
    RotoRunner().fit(shot)
    quality = load_facts(shot.folder).quality[SUBJECT]
    priors = load_priors(shot.folder, [SUBJECT], shot.frames)
    for lesson in lessons[1:]:
        frame = int(lesson.path.stem)
        learned = Lessons([[lesson]], 0).key_frame(lesson, 0)  # the set of the first frame alone
        matte, credited = learned.moved[SUBJECT]
        assert np.array_equal(matte, priors[frame][0])
        assert credited == pytest.approx(quality[frame], abs=1e-4) and credited < 1
        assert np.array_equal(learned.mattes[SUBJECT], scene.mattes["ball"][frame])
        assert float(np.abs(learned.rgb.transpose(2, 0, 1) - scene.pictures[frame]).max()) < 0.005


def test_keys_are_set_in_every_scene_where_something_is_seen() -> None:
    seen, gone = np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8)
    truths = [gone, *[seen] * 29, *[gone] * 5, *[seen] * 5]
    sets = key_sets(truths, [30], np.random.default_rng(0))
    first, middle, three, five, twelve = sets
    assert (first, three) == ([1, 35], [1, 15, 29, 35, 37, 39])
    assert middle == [15, 37] and len(five) == 10
    assert {b - a for a, b in pairwise(twelve) if b < 30} == {12}
    assert all(truths[i].any() for keys in sets for i in keys)


def test_a_long_shot_gives_one_stretch_of_it(tmp_path: Path) -> None:
    scene = rolling(1, count=170, height=32, width=48)
    lessons = read(finished(scene), tmp_path / "lessons", 10)
    frames = [int(lesson.path.stem) for lesson in lessons]
    assert len(frames) == 10 and frames[-1] - frames[0] == 149


def test_a_sample_is_known_by_its_number(tmp_path: Path) -> None:
    shots = [read(finished(rolling(seed)), tmp_path / str(seed), 3) for seed in (1, 2)]
    a, b, other = Lessons(shots, 5), Lessons(shots, 5), Lessons(shots, 6)
    for number in (4, 0, 9):
        one, same, differs = a.draw(number), b.draw(number), other.draw(number)
        assert one.rgb.tobytes() == same.rgb.tobytes() and one.prior.tobytes() == same.prior.tobytes()
        assert one.rgb.tobytes() != differs.rgb.tobytes()
    assert a.draw(1).rgb.tobytes() != a.draw(2).rgb.tobytes()
