"""Notifications: their receivers and their delivery."""
