"""The folder of rules: read at every submission, parsed once, refused with the file's name, and the page's example as it runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from farm import rules as farm_rules
from farm.cli.rules import rules as command
from farm.rules import MOST_BYTES, look_through, read_rules
from farm.settings import FarmSettings
from pipeline.errors import Fault, RuleError
from pipeline.policy import (
    NO_RULES,
    Clearance,
    Spend,
    Subject,
    TrainingVersion,
    Usage,
    UsedModel,
    decide,
    decide_training,
    may_promote,
)
from pipeline.shot import ShotNameError
from pipeline.tasks.registry import tasks

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "rules.md").read_text()


def printed_block(start: str) -> str:
    """The page's block of plain text that begins so."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return next(text for language, text in blocks if not language and text.startswith(start))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The page's example."""
    made = tmp_path / "rules"
    for name, text in re.findall(r"^`([\w/]+\.toml)`:\n\n```toml\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL):
        write(made, name, text)
    return made


def refusal(folder: Path, studio: str = "acme", show: str = "dune") -> tuple[Fault, ...]:
    with pytest.raises(RuleError) as error:
        read_rules(folder, studio, show)
    return error.value.faults


def test_without_a_folder_there_are_no_rules() -> None:
    assert read_rules(None, "acme", "dune") is NO_RULES
    assert FarmSettings.read({}).rules is None


def test_the_setting_leads_to_the_folder(folder: Path) -> None:
    assert FarmSettings.read({"PLATEWRIGHT_RULES": str(folder)}).rules == folder


def test_a_shows_rules_are_its_studios_with_its_own_over_them(folder: Path) -> None:
    held = read_rules(folder, "acme", "dune")
    assert held.said("models.licences") == ("Apache-2.0", "LicenseRef-acme")
    assert held.source("models.licences") == "acme/dune.toml"
    assert held.source("models.states") == "acme.toml"
    assert [(file.name, file.sha256) for file in held.files] == [
        (name, hashlib.sha256((folder / name).read_bytes()).hexdigest()) for name in ("acme.toml", "acme/dune.toml")
    ]
    assert read_rules(folder, "acme", "arrival").said("budget.money") == 500
    assert [file.name for file in read_rules(folder, "acme").files] == ["acme.toml"]


def test_a_show_may_have_rules_where_its_studio_has_none_and_another_studio_has_none_of_them(folder: Path) -> None:
    write(folder, "guest/dune.toml", '[models]\nlicences = ["MIT"]')
    assert read_rules(folder, "guest", "dune").said("models.licences") == ("MIT",)
    assert read_rules(folder, "guest", "other") == NO_RULES
    assert read_rules(folder, "third", "dune") == NO_RULES


def test_a_change_counts_from_the_next_reading_on_and_an_unchanged_file_is_parsed_once(folder: Path) -> None:
    path = folder / "acme" / "dune.toml"
    read_rules(folder, "acme", "dune")
    parsed = farm_rules._parsed.cache_info().misses
    for _ in range(3):
        assert read_rules(folder, "acme", "dune").said("budget.money") == 800
    assert farm_rules._parsed.cache_info().misses == parsed
    before = path.stat()
    path.write_text(path.read_text().replace("800", "900"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert read_rules(folder, "acme", "dune").said("budget.money") == 900
    path.unlink()
    assert read_rules(folder, "acme", "dune").said("budget.money") == 500


def test_a_file_with_a_mistake_refuses_its_own_show_alone(folder: Path) -> None:
    write(folder, "acme/dune.toml", '[models]\nlicenses = ["MIT"]')
    for _ in range(2):
        assert refusal(folder) == (Fault("acme/dune.toml › models.licenses", "is no rule", "did you mean licences?"),)
    assert read_rules(folder, "acme", "arrival").said("budget.money") == 500
    write(folder, "acme/dune.toml", "")
    assert read_rules(folder, "acme", "dune").said("budget.money") == 500


def test_a_studios_mistake_refuses_all_its_shows_and_every_mistake_is_told(folder: Path) -> None:
    write(folder, "acme.toml", '[budget]\nperiod = "never"')
    write(folder, "acme/dune.toml", "[budget")
    assert [fault.where for fault in refusal(folder)] == ["acme.toml › budget.period", "acme/dune.toml"]
    assert [fault.where for fault in refusal(folder, show="arrival")] == ["acme.toml › budget.period"]


def test_who_promotes_is_a_studios_rule(folder: Path) -> None:
    write(folder, "acme/dune.toml", '[approval]\npromote = ["ann"]')
    (fault,) = refusal(folder)
    assert (fault.where, fault.hint) == ("acme/dune.toml › approval.promote", "name them in acme.toml")


@pytest.mark.parametrize("inside", [False, True])
def test_a_link_that_leads_out_of_the_folder_is_refused(folder: Path, inside: bool) -> None:
    path = folder / "acme" / "dune.toml"
    content = path.read_text()
    path.unlink()
    target = write(folder if inside else folder.parent, "elsewhere.txt", content)
    path.symlink_to(target)
    if inside:
        assert read_rules(folder, "acme", "dune").said("budget.money") == 800
    else:
        (fault,) = refusal(folder)
        assert fault.where == "acme/dune.toml"
        assert f"is a link to {target.resolve()}, outside" in fault.message


def test_a_studios_folder_that_leads_out_is_refused_and_a_linked_rules_folder_is_not(folder: Path) -> None:
    linked = folder.with_name("linked")
    linked.symlink_to(folder)
    assert read_rules(linked, "acme", "dune").said("budget.money") == 800
    (folder / "acme").rename(folder.with_name("other"))
    (folder / "acme").symlink_to(folder.with_name("other"))
    assert "outside" in refusal(folder)[0].message
    assert look_through(folder).faults == refusal(folder)


def test_a_link_to_nothing_is_refused_and_not_taken_for_no_rules(folder: Path) -> None:
    path = folder / "acme" / "dune.toml"
    path.unlink()
    path.symlink_to("gone.toml")
    assert "which is gone" in refusal(folder)[0].message


def test_a_file_of_fifty_megabytes_is_refused_by_its_size(folder: Path) -> None:
    path = folder / "acme" / "dune.toml"
    with path.open("r+b") as file:
        file.truncate(50_000_000)
    (fault,) = refusal(folder)
    assert "is 50.0 MB, more than the 0.26 MB of any rules" in fault.message
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(b"#" * MOST_BYTES)
    assert read_rules(folder, "acme", "dune").said("budget.money") == 500


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_plain_file_is_refused(folder: Path, kind: str) -> None:
    path = folder / "acme" / "dune.toml"
    path.unlink()
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    assert [(fault.where, fault.message) for fault in refusal(folder)] == [("acme/dune.toml", "isn't a file")]


def test_a_file_in_the_place_of_a_studios_folder_is_refused(folder: Path) -> None:
    (folder / "acme" / "dune.toml").unlink()
    (folder / "acme").rmdir()
    write(folder, "acme", "")
    assert [(fault.where, "can't be read" in fault.message) for fault in refusal(folder)] == [("acme/dune.toml", True)]


@pytest.fixture
def nobody() -> Iterator[None]:
    """For root reads everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    yield
    os.seteuid(before)


