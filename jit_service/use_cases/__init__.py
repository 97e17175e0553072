"""The use cases: each is one transaction, which begins and ends here."""
