"""`plates edit`: what a cut plays of its media, clip by clip."""

from __future__ import annotations

from typing import Any

import click


@click.command("edit")
@click.argument("file", type=click.Path())
@click.option(
    "--clip", metavar="NAME", help="Only the clips of this name; name#2 is the second of a name in cut order."
)
@click.option(
    "--handles", type=click.IntRange(0, 10_000), default=0, show_default=True, help="Record frames on either side."
)
@click.option(
    "--rate", metavar="R", help="Frames a second of a file that names none (EDL, ALE): 24, 23.976, 24000/1001."
)
@click.option("--json", "as_json", is_flag=True, help="Print the contexts as a JSON list.")
def command(file: str, clip: str | None, handles: int, rate: str | None, as_json: bool) -> None:
    """Show every clip of a timeline (OTIO, EDL, FCP 7 XML, FCPX, AAF, ALE) in whole frames of its own media.

    Frames are inclusive and in the media's numbers: file numbers for sequences, timecode frames for movies.
    """
    # The parsers may crash on a hostile file, so they run in a child; imported here, since help must stay quick.
    from farm.inspector import Inspector

    inspector = Inspector()
    try:
        arguments = {"path": file, "clip": clip, "handles": handles, "rate": rate}
        contexts: list[dict[str, Any]] = inspector.call("edit", arguments)
    finally:
        inspector.close()
    if as_json:
        import json

        click.echo(json.dumps(contexts, indent=2))
    else:
        _print_table(contexts)


def _print_table(contexts: list[dict[str, Any]]) -> None:
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table("clip", box=box.SIMPLE_HEAD, header_style="bold")
    for name in ("cut", "plays", "with handles", "available", "missing", "speed", "record"):
        table.add_column(name, overflow="fold", no_wrap=name != "missing")
    for one in contexts:
        known = one["available_first"] is not None
        cells = (
            f"{one['address']}\n  {one['shot']} · {one['rate']} fps · {one['media'] or 'no media'}",
            _span(one["cut_in"], one["cut_out"]),
            _span(one["source_first"], one["source_last"]),
            _span(one["head_in"], one["tail_out"]),
            _span(one["available_first"], one["available_last"]) if known else "?",
            " ".join(_span(a, b) for a, b in one["missing"]),
            "" if one["retime"]["speed"] == "1" else one["retime"]["speed"],
            _span(one["record_in"], one["record_out"]),
        )
        # Text objects, since a name in a stranger's timeline may hold what rich takes for markup.
        table.add_row(*map(Text, cells), style="red" if one["refusals"] else None if one["plays"] else "dim")
    console.print(table)
    for one in contexts:
        for warning in one["warnings"]:
            mark = "refused" if warning in one["refusals"] else "note"
            console.print(Text(f"{mark}: {one['address']}: {warning}"), style="red" if mark == "refused" else "yellow")


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
