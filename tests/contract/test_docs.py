"""What the documents promise to list, they list: settings, routes, failure kinds, commands, kinds. And links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from farm.api import workers
from farm.cli.main import COMMANDS
from farm.settings import PREFIX, FarmSettings
from farm.states import FailureKind
from farm.wire import Assignment, ClaimBody, CompleteBody, FailBody, Hello, ProgressBody, Wire
from pipeline.colorspace import CONFIG_NAMES
from pipeline.parameters import Kind
from pipeline.tasks.definition import TaskDefinition

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SKIPPED = {".venv", "node_modules", "demo"}
PAGES = sorted(p for p in ROOT.rglob("*.md") if not SKIPPED & set(p.relative_to(ROOT).parts) and ".git" not in p.parts)
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))


def text(name: str) -> str:
    return (ROOT / name).read_text()


def table_row(page: str, first_cell: str) -> re.Match[str] | None:
    """The row of any table whose first cell is this, as code."""
    return re.search(rf"^\| `{re.escape(first_cell)}` \| (.+) \|$", page, re.MULTILINE)


@pytest.mark.parametrize("name", [field.name for field in fields(FarmSettings)])
def test_every_setting_has_its_line_with_its_default(name: str) -> None:
    row = table_row(text("docs/settings.md"), PREFIX + name.upper())
    assert row is not None, f"{PREFIX}{name.upper()} is not in docs/settings.md"
    (field,) = (field for field in fields(FarmSettings) if field.name == name)
    if isinstance(field.default, int | float) or (field.default and isinstance(field.default, str)):
        assert row[1].startswith(f"`{field.default}` |"), f"its default is {field.default}"


def test_no_setting_is_documented_that_is_not_read_anywhere() -> None:
    documented = set(re.findall(rf"^\| `({PREFIX}[A-Z_]+)`", text("docs/settings.md"), re.MULTILINE))
    read = {PREFIX + field.name.upper() for field in fields(FarmSettings)}
    sources = [
        p for folder in ("farm", "pipeline", "scripts", "tests") for p in (ROOT / folder).rglob("*") if p.is_file()
    ]
    for source in sources:
        if source.suffix in (".py", "") and source != Path(__file__):
            read |= set(re.findall(rf"{PREFIX}[A-Z_]+", source.read_text()))
    assert documented <= read


@pytest.mark.parametrize("kind", FailureKind)
def test_every_failure_kind_has_its_line(kind: FailureKind) -> None:
    assert table_row(text("docs/worker_protocol.md"), kind)


@pytest.mark.parametrize(
    "route", [f"{m} {r.path}" for r in workers.router.routes if isinstance(r, APIRoute) for m in sorted(r.methods)]
)
def test_every_route_of_workers_has_its_line(route: str) -> None:
    assert table_row(text("docs/worker_protocol.md"), route)


@pytest.mark.parametrize("body", [Hello, ClaimBody, ProgressBody, CompleteBody, FailBody, Assignment])
def test_every_field_that_travels_to_or_from_a_worker_is_named(body: type[Wire]) -> None:
    page = text("docs/worker_protocol.md")
    assert f"`{body.__name__}`" in page
    assert [name for name in body.model_fields if f"`{name}`" not in page] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_mentioned(command: str) -> None:
    pages = "\n".join(page.read_text() for page in (ROOT / "README.md", *DOCS.glob("*.md")))
    assert re.search(rf"`plates {command}\b|^plates {command}\b|(?<=`, `){command}`", pages, re.MULTILINE)


def test_every_group_of_entry_points_is_explained() -> None:
    groups = tomllib.loads(text("pyproject.toml"))["project"]["entry-points"]
    assert groups
    assert [group for group in groups if f"`{group}`" not in text("docs/extending.md")] == []


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_parameter_has_its_line(kind: Kind) -> None:
    assert table_row(text("docs/extending.md"), kind)


def test_every_field_of_a_task_definition_is_explained() -> None:
    page = text("docs/extending.md")
    shown_in_the_example = {"label", "help", "parameters"}
    assert [
        field.name
        for field in fields(TaskDefinition)
        if field.name not in shown_in_the_example and not table_row(page, field.name)
    ] == []


@pytest.mark.parametrize("space", CONFIG_NAMES)
def test_every_colour_space_has_its_line(space: str) -> None:
    row = table_row(text("docs/formats.md"), space)
    assert row is not None
    assert row[1].startswith(CONFIG_NAMES[space])


def test_the_example_stands_in_the_page_as_it_runs() -> None:
    page = text("docs/extending.md")
    definition = text("examples/task_luma_key/luma_key/definition.py")
    assert definition[definition.index("class LumaKeyParameters") :].strip() in page


def test_every_contract_of_the_layers_is_explained() -> None:
    contracts = tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    page = text("docs/architecture.md")
    assert [contract["id"] for contract in contracts if not table_row(page, contract["id"])] == []


def test_every_module_of_a_layer_stands_in_the_architecture() -> None:
    contracts = tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    drawn = set(re.findall(r"\w+", text("docs/architecture.md").split("## Words")[0]))
    layered = {
        module.strip()
        for contract in contracts
        for row in (contract.get("layers", ()) if contract.get("containers") else ())
        for module in row.split("|")
    }
    assert layered - drawn == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = page if not path else (page.parent / path)
        assert found.exists(), f"{target} in {page.name}"
        if anchor:
            assert anchor in _anchors(found), f"{target} in {page.name}"


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", DECISIONS, ids=lambda p: p.stem)
def test_a_decision_says_its_context_its_options_and_its_outcome(page: Path) -> None:
    titles = re.findall(r"^(#+ .+)$", page.read_text(), re.MULTILINE)
    assert titles[0].startswith(f"# {page.name[:4]}. ")
    assert titles[1:4] == ["## Context", "## Options", "## Outcome"]
    assert f"]({page.name})" in text("docs/decisions/README.md")


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [page.name[:4] for page in DECISIONS] == [f"{n:04d}" for n in range(1, len(DECISIONS) + 1)]


def test_pages_that_the_code_names_are_there() -> None:
    named: set[str] = set()
    for folder in ("farm", "pipeline", "integrations"):
        for source in (ROOT / folder).rglob("*.py"):
            named |= set(re.findall(r"docs/[\w/]+\.md", source.read_text()))
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
