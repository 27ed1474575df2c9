"""The layers hold, and what holds them would notice: one bad line breaks exactly the contract that it offends."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "farm", "integrations")
CONTRACTS = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}
MUTATIONS = [
    ("flow", "pipeline/plate.py", "import farm.settings"),
    ("hosts-alone", "integrations/_shared/client.py", "import pydantic"),
    ("pipeline-layers", "pipeline/frames.py", "import pipeline.plate"),
    ("pipeline-layers", "pipeline/helpers.py", ""),
    ("farm-layers", "farm/states.py", "import farm.wire"),
    ("farm-layers", "farm/helpers.py", ""),
    ("light", "pipeline/tasks/roto/definition.py", "import pipeline.tasks.roto.runner"),
    ("light", "farm/serving.py", "def late():\n    import farm.session"),
    ("rows-stay-home", "farm/api/jobs.py", "import farm.tables"),
]
"""(the contract it breaks, the file it goes into or is, the line). A module that no layer names is a fault too."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, to be spoilt."""
    copy = tmp_path_factory.mktemp("layers")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "static"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def broken_contracts(tree: Path) -> set[str]:
    """The contracts that import-linter finds broken in a tree."""
    run = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=tree,
        env={**os.environ, "COLUMNS": "400", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    verdicts = dict(re.findall(r"^(.+?) (KEPT|BROKEN)\b", run.stdout, re.MULTILINE))
    assert set(verdicts) == set(CONTRACTS.values()), run.stdout + run.stderr
    return {contract for contract, name in CONTRACTS.items() if verdicts[name] == "BROKEN"}


def test_every_contract_is_kept(tree: Path) -> None:
    assert broken_contracts(tree) == set()


@pytest.mark.parametrize(("contract", "file", "line"), MUTATIONS, ids=[f"{c} {f}" for c, f, _ in MUTATIONS])
def test_one_bad_line_breaks_exactly_its_contract(tree: Path, contract: str, file: str, line: str) -> None:
    path = tree / file
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        assert broken_contracts(tree) == {contract}
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)


def test_every_contract_has_a_line_that_breaks_it() -> None:
    assert {contract for contract, _, _ in MUTATIONS} == set(CONTRACTS)


def faults_of_host_code(source: str, name: str) -> Iterator[str]:
    """What keeps a module from running inside any host: newer syntax than 3.9, or something that must be installed."""
    try:
        module = ast.parse(source, name, feature_version=(3, 9))
    except SyntaxError as error:
        yield f"{name}: {error.msg}, line {error.lineno}"
        return
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported = [node.module or ""]
        else:
            continue
        for full in imported:
            if full.partition(".")[0] not in {"integrations", *sys.stdlib_module_names}:
                yield f"{name}: imports {full}, line {node.lineno}"
    # `str | None` in a signature is evaluated by 3.9 unless annotations stay text.
    annotated = any(isinstance(node, (ast.FunctionDef, ast.AnnAssign)) for node in ast.walk(module))
    if annotated and "from __future__ import annotations" not in source:
        yield f"{name}: lacks 'from __future__ import annotations'"


@pytest.mark.parametrize("path", sorted((ROOT / "integrations").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_what_runs_in_a_host_is_standard_library_and_python_3_9(path: Path) -> None:
    assert list(faults_of_host_code(path.read_text(), path.name)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import numpy",
        "def late():\n    from pydantic import BaseModel",
        "from farm.wire import Hello",
        "match 1:\n    case 1: pass",
        "def f(a: str | None) -> None: ...",
    ],
)
def test_the_check_of_host_code_would_notice(source: str) -> None:
    assert list(faults_of_host_code(source, "bad.py"))
