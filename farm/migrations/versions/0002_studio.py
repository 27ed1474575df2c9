"""What a studio learns, likes, allows and pays: models, their scores and promotions, reviews, presets, clearances, costs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pipeline.errors import StorageError

revision = "0002"
down_revision: str | None = "0001"

_TABLES = ("preset", "review", "clearance", "held_out", "score", "promotion", "model")
WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """From 0001: what was submitted before was plate work for no stated use, and cost what nobody counted."""
    op.add_column("job", sa.Column("kind", sa.Text(), nullable=False, server_default="plate"))
    op.add_column("job", sa.Column("use", sa.Text(), nullable=False, server_default=""))
    op.add_column("job", sa.Column("estimate", sa.Text(), nullable=False, server_default=""))
    op.add_column("take", sa.Column("preset", sa.Text(), nullable=False, server_default=""))
    op.add_column("attempt", sa.Column("gpus", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("attempt", sa.Column("rate", sa.Float(), nullable=False, server_default="0"))
    op.create_index("ix_attempt_started", "attempt", ["started_at"], unique=False)
    op.create_table(
        "model",
        sa.Column("id", WHOLE, autoincrement=True, nullable=False),
        sa.Column("studio", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("base_model", WHOLE, nullable=True),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("job", WHOLE, nullable=True),
        sa.Column("lineage", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("retired_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("studio", "task", "name", "number", name="uq_model_name"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_model_sha256", "model", ["sha256"], unique=False)
    op.create_table(
        "promotion",
        sa.Column("id", WHOLE, autoincrement=True, nullable=False),
        sa.Column("studio", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("model", WHOLE, nullable=True),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_promotion_alias", "promotion", ["studio", "task", "alias", "id"], unique=False)
    op.create_table(
        "score",
        sa.Column("id", WHOLE, autoincrement=True, nullable=False),
        sa.Column("studio", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("model", WHOLE, nullable=True),
        sa.Column("job", WHOLE, nullable=False),
        sa.Column("protocol", sa.Text(), nullable=False),
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("shots", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["job.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_score_model", "score", ["studio", "task", "model", "id"], unique=False)
    op.create_table(
        "held_out",
        sa.Column("studio", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("show", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Text(), nullable=False),
        sa.Column("shot", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("studio", "task", "show", "sequence", "shot"),
    )
    op.create_table(
        "clearance",
        sa.Column("id", WHOLE, autoincrement=True, nullable=False),
        sa.Column("studio", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("show", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Text(), nullable=False),
        sa.Column("shot", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("recorded_by", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("given_at", sa.Float(), nullable=False),
        sa.Column("withdrawn_at", sa.Float(), nullable=True),
        sa.Column("withdrawn_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_clearance_show", "clearance", ["studio", "show", "kind"], unique=False)
    op.create_table(
        "review",
        sa.Column("id", WHOLE, autoincrement=True, nullable=False),
        sa.Column("studio", sa.Text(), nullable=False),
        sa.Column("version", WHOLE, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["version.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_review_version", "review", ["version", "id"], unique=False)
    op.create_table(
        "preset",
        sa.Column("id", WHOLE, autoincrement=True, nullable=False),
        sa.Column("studio", sa.Text(), nullable=False),
        sa.Column("show", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("retired_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "uq_preset_name",
        "preset",
        ["studio", "show", "task", "name"],
        sqlite_where=sa.text("retired_at IS NULL"),
        postgresql_where=sa.text("retired_at IS NULL"),
        unique=True,
    )


def downgrade() -> None:
    """Back to 0001, which knows nothing of what a studio learned, likes, allows or trains: while there is none of it.

    Raises: StorageError.
    """
    held = [name for name in _TABLES if _any(sa.table(name))]
    job = sa.table("job", sa.column("kind"))
    if _any(job, job.c.kind != "plate"):
        held.append("jobs that train, judge or replay")
    if held:
        raise StorageError(
            f"the database can't go back: it holds {', '.join(held)}", "take the copy from before the upgrade"
        )
    for table in _TABLES:
        op.drop_table(table)
    op.drop_index("ix_attempt_started", "attempt")
    # Column by column: to copy a table, SQLite would drop the old one, and with it what refers to it.
    for table, column in (
        ("attempt", "rate"),
        ("attempt", "gpus"),
        ("take", "preset"),
        ("job", "estimate"),
        ("job", "use"),
        ("job", "kind"),
    ):
        op.drop_column(table, column)


def _any(table: sa.TableClause, *where: sa.ColumnElement[bool]) -> bool:
    return op.get_bind().execute(sa.select(sa.literal(1)).select_from(table).where(*where).limit(1)).first() is not None
