"""The just-in-time access service."""
