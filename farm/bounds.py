"""What a show asks of its results: a JSON file of show → task → measure → bound, with `*` for every show or task.

{"*": {"*": {"confidence": {"least": 0.2}}}, "dune": {"roto": {"flicker": {"most": 3}}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from farm.settings import SettingsError
from pipeline.tasks.definition import Bound

Bounds = Mapping[str, Mapping[str, Mapping[str, Bound]]]
_BOUNDS: TypeAdapter[dict[str, dict[str, dict[str, Bound]]]] = TypeAdapter(dict[str, dict[str, dict[str, Bound]]])


def read_bounds(path: Path | None) -> Bounds:
    """The bounds of a file, none without one. Read anew for every submission: a show changes its mind without a restart.

    Raises: SettingsError (gone, not JSON, not of this shape).
    """
    if path is None:
        return {}
    try:
        return _BOUNDS.validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(
            f"the bounds file {path} can't be read: {error.strerror}", "see PLATEWRIGHT_BOUNDS_FILE"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = " › ".join(map(str, first["loc"]))
        raise SettingsError(
            f"the bounds file {path}{f', at {where}' if where else ''}: {first['msg']}",
            'write {"SHOW": {"TASK": {"MEASURE": {"least": 0.5}}}}',
        ) from error
