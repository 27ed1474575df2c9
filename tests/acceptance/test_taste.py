"""Taste as people use it: approve, pick, rate, note, presets and recall, by the command line against a real dispatcher."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.cli.main import main
from farm.tokens import Scope
from integrations._shared.client import Client, DispatcherError
from tests.acceptance.farmhouse import Farmhouse
from tests.acceptance.scripted import ScriptedWorker
from tests.plates import SmallPlate, write_small_plate
from tests.unit.farm.served import Served, served

SUP = "vfx-sup"


class Said:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Plates = Callable[..., Said]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("house")
    (folder / "rules").mkdir()
    (folder / "rules" / "local.toml").write_text(f'[approval]\nfinal = ["{SUP}"]\n')
    with served(folder, rules=folder / "rules") as house:
        yield house


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> SmallPlate:
    return write_small_plate(tmp_path_factory.mktemp("shot"), count=12, width=32, height=24)


@pytest.fixture(scope="module")
def tokens(house: Served) -> dict[str, str]:
    may = {"ann": [Scope.SUBMIT], "bob": [Scope.REVIEW], SUP: [Scope.REVIEW], "sue": [Scope.SUBMIT, Scope.WRANGLE]}
    return {name: house.token("local", name, *scopes) for name, scopes in may.items()}


@pytest.fixture
def plates(
    house: Served, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Plates:
    """The command line, in this process, as one of those people; `sue` unless another is named."""

    def call(*arguments: object, who: str = "sue", code: int = 0) -> Said:
        monkeypatch.setenv("PLATEWRIGHT_URL", f"http://{house.host}")
        monkeypatch.setenv("PLATEWRIGHT_TOKEN", tokens[who])
        monkeypatch.setattr("sys.argv", ["plates", *map(str, arguments)])
        try:
            main()
            ended = 0
        except SystemExit as stop:
            ended = int(stop.code or 0)
        out, err = capfd.readouterr()
        assert ended == code, (arguments, ended, out, err)
        return Said(ended, out, err)

    return call


def published(house: Served, plate: SmallPlate, **more: Any) -> dict[str, Any]:
    """A version of a job that a scripted worker did."""
    client = house.client()
    client.post("/v1/jobs", plate.request(chunk_frames=4, pool="scripted", **more))
    return ScriptedWorker(client, "w1", "scripted").whole_job()


@pytest.fixture
def version(house: Served, plate: SmallPlate) -> dict[str, Any]:
    name = published(house, plate)["name"]
    found: dict[str, Any] = house.client().get("/v1/versions", name=name)[0]
    return found


def test_a_version_is_judged_by_its_name_or_number(plates: Plates, version: dict[str, Any]) -> None:
    name = version["name"]
    assert plates("rate", name, 4, who="ann").out == f"{name}: rated 4.0 by 1 person\n"
    assert plates("rate", version["id"], 5, who="bob").out == f"{name}: rated 4.5 by 2 people\n"
    assert plates("pick", name, who="ann").out == f"{name}: picked by ann; rated 4.5 by 2 people\n"
    plates("note", name, "edge boils at 1004", who="bob")
    said = plates("approve", name)
    assert said.out == f"{name}: approved by sue; picked by ann; rated 4.5 by 2 people; 1 note\n"
    history = plates("note", name).out.splitlines()
    assert [line[16:].split(None, 1) for line in history] == [
        ["ann", "rated it 4"], ["bob", "rated it 5"], ["ann", "picked it"], ["bob", "edge boils at 1004"],
        ["sue", "approved it"],
    ]  # fmt: skip
    taste = plates("approve", name, "--take-back", "--json").json
    assert taste["approved_by"] is None
    assert plates("rate", name, 0, who="bob", code=0).out.endswith("rated 4.0 by 1 person; 1 note\n")


def test_the_list_of_versions_tells_what_is_thought_of_them(plates: Plates, version: dict[str, Any]) -> None:
    plates("approve", version["id"])
    plates("rate", version["id"], 3, who="bob")
    plates("pick", version["id"], who="bob")
    row = next(line for line in plates("versions").out.splitlines() if line.startswith(version["name"]))
    assert "3.0 (1)  bob     sue" in row
    for only in ("--approved", "--picked"):
        assert version["name"] in plates("versions", only).out
    plates("approve", version["id"], "--take-back")
    assert version["name"] not in plates("versions", "--approved").out


def test_who_may_not_approve_is_told_who_may(plates: Plates, version: dict[str, Any]) -> None:
    said = plates("approve", version["name"], who="ann", code=1)
    assert f"ann may not approve {version['name']}" in said.err and "wrangle" in said.err
    assert "approved by vfx-sup" in plates("approve", version["name"], who=SUP).out, "the show's rules name them"


def test_what_is_not_there_or_written_wrong_is_told(plates: Plates, version: dict[str, Any]) -> None:
    assert "no published version is called nothing_v001" in plates("pick", "nothing_v001", code=1).err
    assert "there is no version 999" in plates("rate", 999, 3, code=1).err
    plates("rate", version["id"], 6, code=2)
    plates("rate", version["id"], "good", code=2)
    assert "the note is empty" in plates("note", version["id"], " ", code=3).err
    assert "4000" in plates("note", version["id"], "x" * 4001, code=3).err


def test_a_rating_without_its_value_is_refused_over_http(house: Served, version: dict[str, Any]) -> None:
    with pytest.raises(DispatcherError, match="a rating needs its value"):
        house.client().post(f"/v1/versions/{version['id']}/reviews", {"kind": "rate"})
    with pytest.raises(DispatcherError, match="kind"):
        house.client().post(f"/v1/versions/{version['id']}/reviews", {"kind": "like"})


def test_presets_are_saved_listed_and_taken_away(plates: Plates, version: dict[str, Any]) -> None:
    said = plates(
        "presets", "save", "soft", "--task", "roto", "--set", "feather=2.5", "--set", "islands=off", who="ann"
    )
    show = version["show"]
    assert said.out == f"soft of roto in {show}: feather=2.5 islands=false\n"
    kept = plates(
        "presets", "save", "like-this", "--from", version["name"], "--set", "feather=1", "--json", who="ann"
    ).json
    assert kept["parameters"]["iterations"] == 0 and kept["parameters"]["feather"] == 1
    assert "seed" not in kept["parameters"]
    names = [line.split()[0] for line in plates("presets", "list", "--task", "roto").out.splitlines()]
    assert names == ["PRESET", "like-this", "soft"]
    assert plates("presets", "list", "--show", "another", "--json").json == []
    assert plates("presets", "delete", "like-this").out == f"like-this of roto in {show} is gone\n"
    assert "no preset is called like-this" in plates("presets", "delete", "like-this", code=2).err


def test_a_submission_takes_what_it_does_not_say_from_its_preset(
    house: Served, plates: Plates, plate: SmallPlate, version: dict[str, Any]
) -> None:
    plates("presets", "save", "crisp", "--from", version["name"], "--set", "feather=1.5", "--set", "islands=off")
    given = ["roto", "--plate", plate.pattern, *plate.key_arguments(), "--preset", "crisp", "--feather", 0.5]
    asked = plates("submit", *given, "--wedge", "islands=off,on").out
    takes = house.farm.dispatcher.spec("local", int(asked)).takes
    assert [(take.parameters["feather"], take.parameters["islands"]) for take in takes] == [(0.5, False), (0.5, True)]
    assert {take.parameters["iterations"] for take in takes} == {0}, "the version's, by way of the preset"
    kept = {one["name"]: one for one in plates("presets", "list", "--json").json}
    assert kept["crisp"]["uses"] == 2
    house.client().post(f"/v1/jobs/{int(asked)}/cancel")
    said = plates("submit", *given, "--preset", "crips", code=3)
    assert "has no preset 'crips' for roto" in said.err and "crisp" in said.err


def test_a_preset_that_its_task_would_refuse_is_refused_when_it_is_saved(plates: Plates) -> None:
    said = plates("presets", "save", "wild", "--task", "roto", "--set", "feather=1e9", "--set", "wool=1", code=3)
    assert "--set wool=1: is not NAME=VALUE" in said.err and "--set feather=1e9" in said.err
    assert "no task" in plates("presets", "save", "x", "--task", "rotto", code=3).err
    assert "--from" in plates("presets", "save", "x", code=2).err
    assert "preset 'a_b' can't be used" in plates("presets", "save", "a_b", "--task", "roto", code=3).err


def test_a_form_lists_the_presets_of_a_show_where_it_is_asked_for_one(house: Served, plates: Plates) -> None:
    client = house.client()
    plates("presets", "save", "wide", "--task", "matte", "--show", "film", "--set", "edge=3")
    plain = client.get("/v1/tasks/matte/form")
    assert "presets" not in plain
    asked = client.get("/v1/tasks/matte/form", show="film")
    (preset,) = asked.pop("presets")
    assert (preset["name"], preset["parameters"]) == ("wide", {"edge": 3.0})
    assert asked == plain
    assert client.get("/v1/tasks/matte/form", show="another")["presets"] == []


def recall_of(client: Client, version: dict[str, Any]) -> dict[str, Any]:
    asked: dict[str, Any] = client.get(f"/v1/versions/{version['id']}/recall")
    return asked


def test_a_version_can_be_asked_for_again(house: Served, plates: Plates, version: dict[str, Any]) -> None:
    client = house.client()
    spec = house.farm.dispatcher.spec("local", version["job_id"])
    job = int(plates("recall", version["name"], who="ann").out)
    again = house.farm.dispatcher.spec("local", job)
    assert again.takes == spec.takes
    assert (again.keys, again.plate, again.frames, again.pool) == (spec.keys, spec.plate, spec.frames, spec.pool)
    assert client.get(f"/v1/jobs/{job}")["job"]["user"] == "ann"
    changed = plates("recall", version["id"], "--set", "feather=2", "--set", "seed=9", "--json").json
    take = house.farm.dispatcher.spec("local", changed["job"]).takes[0]
    assert take.parameters == {**spec.takes[0].parameters, "feather": 2.0, "seed": 9}
    assert take.seed == 9
    for number in (job, changed["job"]):
        client.post(f"/v1/jobs/{number}/cancel")


def test_a_recall_that_is_handed_in_twice_is_one_job(house: Served, plates: Plates, version: dict[str, Any]) -> None:
    jobs = {int(plates("recall", version["name"], "--once", "again").out) for _ in range(2)}
    assert len(jobs) == 1
    house.client().post(f"/v1/jobs/{jobs.pop()}/cancel")


def test_a_dry_recall_starts_nothing(house: Served, plates: Plates, version: dict[str, Any]) -> None:
    before = house.client().get("/v1/jobs")
    assert "infer: 3 chunks" in plates("recall", version["name"], "--dry-run").out
    assert house.client().get("/v1/jobs") == before


def test_a_panel_is_given_the_whole_request(house: Served, version: dict[str, Any], plate: SmallPlate) -> None:
    asked = recall_of(house.client(), version)
    assert (asked["task"], asked["plate"], asked["frames"]) == ("roto", str(plate.pattern), str(plate.frames))
    assert asked["seed"] == 1
    assert [key["frame"] for key in asked["keys"]] == [*plate.keys]


def test_a_recall_is_refused_when_its_plate_or_a_key_is_gone(house: Served, plates: Plates, tmp_path: Path) -> None:
    gone = write_small_plate(tmp_path, count=12, width=32, height=24)
    name = published(house, gone)["name"]
    next(iter(gone.keys.values())).unlink()
    assert "key matte:1001" in plates("recall", name, code=3).err
    gone.pattern.path(1005).unlink()
    assert "1005" in plates("recall", name, code=3).err
    for frame in gone.frames:
        gone.pattern.path(frame).unlink(missing_ok=True)
    assert "plate:" in plates("recall", name, code=3).err


def test_the_page_on_taste_is_as_it_runs(
    tmp_path: Path, plate: SmallPlate, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every command of docs/taste.md in order, and what it prints; but for the time of day, the folder and an ellipsis."""
    page = (Path(__file__).parents[2] / "docs" / "taste.md").read_text()
    lines = [line for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    with served(tmp_path, show="demo") as house:
        ann = house.token("local", "ann", Scope.SUBMIT, Scope.WRANGLE)
        monkeypatch.setenv("PLATEWRIGHT_URL", f"http://{house.host}")
        monkeypatch.setenv("PLATEWRIGHT_TOKEN", ann)
        asked = plate.request(chunk_frames=4, pool="scripted", shot="s010", takes=[{}, {}])
        house.client().post("/v1/jobs", asked)
        worker = ScriptedWorker(house.client(), "w1", "scripted")
        assert [worker.whole_job()["name"] for _ in range(2)] == ["demo_s010_roto_v001", "demo_s010_roto_v002"]
        printed: list[str] = []
        for command in (line for line in lines if line.startswith("$ plates ")):
            monkeypatch.setattr("sys.argv", shlex.split(command[2:]))
            main()
            printed += [command, *capfd.readouterr().out.splitlines()]

    def plain(line: str) -> str:
        line = re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", line.replace(f"{tmp_path}/", "/"))
        return re.sub(r"v004\", .*", "v004", line)

    assert [plain(line) for line in printed] == [plain(line) for line in lines]


def test_a_recalled_version_is_made_of_the_same_frames(tmp_path: Path) -> None:
    """With a real worker and a drawn seed: the frames of both versions are the same files, and a change makes others."""
    (tmp_path / "house").mkdir()
    house = Farmhouse(tmp_path / "house")
    try:
        house.serve("--workers", "1")
        plate = write_small_plate(tmp_path / "shot", count=4, width=32, height=24)
        asked = plate.request(parameters={"iterations": 0})
        first = house.ended(house.submit(asked)["job"])["version"]
        again = house.plates("recall", first["name"], "--wait", "--json")
        assert again.returncode == 0, again.stderr
        second = json.loads(again.stdout)["version"]
        changed = house.plates("recall", first["name"], "--set", "invert=on", "--wait", "--json")
        third = json.loads(changed.stdout)["version"]
        assert len({first["name"], second["name"], third["name"]}) == 3

        def frames(version: dict[str, Any]) -> list[Path]:
            return sorted(Path(version["pattern"]).parent.glob("*.exr"))

        assert len(frames(first)) == 4
        assert all(one.samefile(other) for one, other in zip(frames(first), frames(second), strict=True))
        pairs = zip(frames(first), frames(third), strict=True)
        assert all(one.read_bytes() != other.read_bytes() for one, other in pairs)
        seeds = [house.client().get(f"/v1/jobs/{one}")["takes"][0]["seed"] for one in (1, 2, 3)]
        assert len(set(seeds)) == 1
    finally:
        house.close()
