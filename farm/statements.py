"""Statements that run thousands of times a minute, kept as the driver takes them.

SQLAlchemy spends about 0.1 ms on each execution of even a prepared statement, several times what SQLite does. The queue's
own statements are marked `hot` where they are declared; they are compiled once for each database, and from then on
their text and values go straight to the driver. They hold only numbers and text, which need no conversion.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy import Dialect, Executable, Insert
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

E = TypeVar("E", bound=Executable)
_HOT: dict[int, Executable] = {}
_NAMED: Any = namedtuple
"""Without its type: a checker wants the names of the columns spelled out."""


def hot(statement: E) -> E:
    """Mark a statement that lives as long as the program: it is compiled once and kept."""
    _HOT[id(statement)] = statement
    return statement


def is_hot(statement: object) -> bool:
    """Whether a statement was marked."""
    return id(statement) in _HOT


class Prepared:
    """A statement's text, how its values are handed over, and what its rows are called."""

    def __init__(self, statement: Executable, dialect: Dialect, columns: Sequence[str] | None) -> None:
        keys = None if columns is None else list(columns)
        compiled = cast("ClauseElement", statement).compile(dialect=dialect, column_keys=keys)
        assert isinstance(compiled, SQLCompiler)
        # A list of unknown length would have to be spelled out anew each time.
        assert not compiled.post_compile_params, compiled.string
        self.text = compiled.string
        self._order = None if compiled.positiontup is None else tuple(compiled.positiontup)
        self._names = tuple(compiled.binds)
        self._fixed = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        self._row: Callable[..., Any] | None = None

    def values(self, given: Mapping[str, Any]) -> Sequence[Any] | Mapping[str, Any]:
        """The values as the driver wants them: in order, or by name. Raises: KeyError when one wasn't given."""
        every = {**self._fixed, **given}
        if self._order is None:
            return {name: _storable(every[name]) for name in self._names}
        return [_storable(every[name]) for name in self._order]

    def rows(self, cursor: Any) -> list[Any]:
        """What the driver found, with the columns as attributes."""
        if self._row is None:
            names = [column[0] for column in cursor.description]
            self._row = _NAMED("Row", names, rename=True)._make
        return [self._row(row) for row in cursor.fetchall()]


class Statements:
    """The hot statements of one database, compiled as they are first used."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._prepared: dict[tuple[int, frozenset[str]], Prepared] = {}

    def prepared(self, statement: Executable, given: Mapping[str, Any]) -> Prepared:
        """The statement for this database; an INSERT is another one for other columns."""
        columns = given.keys() if isinstance(statement, Insert) else ()
        key = (id(statement), frozenset(columns))
        found = self._prepared.get(key)
        if found is None:
            found = self._prepared[key] = Prepared(statement, self._dialect, list(columns) or None)
        return found


def _storable(value: Any) -> Any:
    """PostgreSQL's text can't hold a NUL, which a worker's message may well contain."""
    return value.replace("\x00", "\ufffd") if isinstance(value, str) and "\x00" in value else value
