"""Notifications: who receives them, and how they are delivered."""
