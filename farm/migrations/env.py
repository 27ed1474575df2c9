"""Alembic's entry: it works on the connection that it is handed, and on nothing else."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from farm.tables import METADATA


def run() -> None:
    """Apply what was asked for, in one transaction."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=METADATA, transaction_per_migration=False)
    with context.begin_transaction():
        context.run_migrations()


run()
