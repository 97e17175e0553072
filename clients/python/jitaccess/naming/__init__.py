"""Names, patterns and numbers: what the service and its clients must spell and compare alike, to the byte (ADR 44).

Nothing here imports anything but the standard library.
"""
