"""Signed tokens and checkpoints: what the service and its clients must verify alike."""
