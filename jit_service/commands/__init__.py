"""The operator's commands that do not run a service, and what all commands share."""
