"""The contract in Python: the calls of each service, and the messages as dataclasses."""
