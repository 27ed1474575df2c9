"""`plates` as people and scripts use it: exit codes, JSON that parses, and every act on a job."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.cli.main import COMMANDS, main
from integrations._shared.client import DispatcherError
from tests.acceptance.farmhouse import PLATES, Farmhouse
from tests.acceptance.scripted import ScriptedWorker
from tests.plates import SmallPlate, write_small_plate

FORMS = Path(__file__).parent.parent / "golden" / "forms"


class Said:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Plates = Callable[..., Said]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farmhouse]:
    house = Farmhouse(tmp_path_factory.mktemp("house"), PLATEWRIGHT_RETRY_BACKOFF_S="0.1")
    house.serve()
    yield house
    house.close()


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> SmallPlate:
    return write_small_plate(tmp_path_factory.mktemp("shot"), count=12, width=32, height=24)


@pytest.fixture
def plates(house: Farmhouse, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Plates:
    """The command line, in this process: the same entry point without Python's start."""
    for name, value in house.environment.items():
        if name.startswith("PLATEWRIGHT_"):
            monkeypatch.setenv(name, value)

    def call(*arguments: object, code: int | None = 0, **environment: str) -> Said:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr("sys.argv", ["plates", *map(str, arguments)])
            try:
                main()
                ended = 0
            except SystemExit as stop:
                ended = int(stop.code or 0)
        out, err = capfd.readouterr()
        assert code is None or ended == code, (arguments, ended, out, err)
        return Said(ended, out, err)

    return call


def submit(plates: Plates, plate: SmallPlate, *more: object, pool: str = "nobody") -> int:
    said = plates(
        "submit",
        "roto",
        "--plate",
        plate.pattern,
        *plate.key_arguments(),
        "--pool",
        pool,
        "--chunk",
        4,
        *more,
        "--json",
    )
    return int(said.json["job"])


def state(plates: Plates, job: int) -> str:
    return str(plates("status", job, "--json").json["job"]["state"])


def test_every_command_has_help_and_help_names_every_command(plates: Plates) -> None:
    listed = plates("--help").out
    for name in COMMANDS:
        assert f"  {name} " in listed
        said = plates(name, "--help").out
        assert said.startswith("Usage: ")
        assert len(said) > 60
    for command in ("submit", "run"):
        said = plates(command, "roto", "--help").out
        assert "--plate" in said
        assert "--feather" in said
        assert "[px]" in said


def test_the_version_is_told(plates: Plates) -> None:
    from pipeline import __version__

    assert __version__ in plates("--version").out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"], ["submit"], ["submit", "nonsense"], ["submit", "roto"], ["status", "x"], ["jobs", "--limit", "0"],
        ["priority", "101", "1"], ["priority", "5"], ["cancel"], ["run", "roto", "--plate", "x", "--iterations", "many"],
        ["submit", "roto", "--plate", "x", "--codec", "dwaa"], ["edit"], ["jobs", "--colour"],
    ],
)  # fmt: skip
def test_a_command_that_is_written_wrong_ends_with_2(plates: Plates, arguments: list[str]) -> None:
    said = plates(*arguments, code=2)
    assert said.out == ""
    assert "Error" in said.err or "Usage" in said.err


def test_what_is_not_there_or_not_allowed_ends_with_1(plates: Plates, plate: SmallPlate) -> None:
    for arguments in (["status", 999], ["log", 999], ["cancel", 999], ["priority", 5, 999]):
        said = plates(*arguments, code=1)
        assert "999" in said.err
    assert "token" in plates("jobs", code=1, PLATEWRIGHT_TOKEN="plates_wrong").err
    assert "token" in plates("jobs", code=1, PLATEWRIGHT_DATA=str(plate.folder / "nowhere")).err


def test_a_refusal_ends_with_3_and_says_it_as_json_too(plates: Plates, plate: SmallPlate) -> None:
    said = plates("submit", "roto", "--plate", plate.folder / "gone.####.exr", *plate.key_arguments(), "--json", code=3)
    assert {"error", "message", "hint", "faults"} == set(said.json)
    assert said.json["faults"][0]["where"] == "plate"
    assert "refused:" in said.err
    job = submit(plates, plate)
    plates("cancel", job)
    assert "cancelled" in plates("resume", job, code=3).err
    plates("jobs", "--state", "sleeping", code=3)
    assert plates("edit", plate.folder / "gone.otio", "--json", code=3).json["message"]


