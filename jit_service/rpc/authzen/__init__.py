"""AuthZEN 1.0: Check and Search in that standard's words."""
