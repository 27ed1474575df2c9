"""What a studio's models refuse: each with its reason, over HTTP and on the command line, before a job, a card or a file is written."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from farm.cli.main import EXIT_FAILED, EXIT_REFUSED, main
from farm.heldout import held_out
from farm.tokens import Scope
from integrations._shared.client import Client, DispatcherError
from tests.acceptance.farmhouse import PLATES
from tests.acceptance.lessons import QUICK, approve, asked, given, named, write_shots
from tests.plates import SmallPlate
from tests.unit.farm.served import Served, served

pytestmark = pytest.mark.slow
SHOTS = ("sh010", "sh020", "sh030", "sh040")
"""The first two were learned from, the third is held out, the fourth isn't approved."""
TINY = {**QUICK, "iterations": 1, "frames_a_shot": 2}
OPEN = '[use]\ndefault = "temp"\n'
RIGHTS = (Scope.SUBMIT, Scope.REVIEW, Scope.WRANGLE)


@dataclass
class Studio:
    """A farm of two studios; one has finished shots, a model that learned (`first`) and one that nobody judged (`raw`)."""

    house: Served
    plates: dict[str, SmallPlate]
    folder: Path
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def client(self) -> Client:
        return self.house.client()

    def card(self, name: str) -> dict[str, Any]:
        """A card as the API tells of it."""
        found: dict[str, Any] = self.client.get(f"/v1/models/{name}")
        return found

    def done(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Submit something and wait until it has succeeded."""
        job = self.client.post(path, body)["job"]
        deadline = time.monotonic() + 120
        while self.client.get(f"/v1/jobs/{job}")["job"]["state"] in ("waiting", "running"):
            assert time.monotonic() < deadline, f"job {job} does not end"
            time.sleep(0.05)
        outcome: dict[str, Any] = self.client.get(f"/v1/jobs/{job}/result")
        assert outcome["state"] == "succeeded", outcome
        return outcome

    @contextmanager
    def rules(self, text: str) -> Iterator[None]:
        """Rules of the studio for as long as the block lasts."""
        path = self.folder / "rules" / "local.toml"
        path.write_text(text)
        try:
            yield
        finally:
            path.write_text(OPEN)

    def state(self) -> tuple[Any, ...]:
        """All that a refusal must leave as it is."""
        dispatcher = self.house.farm.dispatcher
        kept = dispatcher.read(lambda turn: tuple(held_out(turn.tx, s, "roto") for s in ("local", "other")))
        files = sorted(str(p) for p in (self.folder / "published").rglob("*"))
        rows = []
        for who in ("", "other"):
            client = self.house.client(self.tokens[who] if who else None)
            rows += [client.get(path) for path in ("/v1/jobs", "/v1/versions", "/v1/models", "/v1/models/promotions")]
        return kept, files, rows


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    from pipeline.models.backbone import load_backbone
    from pipeline.tasks.roto import fit

    folder = tmp_path_factory.mktemp("refusals")
    (folder / "rules").mkdir()
    (folder / "rules" / "local.toml").write_text(OPEN)
    with served(folder, rules=folder / "rules") as house:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PLATEWRIGHT_")},
            "PLATEWRIGHT_URL": f"http://{house.host}",
            "PLATEWRIGHT_TOKEN": house.farm.token,
        }
        with (folder / "worker.log").open("wb") as log:
            worker = subprocess.Popen([*PLATES, "worker", "--name", "w1"], env=environment, stdout=log, stderr=log)
        try:
            studio = Studio(house, write_shots(folder / "shots", SHOTS, width=48, height=32), folder)
            studio.tokens = {"other": house.token("other", "eve", *RIGHTS), "": house.farm.token}
            for shot, plate in studio.plates.items():
                studio.done("/v1/jobs", asked(plate, shot))
            approve(studio.client, *SHOTS[:3])
            studio.client.post("/v1/clearances", {"kind": "training", "show": "demo", "by": "A. Stone"})
            body = {"task": "roto", "name": "first", "hold_out": ["demo/sq1/sh030"], "parameters": TINY}
            studio.done("/v1/models/finetune", body)
            net = folder / "raw.safetensors"
            fit.write_weights(fit.new_net(1, 9, load_backbone(), imagenet=True), net)
            raw = {"task": "roto", "name": "raw", "path": str(net), "licence": "LicenseRef-local"}
            studio.client.post("/v1/models", raw)
            yield studio
        finally:
            worker.terminate()
            worker.wait(timeout=30)


Ask = Callable[..., str]


@pytest.fixture
def refused(studio: Studio, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ask:
    """Ask for something over HTTP and on the command line: both refuse with all those words, and nothing is written."""

    def ask(
        path: str, body: dict[str, Any], command: list[str], *words: str, who: str = "", not_there: bool = False
    ) -> str:
        before = studio.state()
        with pytest.raises(DispatcherError) as told:
            studio.house.client(studio.tokens[who]).post(path, body)
        error = told.value
        assert error.status == 404 if not_there else error.status in (409, 422), (error.status, error.message)
        over_http = " ".join([error.message, error.hint, *(" ".join(map(str, f.values())) for f in error.faults)])
        monkeypatch.setenv("PLATEWRIGHT_URL", f"http://{studio.house.host}")
        monkeypatch.setenv("PLATEWRIGHT_TOKEN", studio.tokens[who])
        monkeypatch.setattr("sys.argv", ["plates", *command])
        with pytest.raises(SystemExit) as stop:
            main()
        out, said = capfd.readouterr()
        assert not out, "stdout is for results"
        assert stop.value.code == (EXIT_FAILED if not_there else EXIT_REFUSED), said
        for text in (over_http, said):
            for word in words:
                assert word in text, (word, text)
        assert studio.state() == before, "something was written"
        return said

    return ask


def submit(studio: Studio, **more: Any) -> tuple[str, dict[str, Any], list[str]]:
    """A roto of the fourth shot, over HTTP and as a command."""
    plate = studio.plates["sh040"]
    options = [part for name, value in more.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    keys = plate.key_arguments()
    command = ["submit", "roto", "--plate", str(plate.pattern), *keys, "--show", "demo", "--iterations", "0", *options]
    return "/v1/jobs", asked(plate, "sh040", **more), command


def finetune(task: str = "roto", name: str = "second", **more: Any) -> tuple[str, dict[str, Any], list[str]]:
    """A training, over HTTP and as a command."""
    parameters = more.pop("parameters", TINY)
    options = given(parameters)
    for option, value in more.items():
        for one in value if isinstance(value, list) else [value]:
            options += [f"--{'version' if option == 'versions' else option.replace('_', '-')}", str(one)]
    body = {"task": task, "name": name, "parameters": parameters, **more}
    return "/v1/models/finetune", body, ["models", "finetune", task, name, *options]


def act(verb: str, model: str) -> tuple[str, dict[str, Any], list[str]]:
    """A promotion or a judgement, over HTTP and as a command."""
    return f"/v1/models/{model}/{verb}", {}, ["models", verb, model]


def test_a_licence_that_the_show_does_not_allow(studio: Studio, refused: Ask) -> None:
    with studio.rules('[models]\nlicences = ["Apache-2.0"]\n'):
        rule = "models.licences (local.toml)"
        refused(*submit(studio, model="first"), rule, "first@v001 is licensed LicenseRef-local")
        refused(*finetune(base="first"), rule, "first@v001")
        refused(*act("score", "first"), rule, "first@v001")
    with studio.rules('[models]\nlicences = ["LicenseRef-local"]\n'):
        refused(*submit(studio), "models.licences (local.toml)", "efficientnet-lite0", "Apache-2.0")


def test_weights_whose_hash_changed(studio: Studio, refused: Ask) -> None:
    weights = Path(studio.card("first")["path"])
    original = weights.read_bytes()
    weights.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    try:
        for request in (submit(studio, model="first"), finetune(base="first"), act("score", "first")):
            refused(*request, "first@v001", "sha256")
        with pytest.raises(DispatcherError) as told:
            studio.client.get_bytes("/v1/models/first/weights")
        assert "sha256" in told.value.message
    finally:
        weights.write_bytes(original)


def test_weights_that_are_gone(studio: Studio, refused: Ask) -> None:
    weights = Path(studio.card("first")["path"])
    aside = weights.with_suffix(".aside")
    weights.rename(aside)
    try:
        for request in (submit(studio, model="first"), finetune(base="first"), act("score", "first")):
            refused(*request, "first@v001", str(weights))
    finally:
        aside.rename(weights)


@pytest.mark.parametrize("way", ["first", "first@v001", "digest", "number"])
def test_a_model_of_another_studio_by_its_name_or_digest(studio: Studio, refused: Ask, way: str) -> None:
    card = studio.card("first")
    text = {"digest": f"sha256:{card['sha256']}", "number": str(card["id"])}.get(way, way)
    for request in (submit(studio, model=text), finetune(base=text)):
        said = refused(*request, f"no model is called '{text}'", who="other")
        assert "local" not in said.replace("/local/", ""), "whose it is isn't told"
    for verb in ("promote", "score", "retire"):
        refused(*act(verb, text), "no model is called", who="other", not_there=True)
    with pytest.raises(DispatcherError) as told:
        studio.house.client(studio.tokens["other"]).get_bytes(f"/v1/models/{text}/weights")
    assert told.value.status == 404


@pytest.mark.parametrize("copied", [False, True], ids=["in place", "a copy"])
def test_a_model_of_another_studio_by_its_path_and_digest(
    studio: Studio, refused: Ask, copied: bool, tmp_path: Path
) -> None:
    card = studio.card("first")
    path = Path(card["path"])
    if copied:
        path = Path(shutil.copy(path, tmp_path / "found.safetensors"))
    refused(*submit(studio, model=str(path), model_sha256=card["sha256"]), "no card here", who="other")
    refused(*submit(studio, model=str(path)), "no card here", who="other")
    body = {"task": "roto", "name": "mine", "path": str(path), "licence": "MIT"}
    refused("/v1/models", body, ["models", "add", "roto", "mine", str(path), "--licence", "MIT"], "path", who="other")


def test_a_training_set_without_consent(studio: Studio, refused: Ask) -> None:
    (consent,) = studio.client.get("/v1/clearances")
    studio.client.post(f"/v1/clearances/{consent['id']}/withdraw", {})
    try:
        rule = "rule clearance.training"
        refused(*finetune(versions=[named("sh010"), named("sh020")]), rule, named("sh010"), "was withdrawn on")
        refused(*finetune(show="demo"), rule, named("sh020"))
    finally:
        studio.client.post("/v1/clearances", {"kind": "training", "show": "demo", "by": "A. Stone"})
    with studio.rules('[clearance.by]\ntraining = ["legal"]\n'):
        refused(
            *finetune(show="demo"),
            "rule clearance.training (always)",
            "that of local doesn't count",
            "legal may record",
        )


def test_a_training_set_with_a_held_out_shot_in_it(studio: Studio, refused: Ask) -> None:
    words = (named("sh030"), "demo/sq1/sh030, which is held out")
    refused(*finetune(versions=[named("sh010"), named("sh030")]), *words)
    both = finetune(versions=[named("sh010"), named("sh020")], hold_out=["demo/sq1/sh020"])
    refused(*both, named("sh020"), "demo/sq1/sh020, which is held out")


def test_a_base_that_learned_from_a_held_out_shot(studio: Studio, refused: Ask) -> None:
    told = "first@v001 learned from demo/sq1/sh010, which is held out"
    refused(*finetune(base="first", hold_out=["demo/sq1/sh010"]), told)


def test_a_promotion_without_a_score(studio: Studio, refused: Ask) -> None:
    refused(*act("promote", "raw"), "raw@v001 has no score", "plates models score raw@v001", "--override")


def test_a_promotion_by_somebody_whom_the_rules_do_not_name(studio: Studio, refused: Ask) -> None:
    with studio.rules('[approval]\npromote = ["head-of-ml"]\n'):
        refused(*act("promote", "raw"), "approval.promote (local.toml)", "local may not promote", "head-of-ml")
        body = {"override": "I say so"}
        command = ["models", "promote", "raw", "--override", "I say so"]
        refused("/v1/models/raw/promote", body, command, "approval.promote (local.toml)")


def test_a_budget_that_is_spent(studio: Studio, refused: Ask) -> None:
    usage = studio.client.get("/v1/usage")
    assert usage
    with studio.rules("[budget]\nmachine_hours = 0.00001\n"):
        told = ("budget.machine_hours (local.toml)", "demo may spend 0.000010 machine-hours", "this asks")
        refused(*submit(studio, model="first"), *told)
        refused(*finetune(show="demo"), "budget.machine_hours (local.toml)", "demo may spend")


def test_a_rule_file_with_a_typo(studio: Studio, refused: Ask) -> None:
    with studio.rules('[models]\nlicenses = ["MIT"]\n'):
        told = ("local.toml", "models.licenses", "is no rule", "did you mean licences?")
        for request in (submit(studio), finetune(), act("score", "first"), act("promote", "first")):
            refused(*request, *told)


def test_a_replay_whose_inputs_are_gone(studio: Studio, refused: Ask) -> None:
    version = studio.client.get("/v1/versions", name=named("sh010"))[0]
    replay: tuple[str, dict[str, Any], list[str]]
    replay = (f"/v1/versions/{version['id']}/replay", {}, ["replay", version["name"]])
    for path in (studio.plates["sh010"].pattern.path(1004), studio.plates["sh010"].keys[1002]):
        aside = path.with_suffix(".aside")
        path.rename(aside)
        try:
            refused(*replay, path.name if "matte" in path.name else "1004")
        finally:
            aside.rename(path)


@pytest.mark.parametrize("name", ["roto", "matte", "style_transfer", "a b", "a/b", "..", "a@v001"])
def test_a_name_that_no_model_can_have(studio: Studio, refused: Ask, name: str) -> None:
    word = name if name in ("roto", "matte", "style_transfer") else "model"
    refused(*finetune(name=name), word)
    raw = str(studio.folder / "raw.safetensors")
    body = {"task": "roto", "name": name, "path": raw, "licence": "MIT"}
    refused("/v1/models", body, ["models", "add", "roto", name, raw, "--licence", "MIT"], word)


def test_a_task_that_is_not_there_or_learns_nothing(studio: Studio, refused: Ask) -> None:
    refused(*finetune("rotto"), "task", "rotto")
    refused(*finetune("matte"), "task", "nothing that learns")
    raw = str(studio.folder / "raw.safetensors")
    body = {"task": "rotto", "name": "mine", "path": raw, "licence": "MIT"}
    refused("/v1/models", body, ["models", "add", "rotto", "mine", raw, "--licence", "MIT"], "task", "rotto")


def test_versions_that_are_not_approved_or_not_there(studio: Studio, refused: Ask) -> None:
    hint = f"plates approve {named('sh040')}"
    refused(*finetune(versions=[named("sh010"), named("sh040")]), named("sh040"), "is not approved", hint)
    refused(*finetune(versions=[named("sh010"), "nothing_v001"]), "no version is called 'nothing_v001'")
    refused(*finetune(hold_out=["demo/sq1/sh040"]), "demo/sq1/sh040", "no approved version to judge by")
    refused(*finetune(hold_out=["demo"]), "'demo' is no shot", "show/sequence/shot")


def test_versions_of_another_studio(studio: Studio, refused: Ask) -> None:
    number = str(studio.client.get("/v1/versions", name=named("sh010"))[0]["id"])
    for text in (named("sh010"), number):
        said = refused(*finetune(versions=[text]), f"version {text}", who="other")
        assert "sh020" not in said
        assert "A. Stone" not in said
    refused(*finetune(hold_out=["demo/sq1/sh010"]), "no approved version", who="other")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"iterations": 0}, ("iterations", "1")),
        ({"iterations": 10**9}, ("iterations", "200000")),
        ({"frames_a_shot": "many"}, ("frames_a_shot",)),
        ({"speed": 3}, ("speed",)),
    ],
    ids=["too few", "too many", "no number", "unknown"],
)
def test_parameters_out_of_range(
    studio: Studio, refused: Ask, parameters: dict[str, Any], words: tuple[str, ...]
) -> None:
    refused(*finetune(parameters={**TINY, **parameters}), *words)
    path, _, command = act("score", "first")
    refused(path, {"parameters": parameters}, [*command, *given(parameters)], *words)


def test_a_retired_model(studio: Studio, refused: Ask) -> None:
    studio.client.post("/v1/models/raw@v001/retire", {})
    try:
        refused(*submit(studio, model="raw@v001"), "raw@v001 is retired")
        refused(*submit(studio, model=str(studio.folder / "raw.safetensors")), "raw@v001 is retired")
        refused(*finetune(base="raw@v001"), "raw@v001 is retired")
        refused(*act("promote", "raw@v001"), "raw@v001 is retired", "--undo")
    finally:
        studio.client.post("/v1/models/raw@v001/retire", {"undo": True})


def test_weights_that_no_card_can_be_of(studio: Studio, refused: Ask, tmp_path: Path) -> None:
    pickled = tmp_path / "net.pt"
    pickled.write_bytes(b"\x80\x04K\x01.")
    broken = tmp_path / "net.safetensors"
    broken.write_bytes(b"\xff" * 100)
    raw = studio.folder / "raw.safetensors"
    for path, more, words in (
        (pickled, {}, ("safetensors",)),
        (broken, {}, ("net.safetensors",)),
        (tmp_path / "none.safetensors", {}, ("none.safetensors",)),
        (raw, {"sha256": "0" * 64}, ("sha256",)),
        (raw, {"base": "nobody"}, ("no model is called 'nobody'",)),
    ):
        body = {"task": "roto", "name": "mine", "path": str(path), "licence": "MIT", **more}
        options = [part for name, value in more.items() for part in (f"--{name}", value)]
        refused("/v1/models", body, ["models", "add", "roto", "mine", str(path), "--licence", "MIT", *options], *words)
