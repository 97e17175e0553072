"""Streams that resume from a place: changes of grants, of a replica's state, of the audit log."""
