"""Streams that a client can resume: changes of grants, a replica's updates, audit records."""
