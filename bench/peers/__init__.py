"""Other engines on the same facts and the same questions."""