def test_no_dispatcher_ends_with_4_and_says_how_to_start_one(plates: Plates) -> None:
    said = plates("status", "--json", code=4, PLATEWRIGHT_URL="http://127.0.0.1:9")
    assert "plates serve" in said.err
    assert said.json["error"] == "ServerError"
    assert plates("jobs", code=4, PLATEWRIGHT_URL="nonsense").err


def test_a_taken_port_ends_with_4(plates: Plates, house: Farmhouse) -> None:
    said = plates("serve", "--port", house.port, code=4)
    assert "can't be listened on" in said.err


def test_jobs_are_listed_newest_first_and_filtered(plates: Plates, plate: SmallPlate) -> None:
    first = submit(plates, plate, "--show", "alpha")
    second = submit(plates, plate, "--show", "beta", "--priority", 70)
    listed = plates("jobs", "--json").json
    assert [job["id"] for job in listed][:2] == [second, first]
    assert [job["id"] for job in plates("jobs", "--show", "beta", "--json").json] == [second]
    assert [job["id"] for job in plates("jobs", "--limit", 1, "--json").json] == [second]
    assert {first, second} <= {job["id"] for job in plates("jobs", "--user", "local", "--json").json}
    assert plates("jobs", "--user", "nobody", "--json").json == []
    plates("cancel", first, second)
    gone = plates("jobs", "--state", "cancelled", "--state", "failed", "--json").json
    assert {first, second} <= {job["id"] for job in gone}
    table = plates("jobs").out.splitlines()
    assert table[0].split()[:3] == ["JOB", "STATE", "DONE"]
    assert table[1].split()[0] == str(second)


def test_a_job_is_paused_resumed_given_a_priority_and_cancelled(plates: Plates, plate: SmallPlate) -> None:
    job, other = submit(plates, plate), submit(plates, plate)
    assert plates("pause", job, other).out == f"job {job}: paused\njob {other}: paused\n"
    assert "resume it" in plates("status", job).out
    plates("resume", job)
    assert state(plates, job) == "waiting"
    plates("priority", 90, job, other)
    assert {j["priority"] for j in plates("jobs", "--json", "--limit", 2).json} == {90}
    plates("cancel", job, other)
    assert state(plates, job) == "cancelled"


def test_a_job_that_waits_says_what_for(plates: Plates, plate: SmallPlate) -> None:
    job = submit(plates, plate)
    said = plates("status", job)
    assert "worker" in said.out
    assert "fit" in said.out
    plates("cancel", job)


def test_failed_work_is_retried_or_left_out_and_its_log_is_printed(
    plates: Plates, plate: SmallPlate, house: Farmhouse
) -> None:
    job = submit(plates, plate, pool="scripted")
    worker = ScriptedWorker(house.client(), "w", "scripted")
    worker.claim()
    worker.complete(log=("learnt it",))
    worker.claim()
    worker.fail("frame 1001 is odd", "look at it", kind="refused", log=("last words",))
    assert state(plates, job) == "failed"
    told = plates("status", job).out
    assert "frame 1001 is odd" in told
    assert "look at it" in told
    plates("retry", job)
    assert state(plates, job) == "running"
    frames = worker.claim()["frames"]
    worker.fail("still odd", kind="refused")
    plates("skip", job, "--frames", frames)
    worker.infer()
    worker.infer()
    assert state(plates, job) == "running"
    log = plates("log", job).out
    for words in ("== fit", "learnt it", "== infer", "last words", "FAILED (refused): frame 1001 is odd", "look at it"):
        assert words in log
    lines = [json.loads(line) for line in plates("log", job, "--json").out.splitlines()]
    assert {"step", "chunk", "attempt", "worker", "t", "text"} == set(lines[0])
    chunk = next(line["chunk"] for line in lines if line["text"] == "last words")
    only = [
        json.loads(line) for line in plates("log", job, "--chunk", chunk, "--attempt", 1, "--json").out.splitlines()
    ]
    assert {(line["chunk"], line["attempt"]) for line in only} == {(chunk, 1)}
    plates("cancel", job)
    plates("log", job, "--follow")


