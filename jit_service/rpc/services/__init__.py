"""The servicers of the contract, one per service: each decodes, calls a use case and encodes."""
