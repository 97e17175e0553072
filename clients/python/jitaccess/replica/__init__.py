"""Checks answered in this process, by a copy of what the service judges by."""