def test_a_followed_log_prints_each_line_once(plates: Plates, plate: SmallPlate, house: Farmhouse) -> None:
    job = submit(plates, plate, pool="followed")
    worker = ScriptedWorker(house.client(), "w", "followed")
    worker.claim()
    worker.progress(0.1, log=("one",))
    with subprocess.Popen(
        [*PLATES, "log", str(job), "-f"], env=house.environment, stdout=subprocess.PIPE, text=True
    ) as tail:
        assert tail.stdout is not None
        assert "fit" in tail.stdout.readline()
        assert tail.stdout.readline().endswith("  one\n")
        worker.progress(0.2, log=("two",))
        worker.complete()
        house.client().post(f"/v1/jobs/{job}/cancel")
        rest = tail.stdout.read()
        assert rest.count("two") == 1
        assert "one" not in rest
        assert tail.wait(10) == 0


def test_a_published_version_is_listed(plates: Plates, plate: SmallPlate, house: Farmhouse) -> None:
    job = submit(plates, plate, "--show", "listed", pool="publishing")
    worker = ScriptedWorker(house.client(), "w", "publishing")
    worker.whole_job()
    found = plates("versions", "--show", "listed", "--json").json
    assert [(v["name"], v["job_id"], v["state"]) for v in found] == [("listed_sh010_roto_v001", job, "published")]
    assert plates("versions", "--shot", "other", "--json").json == []
    assert "listed_sh010_roto_v001" in plates("versions", "--product", "roto").out
    table = plates("status").out
    assert table.startswith("dispatcher ")
    assert "succeeded" in table
    assert set(plates("status", "--json").json) == {"version", "database", "jobs", "chunks", "workers"}


def test_a_form_is_the_golden_one_and_reads_well(plates: Plates) -> None:
    form = plates("form", "roto", "--json").json
    golden = json.loads((FORMS / "roto.json").read_text())
    assert {name: form[name] for name in golden} == golden
    assert form["task"] == "roto"
    text = plates("form", "roto").out
    assert "--feather" in text
    assert "0.0 to 64.0 px" in text
    assert "roto" in plates("form", "nonsense", code=3).err


def test_the_form_of_a_training_is_shown_and_served(plates: Plates, house: Farmhouse) -> None:
    golden = json.loads((FORMS / "roto.training.json").read_text())
    form = plates("form", "roto", "--training", "--json").json
    assert {name: form[name] for name in golden} == golden
    assert "--score-iterations" in plates("form", "roto", "--training").out
    assert "nothing that learns" in plates("form", "matte", "--training", code=3).err
    served = house.client().get("/v1/tasks/roto/training/form")
    assert {name: served[name] for name in golden} == golden
    assert served["measures"][served["measure"]]["better"] == "higher"
    with pytest.raises(DispatcherError) as refused:
        house.client().get("/v1/tasks/matte/training/form")
    assert refused.value.status == 404


def test_contexts_of_a_cut_are_a_json_list(plates: Plates, plate: SmallPlate) -> None:
    (context,) = plates("edit", plate.cut, "--handles", 1, "--json").json
    assert (context["clip"], context["head_in"], context["tail_out"]) == ("sh010", 1001, 1012)
    assert "sh010" in plates("edit", plate.cut, "--clip", "sh010").out


def test_the_doctor_names_what_is_wrong(plates: Plates, house: Farmhouse, tmp_path: Path) -> None:
    findings = {f["what"]: f for f in plates("doctor", "--json", code=None).json}
    for what in ("python", "OpenEXR", "tasks", "data", "token", "dispatcher"):
        assert findings[what]["ok"], findings[what]
    ill = plates("doctor", code=1, PLATEWRIGHT_URL="http://127.0.0.1:9", PLATEWRIGHT_ROOTS=str(tmp_path / "unmounted"))
    assert "BAD  dispatcher" in ill.out
    assert "plates serve" in ill.out
    assert "BAD  root" in ill.out
    (house.data / "token").chmod(0o644)
    try:
        assert "chmod 600" in plates("doctor", code=1).out
    finally:
        (house.data / "token").chmod(0o600)


