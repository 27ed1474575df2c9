"""The schema's history, applied by alembic to the connection that the store already owns: nobody needs an alembic.ini."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from pipeline.errors import StorageError


def configuration() -> Config:
    """Alembic's settings, without a file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def newest() -> str:
    """The revision that this version of the product works with."""
    head = ScriptDirectory.from_config(configuration()).get_current_head()
    assert head is not None
    return head


def upgrade(connection: Connection) -> None:
    """Bring the schema up to the newest revision, in one transaction on `connection`.

    Raises: StorageError when a newer version of the product has already moved the schema on.
    """
    config = configuration()
    current = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    if current == newest():
        return
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        connection.rollback()
        raise StorageError(
            f"the database's schema {current!r} is not known to this version",
            "start the version that wrote it, or newer",
        ) from error
    connection.commit()
