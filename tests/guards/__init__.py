"""Guards, before real servers."""
