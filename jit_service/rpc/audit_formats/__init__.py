"""The formats in which audit records leave the service."""
