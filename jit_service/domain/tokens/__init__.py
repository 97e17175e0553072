"""Tokens of grants, and the keys that sign them."""
