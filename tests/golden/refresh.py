"""Write the golden forms anew: `python -m tests.golden.refresh`. Look at the diff before you commit it."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.parameters import Parameters, describe
from pipeline.tasks.registry import tasks

FORMS = Path(__file__).parent / "forms"


def main() -> None:
    FORMS.mkdir(exist_ok=True)
    for definition in tasks():
        _write(definition.name, definition.parameters)
        if definition.training is not None:
            _write(f"{definition.name}.training", definition.training.parameters)


def _write(name: str, parameters: type[Parameters]) -> None:
    (FORMS / f"{name}.json").write_text(json.dumps(describe(parameters), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
