"""The client's replica, against the service's own rules."""
