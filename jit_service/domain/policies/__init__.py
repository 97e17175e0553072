"""Policies, the difference between two sets of them, and proposals to change them."""