@pytest.fixture
def public(folder: Path) -> Iterator[Path]:
    """The example where everyone may come; pytest's own folders are its user's alone."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield shutil.copytree(folder, Path(place) / "rules")


def test_an_unreadable_file_is_refused(public: Path, request: pytest.FixtureRequest) -> None:
    (public / "acme" / "dune.toml").chmod(0)
    request.getfixturevalue("nobody")
    assert [(fault.where, fault.message) for fault in refusal(public)] == [
        ("acme/dune.toml", "can't be read: Permission denied")
    ]
    assert read_rules(public, "acme", "arrival").said("budget.money") == 500


def test_a_studios_folder_that_nobody_may_enter_is_refused(public: Path, request: pytest.FixtureRequest) -> None:
    (public / "acme").chmod(0)
    request.getfixturevalue("nobody")
    assert "can't be read: Permission denied" in refusal(public)[0].message
    assert [fault.where for fault in look_through(public).faults] == ["acme"]


def test_a_folder_that_is_gone_or_empty_refuses_everything_since_it_may_not_be_mounted(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    write(tmp_path, "notes.txt", "")
    for path, words in (
        (tmp_path / "gone", "can't be read"),
        (empty, "holds no rule file"),
        (tmp_path / "notes.txt", "can't be read"),
    ):
        (fault,) = refusal(path)
        assert (fault.where, words in fault.message) == ("rules", True)
        assert "PLATEWRIGHT_RULES" in fault.hint
        with pytest.raises(RuleError):
            look_through(path)


@pytest.mark.parametrize(("studio", "show"), [("../etc", "dune"), ("acme", "../acme"), ("acme", "a/b"), ("", "dune")])
def test_a_name_never_becomes_a_path(folder: Path, studio: str, show: str) -> None:
    with pytest.raises(ShotNameError):
        read_rules(folder, studio, show)


# The command


def run(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(command, arguments, env={"PLATEWRIGHT_RULES": None, **(environment or {})})
    return result.exit_code, result.output


def test_check_looks_through_the_folder_of_the_setting_without_a_dispatcher(folder: Path) -> None:
    assert run("check", environment={"PLATEWRIGHT_RULES": str(folder)}) == (0, "ok   acme.toml\nok   acme/dune.toml\n")
    code, output = run("check")
    assert (code, "set PLATEWRIGHT_RULES" in output) == (2, True)
    code, output = run("check", str(folder / "nowhere"))
    assert (code, "can't be read" in output) == (1, True)


def test_check_finds_what_nobody_would_read(folder: Path) -> None:
    write(folder, "README.md", "")
    write(folder, "acme/a_b.toml", "")
    write(folder, "acme/dune/sq010.toml", "")
    write(folder, "acme/arrival.toml", "[budget]\nmony = 3")
    write(folder, ".git/x.toml", "[bad")
    code, output = run("check", str(folder), "--json")
    found = json.loads(output)
    assert code == 1
    assert (found["good"], found["ignored"]) == (["acme.toml", "acme/dune.toml"], ["README.md"])
    assert {fault["where"] for fault in found["faults"]} == {
        "acme/a_b.toml", "acme/dune", "acme/arrival.toml › budget.mony",
    }  # fmt: skip
    assert (
        "BAD  acme/arrival.toml › budget.mony: is no rule\n       did you mean money?\n" in run("check", str(folder))[1]
    )
    assert "--   README.md: no rule file, so nobody reads it\n" in run("check", str(folder))[1]


def test_check_tells_a_studios_mistake_once_though_its_shows_share_it(folder: Path) -> None:
    write(folder, "acme.toml", "[model]")
    looked = look_through(folder)
    assert [fault.where for fault in looked.faults] == ["acme.toml › model"]
    assert looked.good == ()


def test_show_prints_each_rule_with_its_file(folder: Path) -> None:
    environment = {"PLATEWRIGHT_RULES": str(folder), "PLATEWRIGHT_STUDIO": "acme"}
    code, output = run("show", "dune", "--json", environment=environment)
    printed = json.loads(output)
    assert code == 0
    assert printed["rules"]["budget.money"] == {"value": 800.0, "file": "acme/dune.toml"}
    assert [file["name"] for file in printed["files"]] == ["acme.toml", "acme/dune.toml"]
    assert run("show", "dune")[1].startswith("no rule holds for dune of local")


# The page


def test_what_the_page_prints_is_what_the_commands_print(folder: Path) -> None:
    block = printed_block("$ plates")
    printed = ""
    for line in block.splitlines():
        if line.startswith("$ plates rules "):
            arguments = [str(folder) if word == "rules" else word for word in line.split()[3:]]
            code, output = run(*arguments)
            assert code == 0
            printed += f"{line}\n{output}"
    assert printed == block


def test_the_page_shows_each_refusal_as_it_is(folder: Path) -> None:
    now = datetime(2026, 5, 20, tzinfo=UTC).timestamp()
    held = read_rules(folder, "acme", "dune")
    ours = UsedModel(name="hero@v003", licence="LicenseRef-acme", state="candidate", registered=True)
    used = (
        UsedModel(name="sky@v002", licence="MIT", state="approved", registered=True),
        UsedModel(name="depth@v001", licence="CC-BY-NC-4.0", state="approved", registered=True),
        ours,
        UsedModel(name="net.safetensors"),
    )
    asked = Subject(
        studio="acme", show="dune", sequence="sq010", shot="sh010", task="roto", use="final", user="ann", models=used
    )
    free = Spend(spent=0, committed=0, asked=0)
    usage = Usage(money=Spend(spent=640, committed=120, asked=55), machine_hours=free, gpu_hours=free, currency="EUR")
    withdrawn = Clearance(
        kind="training", show="dune", by="A. Stone", recorded_by="legal", given_at=0.0,
        withdrawn_at=datetime(2026, 3, 2, tzinfo=UTC).timestamp(),
    )  # fmt: skip
    versions = [TrainingVersion(name="v004", show="dune", sequence="sq010", shot="sh020", clearances=(withdrawn,))]
    learning = Subject(studio="acme", show="dune", task="roto", user="ann")
    plenty = Usage(money=free, machine_hours=free, gpu_hours=free)
    faults = [
        *decide(asked, held, (), usage, now=now).refusals(),
        *decide_training(learning, versions, {"dune": held}, plenty, now=now).refusals(),
        may_promote("ann", read_rules(folder, "acme")).fault,
    ]
    block = printed_block("rule ")
    told = [f"{fault.where}: {fault.message}\n    {fault.hint}" for fault in faults]
    assert sorted(told) == sorted(re.split(r"\n(?=rule )", block.strip()))


def test_the_page_shows_each_mistake_as_it_is(folder: Path) -> None:
    told = []
    for text in ('[models]\nlicenses = ["MIT"]', '[budget]\nperiod = "monthly"', "[models\n"):
        write(folder, "acme/dune.toml", text)
        (fault,) = refusal(folder)
        told.append(f"{fault.where}: {fault.message}\n    {fault.hint}")
    block = printed_block("acme/dune.toml ›")
    assert "\n".join(told) + "\n" == block


def test_the_page_names_every_rule() -> None:
    named = set(re.findall(r"`((?:models|use|clearance|approval|budget)\.[a-z_.]+)`", PAGE))
    from pipeline.rules import _keys

    assert set(_keys()) - named == set()


# The tasks' own weights


def test_every_task_that_comes_with_weights_says_their_licence_and_the_notice_names_them() -> None:
    licences = {task.name: (task.default_model, task.default_licence) for task in tasks()}
    ours = {name: licences[name] for name in ("roto", "matte", "style_transfer", "shot_extension")}
    assert {name: licence for name, (_, licence) in ours.items() if licence} == {"roto": "Apache-2.0"}
    notice = " ".join((ROOT / "NOTICE").read_text().split())
    assert ours["roto"][0] == "efficientnet-lite0"
    assert "the ImageNet weights of EfficientNet-Lite0, Apache License 2.0" in notice
