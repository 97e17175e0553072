"""The servicers of the contract, one a service: decode, call, encode."""
