"""Runs the migrations on the connection that `jit_service.storage.migrate` hands over."""

from alembic import context
from sqlmodel import SQLModel

from jit_service.storage import forgotten, tables  # noqa: F401  (fill the metadata)

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    on_version_apply=context.config.attributes["on_step"],
)
with context.begin_transaction():
    context.run_migrations()