def test_the_doctor_counts_workers(plates: Plates, house: Farmhouse) -> None:
    house.client().post("/v1/workers/here/arrive", {"host": "h", "version": "0", "memory_mb": 1})
    findings = {f["what"]: f for f in plates("doctor", "--json").json}
    assert findings["workers"]["ok"]
    house.client().post("/v1/workers/here/leave")


def test_the_address_of_the_page_signs_in(plates: Plates, house: Farmhouse) -> None:
    address = plates("open", "--no-browser").out.strip()
    assert address.startswith(f"{house.url}/enter?ticket=")
    assert "%2Fjobs%2F7" in plates("open", 7, "--no-browser").out


def test_ctrl_c_while_waiting_ends_with_130_and_the_job_goes_on(
    house: Farmhouse, plate: SmallPlate, plates: Plates
) -> None:
    arguments = [
        "submit",
        "roto",
        "--plate",
        str(plate.pattern),
        *plate.key_arguments(),
        "--pool",
        "nobody",
        "--wait",
        "--json",
    ]
    with subprocess.Popen(
        [*PLATES, *arguments], env=house.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stderr is not None
        assert waiting.stdout is not None
        line = waiting.stderr.readline()
        assert line.startswith("job "), line
        job = int(line.split()[1])
        time.sleep(0.5)
        waiting.send_signal(signal.SIGINT)
        rest = waiting.stderr.read()
        assert waiting.wait(10) == 130
        assert f"plates cancel {job}" in rest
        assert waiting.stdout.read() == ""
    assert state(plates, job) == "waiting"
    plates("cancel", job)


def test_waiting_for_a_job_that_is_cancelled_ends_with_1_and_its_object(
    house: Farmhouse, plate: SmallPlate, plates: Plates
) -> None:
    arguments = [
        "submit",
        "roto",
        "--plate",
        str(plate.pattern),
        *plate.key_arguments(),
        "--pool",
        "nobody",
        "--wait",
        "--json",
    ]
    with subprocess.Popen(
        [*PLATES, *arguments], env=house.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stderr is not None
        assert waiting.stdout is not None
        job = int(waiting.stderr.readline().split()[1])
        plates("cancel", job)
        ended = json.loads(waiting.stdout.read())
        assert waiting.wait(10) == 1
    assert (ended["job"], ended["state"], ended["version"]) == (job, "cancelled", None)


def test_an_act_on_many_jobs_does_what_it_can_and_says_the_rest(plates: Plates, plate: SmallPlate) -> None:
    one, two = submit(plates, plate), submit(plates, plate)
    said = plates("pause", one, 999, two, code=1)
    assert said.out == f"job {one}: paused\njob {two}: paused\n"
    assert "job 999: " in said.err
    for verb, wanted in (("resume", "waiting"), ("cancel", "cancelled")):
        views = plates(verb, one, two, "--json").json
        assert [(view["id"], view["state"]) for view in views] == [(one, wanted), (two, wanted)]


def test_a_token_is_made_used_listed_and_revoked(plates: Plates) -> None:
    token = plates("tokens", "create", "ada", "--scope", "review").out.strip()
    assert plates("jobs", "--json", PLATEWRIGHT_TOKEN=token).json is not None
    assert "admin" in plates("tokens", "list", code=1, PLATEWRIGHT_TOKEN=token).err
    (view,) = [t for t in plates("tokens", "list", "--json").json if t["name"] == "ada"]
    assert token not in json.dumps(view)
    assert "ada" in plates("tokens", "list").out
    plates("tokens", "revoke", view["id"])
    assert "token" in plates("jobs", code=1, PLATEWRIGHT_TOKEN=token).err
