"""A running service: its parts, its processes, the Envoy in front, and its background threads."""
