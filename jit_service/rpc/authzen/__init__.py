"""AuthZEN 1.0: Check and Search by that standard's API."""
