"""What starts without the heavy libraries, measured in fresh interpreters. They take seconds to import; help must not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HELP_AT_MOST_S = 0.3
RUNS = 7
OF_CHILDREN = {
    *("torch", "diffusers", "transformers", "numpy", "cv2", "pyblish"),
    *("OpenEXR", "OpenImageIO", "PyOpenColorIO", "opentimelineio"),
}
"""Only a session or inspector child may load these."""
OF_SERVERS = {"sqlmodel", "sqlalchemy", "fastapi", "pydantic", "uvicorn", "structlog"}
"""Help has no use for these either."""

HELP = """
from farm.cli.main import cli
try:
    cli(["--help"])
except SystemExit:
    pass
"""
DISPATCHER = """
import sys
from pathlib import Path
from farm.serving import Farm
from farm.settings import FarmSettings
from pipeline.parameters import describe
from pipeline.tasks.registry import tasks

farm = Farm(FarmSettings.read({}, data=Path(sys.argv[1])))
farm.app()
assert [describe(task.parameters) for task in tasks()]
farm.close()
"""
WORKER = """
from farm.worker import Worker, WorkerConfig
from integrations._shared.client import Client

Worker(Client("http://127.0.0.1:1", "token"), WorkerConfig(name="one"), version="0")
"""


def loaded(program: str, *arguments: str) -> set[str]:
    """The top-level modules that a program has loaded at its end."""
    told = 'import json, sys\nprint("\\n" + json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))'
    run = subprocess.run(
        [sys.executable, "-c", f"{program}\n{told}", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_help_loads_nothing_heavy() -> None:
    assert not loaded(HELP) & (OF_CHILDREN | OF_SERVERS)


def test_an_open_dispatcher_with_its_tasks_and_routes_loads_nothing_of_its_children(tmp_path: Path) -> None:
    assert not loaded(DISPATCHER, str(tmp_path / "data")) & OF_CHILDREN


def test_a_worker_loads_nothing_of_its_session() -> None:
    assert not loaded(WORKER) & OF_CHILDREN


def test_a_session_does_load_them_so_the_checks_above_can_fail() -> None:
    assert loaded("import farm.session") >= {"numpy", "OpenEXR"}


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="CPU time of one child is told by wait4 alone")
def test_help_takes_at_most_three_tenths_of_a_second() -> None:
    """By the child's own CPU time, best of several: a busy machine makes it wait, not work."""
    cpu_s, wall_s = [], []
    for _ in range(RUNS):
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "farm.cli.main", "--help"], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s.append(time.monotonic() - started)
        assert process.returncode == 0
        cpu_s.append(usage.ru_utime + usage.ru_stime)
    print(f"plates --help: {min(cpu_s):.3f} s of CPU, {min(wall_s):.3f} s by the clock, best of {RUNS}")
    assert min(cpu_s) <= HELP_AT_MOST_S


_CORE_ALONE = """
import importlib, sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in WORKERS_OWN:
            raise ModuleNotFoundError(f"{name} belongs to the extra worker")

WORKERS_OWN = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Refuse())
for module in ("farm.reader", "farm.serving", "farm.cli.main", "pipeline.publish.run", "pipeline.shapes.read", "pipeline.shapes.write"):
    importlib.import_module(module)
from pipeline.tasks.registry import tasks
for definition in tasks():
    if definition.inspect:
        importlib.import_module(definition.inspect.partition(":")[0])
print("whole")
"""


def test_whatever_a_dispatcher_and_its_reader_import_is_there_without_the_workers_extra() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    worker = pyproject["project"]["optional-dependencies"]["worker"]
    wanted = {re.split(r"[<>=\[]", line)[0].lower() for line in worker}
    modules = {m for m, packages in packages_distributions().items() if wanted & {p.lower() for p in packages}}
    assert {"torch", "safetensors"} <= modules
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CORE_ALONE, ",".join(sorted(modules))],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "whole", done.stderr[-2000:]
