"""`plates rules`: what a show's rules are, and whether their files can be used. Reads the files; asks no dispatcher."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from farm.cli.connect import settings

_SETTING = "PLATEWRIGHT_RULES"


@click.group()
def rules() -> None:
    """The rules of a studio and its shows: which weights, whose clearance, how much."""


@rules.command("check")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def check(folder: Path | None, as_json: bool) -> None:
    """Look through every rule file of FOLDER, by default the dispatcher's; ends with 1 when something is wrong."""
    from farm.rules import Looked, look_through
    from pipeline.errors import RuleError

    folder = folder or settings().rules
    if folder is None:
        raise click.UsageError(f"name a FOLDER, or set {_SETTING}")
    try:
        looked = look_through(folder)
    except RuleError as error:
        looked = Looked((), error.faults, ())
    if as_json:
        click.echo(json.dumps(asdict(looked)))
    else:
        for name in looked.good:
            click.echo(f"ok   {name}")
        for name in looked.ignored:
            click.echo(f"--   {name}: no rule file, so nobody reads it")
        for fault in looked.faults:
            click.echo(f"BAD  {fault.where}: {fault.message}")
            if fault.hint:
                click.echo(f"       {fault.hint}")
    sys.exit(1 if looked.faults else 0)


@rules.command("show")
@click.argument("show")
@click.option("--studio", metavar="NAME", help="Whose show it is (default: the dispatcher's own studio).")
@click.option("--folder", type=click.Path(path_type=Path), help=f"The rules' folder (default: {_SETTING}).")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def show_(show: str, studio: str | None, folder: Path | None, as_json: bool) -> None:
    """Print every rule that holds for SHOW, and the file that says it."""
    from farm.rules import read_rules

    here = settings()
    studio = studio or here.studio
    held = read_rules(folder or here.rules, studio, show)
    if as_json:
        said = {key: {"value": value, "file": held.source(key)} for key, value in held.values.items()}
        files = [asdict(file) for file in held.files]
        click.echo(json.dumps({"studio": studio, "show": show, "files": files, "rules": said}))
        return
    if not held.values:
        click.echo(f"no rule holds for {show} of {studio}: everything is allowed but training without consent")
    lines = {f"{key} = {json.dumps(value)}": held.source(key) for key, value in held.values.items()}
    width = max(map(len, lines), default=0)
    for line, source in lines.items():
        click.echo(f"{line:{width}}  # {source}")
