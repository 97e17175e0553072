"""Requests at another Envoy: admit them, and end those whose grant is over."""
