"""Write the golden forms anew: `python -m tests.golden.refresh`. Look at the diff before you commit it."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.parameters import describe
from pipeline.tasks.registry import tasks

FORMS = Path(__file__).parent / "forms"


def main() -> None:
    FORMS.mkdir(exist_ok=True)
    for definition in tasks():
        (FORMS / f"{definition.name}.json").write_text(
            json.dumps(describe(definition.parameters), indent=1, sort_keys=True) + "\n"
        )


if __name__ == "__main__":
    main()
