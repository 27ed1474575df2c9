"""Every real export: how many clips, how many contexts, what is refused and why. `python benchmarks/edits.py`

Reads `$PLATEWRIGHT_DATA/edits`, else `../shared/data/edits`.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.edit.otio_in import edit_contexts, read_timeline
from pipeline.errors import PipelineError

HANDLES = 8


def main() -> int:
    """Print the table. 1 when a file neither parses nor is refused with a reason."""
    root = Path(os.environ.get("PLATEWRIGHT_DATA", Path(__file__).parents[2] / "shared" / "data")) / "edits"
    paths = sorted(path for path in root.glob("*/*") if path.is_file())
    if not paths:
        print(f"skipped: no edits under {root}; set PLATEWRIGHT_DATA")
        return 0
    table = Table(
        title=f"{len(paths)} real edits, {HANDLES} handles, {platform.machine()}, Python {platform.python_version()}"
    )
    for name in ("file", "contexts", "jobs possible", "missing", "warned", "ms", "refused, and why"):
        table.add_column(name, overflow="fold", justify="right" if name not in {"file", "refused, and why"} else "left")
    broken = 0
    for path in paths:
        start = time.perf_counter()
        cells: tuple[str, ...]
        try:
            found = edit_contexts(read_timeline(path), handles=HANDLES)
            why = Counter(reason for one in found for reason in one.refusals)
            lines = "\n".join(f"{count} × {reason}" for reason, count in why.items())
            jobs = sum(not one.refusals for one in found)
            counts = (
                len(found),
                jobs,
                sum(bool(one.missing) for one in found),
                sum(bool(one.warnings) for one in found),
            )
            cells = (*map(str, counts), "", lines)
        except PipelineError as error:
            cells = ("0", "0", "", "", "", f"the file: {error.message}; {error.hint}")
        except Exception as error:
            broken += 1
            cells = ("", "", "", "", "", f"BROKEN {type(error).__name__}: {error}")
        spent = f"{(time.perf_counter() - start) * 1e3:.0f}"
        row = (str(path.relative_to(root)), *cells[:4], spent, cells[5])
        table.add_row(*map(Text, row))
    Console(width=150).print(table)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
