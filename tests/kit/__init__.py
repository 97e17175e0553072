"""The test kit for consumers, against the real service."""
