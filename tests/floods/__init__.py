"""One caller against all: what `make floods` measures (docs/limits.md)."""
