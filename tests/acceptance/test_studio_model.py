"""From finished shots to a model in production, on a real farm: trained, judged, promoted, used, taken back, handed out."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from pipeline.jobs.spec import JobSpec
from pipeline.media.exr import Frame, Part, read_frame, write_frame
from pipeline.plate import FramePattern, Window
from tests.acceptance.farmhouse import Farmhouse, parsed
from tests.acceptance.lessons import FRAMES, QUICK, SHOTS, approve, asked, given, named, write_shots
from tests.plates import SmallPlate

pytestmark = pytest.mark.slow
LEARNED = {**QUICK, "iterations": 24}
"""Enough to win against flow alone by far more than machines differ."""


@dataclass
class Studio:
    """A farm with finished shots, a recorded consent, and the net `hero` that was taught them."""

    house: Farmhouse
    plates: dict[str, SmallPlate]
    worker: subprocess.Popen[bytes]
    hero: dict[str, Any] = field(default_factory=dict)
    job: int = 0
    seen: list[tuple[float, str]] = field(default_factory=list)
    """What was told while hero learned: how much of the train step, and its note."""

    def card(self, name: str) -> dict[str, Any]:
        """A card as the API tells of it."""
        found: dict[str, Any] = self.house.client().get(f"/v1/models/{name}")
        return found

    def train(self, name: str, **parameters: Any) -> int:
        """Submit a training. Returns its job."""
        body = {"task": "roto", "name": name, "parameters": {**LEARNED, **parameters}}
        return int(self.house.client().post("/v1/models/finetune", body)["job"])

    def trained(self, name: str, **parameters: Any) -> dict[str, Any]:
        """Train a model to its end. Returns its card."""
        outcome = self.house.ended(self.train(name, **parameters))
        assert outcome["state"] == "succeeded", outcome
        return self.card(outcome["model"]["label"])

    def promoted(self, name: str) -> None:
        """Let roto@production stand for a model, whatever stands there."""
        if "production" not in self.card(name)["aliases"]:
            self.house.client().post(f"/v1/models/{name}/promote", {"override": "for this test"})

    def roto(self, shot: str = "sh040", **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Submit a roto from one key and wait for it. Returns its outcome and its version's record."""
        reply = self.house.submit(asked(self.plates[shot], shot, keys=(1001,), **more))
        return self.published(reply["job"])

    def published(self, job: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The outcome of a job, and the record beside its version."""
        outcome = self.house.ended(job)
        assert outcome["state"] == "succeeded", outcome
        return outcome, json.loads(Path(outcome["version"]["sidecar"]).read_text())

    def refused(self, *command: str) -> str:
        """What a command says that is refused."""
        run = self.house.plates(*command)
        assert run.returncode == 3, (run.stdout, run.stderr)
        return run.stderr


def train_chunk(house: Farmhouse, job: int) -> dict[str, Any]:
    """The chunk of a training that learns."""
    found: dict[str, Any] = next(c for c in house.job(job)["chunks"] if c["step"] == "train")
    return found


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("studio")
    house = Farmhouse(
        folder,
        PLATEWRIGHT_LEASE_S="4",
        PLATEWRIGHT_REAP_S="0.5",
        PLATEWRIGHT_RETRY_BACKOFF_S="0.2",
        PLATEWRIGHT_CHECKPOINT_S="0",
    )
    try:
        house.serve()
        studio = Studio(house, write_shots(folder / "shots"), house.worker("--name", "one"))
        for job in [house.submit(asked(plate, shot))["job"] for shot, plate in studio.plates.items()]:
            assert house.ended(job)["state"] == "succeeded"
        approve(house.client(), *SHOTS)
        said = house.plates("clear", "give", "training", "demo", "--by", "A. Stone", "--reference", "contract 12")
        assert said.stdout == "clearance 1: training for demo, by A. Stone, contract 12\n", said.stderr
        studio.job = studio.train("hero")

        def over() -> bool:
            chunk = train_chunk(house, studio.job)
            studio.seen.append((chunk["fraction"], house.job(studio.job)["job"]["state"]))
            return bool(chunk["state"] == "succeeded")

        house.wait(over, 120, "hero isn't trained")
        assert house.ended(studio.job)["state"] == "succeeded"
        studio.hero = studio.card("hero")
        yield studio
    finally:
        house.close()


def test_a_training_becomes_a_card_with_its_hash_lineage_consent_and_both_scores(studio: Studio) -> None:
    card = studio.hero
    weights = Path(card["path"])
    assert card["label"] == "hero@v001"
    assert card["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    with safe_open(weights, "pt") as file:
        assert list(file.keys())
    assert (card["state"], card["family"], card["task"]) == ("candidate", "net", "roto")
    assert (card["base"], card["licence"], card["job"]) == ("efficientnet-lite0", "LicenseRef-local", studio.job)
    lineage = card["lineage"]
    (held_out,) = [one["shot"] for one in lineage["held_out"]]
    learned = {one["shot"]: one for one in lineage["versions"]}
    assert {held_out, *learned} == {f"demo/sq1/{shot}" for shot in SHOTS}
    assert held_out not in learned
    for shot, one in learned.items():
        assert one["name"] == named(shot.rpartition("/")[2])
        assert (one["consent"]["by"], one["consent"]["reference"]) == ("A. Stone", "contract 12")
        assert one["consent"]["recorded_by"] == "local"
    (score,) = card["scores"]
    assert set(score["shots"]) == set(score["beside"]["shots"]) == {held_out}
    assert score["beside"]["label"] == "the task's own weights"
    assert 0.5 < score["beside"]["value"] < score["value"] <= 1
    measured = score["shots"][held_out]
    assert set(measured) == {"jf", "jf_1", "jf_3", "worst"}
    assert score["value"] == pytest.approx(measured["jf"])
    assert measured["jf"] == pytest.approx((measured["jf_1"] + measured["jf_3"]) / 2)
    shown = studio.house.plates("models", "show", "hero").stdout
    for words in (card["sha256"], "consent: A. Stone, contract 12", f"held out {held_out}", "LicenseRef-local"):
        assert words in shown
    assert f"scored jf {score['value']:.4f}, the task's own weights {score['beside']['value']:.4f}" in shown


def test_a_training_is_a_job_like_any_other(studio: Studio) -> None:
    between = {progress for progress, state in studio.seen if 0 < progress < 1 and state == "running"}
    assert len(between) > 3, f"only {sorted(between)} was told of it"
    jobs = studio.house.plates("jobs").stdout
    row = next(line for line in jobs.splitlines() if line.startswith(f"{studio.job} "))
    assert row.split()[1:4] == ["succeeded", "100%", "roto"]
    status = studio.house.plates("status", str(studio.job)).stdout
    assert status.startswith(f"job {studio.job}  roto model hero  succeeded")
    assert "train 1/1  score 1/1  register 1/1" in status
    log = studio.house.plates("log", str(studio.job)).stdout
    assert "learning 24/24, loss " in log
    assert all(f"== {step} chunk" in log for step in ("train", "score", "register"))
    outcome = studio.house.client().get(f"/v1/jobs/{studio.job}/result")
    assert outcome["model"]["label"] == "hero@v001"
    assert outcome["cost"]["machine_s"] > 0


def test_a_killed_training_goes_on_from_its_checkpoint_and_comes_to_the_same_bits(studio: Studio) -> None:
    house = studio.house
    job = studio.train("again")
    checkpoints = house.published / ".platewright" / "work" / f"local-job-{job}" / "checkpoints"

    def middle() -> bool:
        done = [int(path.stem) for path in checkpoints.glob("*.safetensors")]
        return bool(done) and 5 <= max(done) < LEARNED["iterations"] - 5

    house.wait(middle, 60, "no checkpoint is kept")
    (session,) = house.sessions(studio.worker)
    session.kill()
    assert house.ended(job)["state"] == "succeeded"
    chunk = train_chunk(house, job)
    assert [a["state"] for a in chunk["attempts"]] == ["failed", "succeeded"]
    assert "SIGKILL" in chunk["attempts"][0]["reason"]
    log = house.plates("log", str(job)).stdout
    _, _, step = log.partition("found a checkpoint of step ")
    assert 5 <= int(step.split()[0]) < LEARNED["iterations"], log
    assert studio.card("again")["sha256"] == studio.hero["sha256"]


def test_a_cancelled_training_leaves_no_card_and_the_session_goes_on(studio: Studio) -> None:
    house = studio.house
    job = studio.train("never", iterations=5000)
    house.wait(lambda: train_chunk(house, job)["fraction"] > 0.15, 60, "it doesn't learn")
    sessions = [p.pid for p in house.sessions(studio.worker)]
    assert house.plates("cancel", str(job)).stdout == f"job {job}: cancelled\n"
    assert house.ended(job)["state"] == "cancelled"
    assert all(card["name"] != "never" for card in house.client().get("/v1/models"))
    studio.roto()
    assert [p.pid for p in house.sessions(studio.worker)] == sessions
    work = house.published / ".platewright" / "work" / f"local-job-{job}"
    house.wait(lambda: not work.exists(), 15, "its checkpoints aren't cleared away")


def test_only_a_winner_is_promoted_or_one_that_somebody_answers_for(studio: Studio) -> None:
    house = studio.house
    studio.promoted("hero")
    there = studio.hero["score"]["value"]
    poor = studio.trained("poor", iterations=1)
    assert poor["scores"][0]["beside"]["label"] == "hero@v001"
    told = studio.refused("models", "promote", "poor")
    assert f"poor@v001 didn't win: jf {poor['score']['value']:.4f} against {there:.4f} of hero@v001" in told
    assert "--override" in told
    assert studio.card("roto@production")["label"] == "hero@v001"
    said = house.plates("models", "promote", "poor", "--override", "the director likes it").stdout
    assert said == "roto@production is poor@v001: overridden: the director likes it\n"
    newest = house.client().get("/v1/models/promotions", task="roto")[0]
    assert (newest["label"], newest["by"], newest["reason"]) == ("poor@v001", "local", "override")
    assert newest["evidence"]["said"] == "the director likes it"
    assert newest["evidence"]["gain"] < 0
    told = studio.refused("models", "retire", "poor")
    assert "poor@v001 is roto@production" in told
    assert house.plates("models", "rollback", "roto").stdout == "roto@production is hero@v001\n"
    assert studio.card("poor")["aliases"] == []
    assert house.plates("models", "retire", "poor").stdout == "poor@v001 is retired\n"
    assert "poor" not in house.plates("models", "list").stdout
    assert "poor@v001" in house.plates("models", "list", "--all").stdout
    assert "poor@v001 is retired" in studio.refused("models", "promote", "poor@v001")
    plate = studio.plates["sh040"]
    told = studio.refused(
        "submit", "roto", "--plate", str(plate.pattern), *plate.key_arguments(), "--model", "poor@v001"
    )
    assert "poor@v001 is retired" in told


def test_a_winner_is_promoted_with_its_numbers_and_taken_back_to_the_tasks_own(studio: Studio) -> None:
    house = studio.house
    while any(card["aliases"] for card in house.client().get("/v1/models")):
        house.client().post("/v1/models/rollback", {"task": "roto"})
    said = house.plates("models", "promote", "hero").stdout
    score = studio.hero["scores"][0]
    gain = score["value"] - score["beside"]["value"]
    assert said == f"roto@production is hero@v001: won by {gain:+.4f} over the task's own weights\n"
    assert "nothing needs to be done" in studio.refused("models", "promote", "hero")
    assert house.plates("models", "rollback", "roto").stdout == "roto@production is the task's own weights\n"
    assert "nothing to go back to" in studio.refused("models", "rollback", "roto")


def test_a_plain_submit_uses_what_is_in_production_and_its_record_names_it(studio: Studio) -> None:
    studio.promoted("hero")
    outcome, record = studio.roto()
    model = record["model"]
    assert (model["card"], model["sha256"], model["licence"]) == (
        "hero@v001",
        studio.hero["sha256"],
        "LicenseRef-local",
    )
    exact = studio.plates["sh040"].keys
    made = FramePattern.parse(outcome["version"]["pattern"])
    assert made is not None
    for frame, path in exact.items():
        truth = read_frame(path).main.channels["A"] > 0.5
        matte = read_frame(made.path(frame)).main.channels["matte.A"] > 0.5
        assert (truth & matte).sum() / (truth | matte).sum() > 0.9, frame
    for name in ("hero", "hero@v001", "roto@production", f"sha256:{studio.hero['sha256']}"):
        _, named_so = studio.roto(model=name)
        assert named_so["model"]["sha256"] == studio.hero["sha256"], name
    _, own = studio.roto(model="efficientnet-lite0")
    assert (own["model"]["card"], own["model"]["licence"]) == ("", "Apache-2.0")


def test_a_waiting_job_keeps_the_weights_it_was_submitted_with(studio: Studio) -> None:
    house = studio.house
    other = studio.trained("other", iterations=2)
    studio.promoted("hero")
    job = house.submit(asked(studio.plates["sh040"], "sh040", keys=(1001,), pool="later"))["job"]
    studio.promoted("other")
    late = house.worker("--name", "late", "--pool", "later")
    _, record = studio.published(job)
    assert record["model"]["sha256"] == studio.hero["sha256"]
    _, record = studio.roto()
    assert record["model"]["sha256"] == other["sha256"]
    late.terminate()
    late.wait(timeout=20)
    studio.promoted("hero")


@pytest.mark.parametrize("task", ["roto", "matte"])
def test_a_replay_is_bit_equal_and_publishes_nothing(studio: Studio, task: str) -> None:
    if task == "roto":
        outcome, _ = studio.roto(parameters={"iterations": 2, "seed": 3}, model="hero")
    else:
        roto = studio.house.client().get("/v1/versions", name=named("sh010"))[0]
        plate = f"{roto['folder']}/{roto['name']}.####.exr"
        request = {"task": "matte", "plate": plate, "show": "demo", "sequence": "sq1", "shot": "sh010"}
        outcome, _ = studio.published(studio.house.submit(request)["job"])
    before = studio.house.client().get("/v1/versions")
    run = studio.house.plates("replay", outcome["version"]["name"])
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{outcome['version']['name']}: bit-equal on {FRAMES} frames\n"
    assert studio.house.client().get("/v1/versions") == before


def test_a_replay_of_a_changed_plate_is_refused_before_anything_runs(studio: Studio, tmp_path: Path) -> None:
    plate = write_shots(tmp_path, ("sh090",))["sh090"]
    outcome, _ = studio.published(studio.house.submit(asked(plate, "sh090"))["job"])
    name = outcome["version"]["name"]
    jobs = studio.house.client().get("/v1/jobs")
    window = Window.of_size(plate.width, plate.height)
    grey = {channel: np.full((plate.height, plate.width), 0.18, np.float16) for channel in "RGB"}
    frame = plate.pattern.path(1003)
    original = frame.read_bytes()
    write_frame(frame, Frame((Part("", dict(read_frame(frame).main.header), grey, window, window),)))
    assert "frame 1003" in studio.refused("replay", name)
    frame.unlink()
    assert "1003" in studio.refused("replay", name)
    frame.write_bytes(original)
    plate.keys[1002].unlink()
    assert str(plate.keys[1002]) in studio.refused("replay", name)
    assert studio.house.client().get("/v1/jobs") == jobs


def test_a_recalled_version_is_made_with_its_model_seed_and_parameters(studio: Studio) -> None:
    first, record = studio.roto(model="hero", parameters={"iterations": 2, "seed": 11})
    run = studio.house.plates("recall", first["version"]["name"], "--wait", "--json")
    assert run.returncode == 0, run.stderr
    again = parsed(run)
    assert again["version"]["name"] != first["version"]["name"]
    recalled = json.loads(Path(again["version"]["sidecar"]).read_text())
    for what in ("model", "seed", "parameters"):
        assert recalled[what] == record[what], what
    before, after = (FramePattern.parse(one["version"]["pattern"]) for one in (first, again))
    assert before is not None
    assert after is not None
    for frame in range(1001, 1001 + FRAMES):
        mattes = [read_frame(pattern.path(frame)).main.channels["matte.A"] for pattern in (before, after)]
        assert mattes[0].tobytes() == mattes[1].tobytes(), frame


def test_an_export_holds_the_weights_and_their_card(studio: Studio, tmp_path: Path) -> None:
    run = studio.house.plates("models", "export", "hero", str(tmp_path))
    assert run.stdout == f"{tmp_path / 'hero@v001'}\n", run.stderr
    card = json.loads((tmp_path / "hero@v001" / "card.json").read_text())
    weights = (tmp_path / "hero@v001" / "hero.safetensors").read_bytes()
    assert card["sha256"] == hashlib.sha256(weights).hexdigest() == studio.hero["sha256"]
    assert card["lineage"] == studio.hero["lineage"]
    assert [p.name for p in tmp_path.iterdir()] == ["hero@v001"]
    again = studio.house.plates("models", "export", "hero", str(tmp_path))
    assert again.returncode == 1
    assert "is there already" in again.stderr


def test_a_model_can_be_judged_again_and_says_the_same(studio: Studio) -> None:
    run = studio.house.plates("models", "score", "hero", "--wait", *given({k: v for k, v in QUICK.items() if "score" in k}))  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"hero@v001  jf {studio.hero['score']['value']:.4f} against ")
    newest, *_, oldest = studio.card("hero")["scores"]
    assert newest["shots"] == oldest["shots"]
    assert newest["protocol"] == oldest["protocol"]


def test_the_spec_of_a_job_pins_hash_and_card(studio: Studio) -> None:
    plan = studio.house.client().post("/v1/jobs?dry_run=true", asked(studio.plates["sh040"], "sh040", model="hero"))
    spec = JobSpec.model_validate(plan["spec"])
    assert (spec.takes[0].model.sha256, spec.takes[0].model.card) == (studio.hero["sha256"], "hero@v001")
