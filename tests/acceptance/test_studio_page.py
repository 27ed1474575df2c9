"""docs/studio_model.md as it runs: every command of the page in order, on a real farm, and what it prints."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny
from tests.acceptance.farmhouse import Farmhouse
from tests.acceptance.lessons import QUICK, asked, given, write_shots
from tests.plates import write_small_plate

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "studio_model.md"
SHOTS = tuple(f"sh{number:03d}" for number in range(10, 101, 10))
NEXT = "sh200"
"""A shot that nobody has worked on yet."""
STYLES = ("sh010", "sh020", "sh030")
LOOK = {"iterations": 24, "lines": 64, "rank": 8, "learning_rate": 0.01, "frames_a_shot": 3, "score_frames": 2}
SMALL = (
    ("plates models finetune roto ", given({**QUICK, "iterations": 20})),
    ("plates models score ", given({name: value for name, value in QUICK.items() if name.startswith("score")})),
    ("plates models finetune style_transfer ", given(LOOK)),
    ("plates submit roto ", ["--iterations", "0"]),
)
"""What the test gives to commands of the page, so that they take seconds. What a command itself says counts for more."""


def console(page: str) -> list[tuple[str, str]]:
    """Every command of the page with what it prints. A command's lines end in a backslash but for its last."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for part in re.split(r"^\$ ", block.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            found.append((re.sub(r"  +", " ", command), printed))
    return found


def shortened(command: str) -> str:
    """The command with small parameters, where it names none itself."""
    for start, more in SMALL:
        if command.startswith(start):
            pairs = [more[i : i + 2] for i in range(0, len(more), 2)]
            new = [p for p in pairs if p[1].partition("=")[0] not in re.findall(r"--set (\w+)=", command)]
            return f"{command} {shlex.join(part for pair in new for part in pair)}"
    return command


def plain(text: str) -> list[str]:
    """Lines without what differs from run to run: numbers, hashes, days, this machine, how far a job is, what it took."""
    lines = [
        line
        for line in text.splitlines()
        if not re.match(r"(waiting|running) +[\d.]+ %|about |nobody knows yet |took |  took ", line)
    ]
    found = []
    for line in lines:
        line = re.sub(r"\b[0-9a-f]{12,64}\b", "HASH", line)
        line = re.sub(r"\d{4}-\d\d-\d\d( \d\d:\d\d)?|\d\d:\d\d:\d\d", "TIME", line)
        line = re.sub(r"(?<![\w@])[+-]?\d+\.\d+\b", "NUMBER", line)
        line = re.sub(r"\b\d+[smhd]\b", "AGE", line)
        found.append(re.sub(r"  +", "  ", line).rstrip())
    return found


class Desk:
    """Where a TD works: a farm, ten finished shots, another one, a base for looks, and `plates` on the path."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.house = Farmhouse(folder, PLATEWRIGHT_LEASE_S="8", **environment)

    def ready(self) -> None:
        """Publish ten rotos and three styles."""
        house = self.house
        house.serve()
        house.worker("--name", "ws07")
        plates = write_shots(self.folder / "plates", (*SHOTS, NEXT))
        jobs = [house.submit(asked(plates[shot], shot))["job"] for shot in SHOTS]
        for seed, shot in enumerate(STYLES):
            plate = write_small_plate(self.folder / "styles" / shot, count=4, keys=(1001,), seed=seed)
            painted = [{"frame": 1001, "path": str(plate.pattern.path(1002))}]
            request = {**asked(plate, shot), "task": "style_transfer", "keys": painted, "parameters": {"seed": 1}}
            jobs.append(house.submit(request)["job"])
        tiny.stable_diffusion(self.folder / "weights" / "sd15")
        for job in jobs:
            assert house.ended(job)["state"] == "succeeded"
        tools = self.folder / "bin"
        tools.mkdir()
        (tools / "plates").write_text(f'#!/bin/sh\nexec {sys.executable} -m farm.cli.main "$@"\n')
        (tools / "plates").chmod(0o755)

    def run(self, command: str) -> str:
        """What a command prints, as a terminal shows it."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        environment = {**self.house.environment, "PATH": path, "LC_ALL": "C.UTF-8"}
        run = subprocess.run(
            ["bash", "-c", command],
            env=environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
            check=False,
        )
        return run.stdout.replace(f"{self.folder}/", "/")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    try:
        desk.ready()
        yield desk
    finally:
        desk.house.close()


def test_every_command_of_the_page_prints_what_the_page_says(desk: Desk) -> None:
    commands = console(PAGE.read_text())
    assert len(commands) > 15
    for command, printed in commands:
        assert plain(desk.run(shortened(command))) == plain(printed), command
