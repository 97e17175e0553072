"""What service and client must spell and compare alike."""
