"""Alembic migrations. A released one never changes."""
