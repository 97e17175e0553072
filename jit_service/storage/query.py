"""Filters, orders and positions as SQL, the same on SQLite and PostgreSQL."""
