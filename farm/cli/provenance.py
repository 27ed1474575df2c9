"""`plates provenance`: does a published version still hold, and who signed it? Looks at files alone; asks no dispatcher."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from farm.cli.main import EXIT_REFUSED

if TYPE_CHECKING:
    from pipeline.publish.verify import Verification

_SHOWN = 20


@click.command("provenance")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--trust",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PEM",
    help="Certificates that may vouch for whoever signed; then an unsigned version doesn't hold.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
def provenance(target: Path, trust: Path | None, as_json: bool) -> None:
    """Verify a published version, named by its folder or its sidecar.

    Decodes every frame and compares it with the sidecar; verifies every C2PA manifest. Ends with 3 when something doesn't hold.
    """
    # Imported here: it decodes frames, and help must stay quick.
    from pipeline.errors import StorageError
    from pipeline.publish.verify import verify_version

    try:
        anchors = None if trust is None else trust.read_bytes()
    except OSError as error:
        raise StorageError(f"{trust} can't be read: {error.strerror}", "give a PEM file") from error
    found = verify_version(target.absolute(), anchors=anchors)
    if as_json:
        click.echo(json.dumps(found.as_json()))
    else:
        for line in _lines(found, trusting=trust is not None):
            click.echo(line)
    sys.exit(0 if found.holds else EXIT_REFUSED)


def _lines(found: Verification, *, trusting: bool) -> list[str]:
    record, model = found.record, found.record.get("model") or {}
    weights = f", sha256 {model['sha256']}" if model.get("sha256") else ""
    lines = [
        f"{found.version}, frames {found.frames}",
        f"  made     {record.get('created', '')} by {record.get('user') or 'nobody named'}, job {record.get('job')}, {record.get('task')}",
        f"  model    {model.get('name') or 'none named'}{weights}",
        f"  licence  {model.get('licence') or 'not known'}",
    ]
    for one in found.signatures:
        trust = "trusted" if one.trusted else "vouched for by none that is trusted" if trusting else "trust not asked"
        lines.append(f"  signed   by {one.name} ({one.issuer}), {one.algorithm}, serial {one.serial}; {trust}")
    if not found.signed:
        lines.append("  signed   no")
    for fault in found.faults[:_SHOWN]:
        where = "the version" if fault.frame is None else f"frame {fault.frame}"
        lines.append(f"  BAD      {where}: {fault.message}")
    if len(found.faults) > _SHOWN:
        lines.append(f"  BAD      and {len(found.faults) - _SHOWN} more; all of them with --json")
    if found.holds:
        lines.append("  holds    every frame is what was published")
    else:
        lines.append(f"  differs  {f'frames {found.differ}' if found.differ else 'the version itself'}")
    return lines
