"""The languages that callers write: names, patterns, filters, page tokens, addresses."""
