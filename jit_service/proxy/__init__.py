"""HTTP requests at an Envoy that asks the service: admits them, and ends those whose grant has ended."""
