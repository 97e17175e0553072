"""What the service does while something breaks: `make cluster`, `make faults` and `make kill`."""
