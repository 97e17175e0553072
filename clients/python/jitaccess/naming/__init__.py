"""Names: what the service and its clients must spell alike."""
