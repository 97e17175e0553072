"""Grants: their requests, approvals, transitions and locks."""
