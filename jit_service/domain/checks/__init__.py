"""The decision of a check, and of everything else that asks as a check does."""
