"""The audit log: its records, their hash chain, and checkpoints of it."""
