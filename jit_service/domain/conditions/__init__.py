"""Conditions of policies: expressions, the signals they read, and the context of a request."""
