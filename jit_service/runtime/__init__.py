"""One running service: its parts put together, its processes, Envoy in front, and its background work."""
