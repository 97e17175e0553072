"""The gRPC face: a servicer decodes, calls a use case and encodes. Only this package knows the contract's messages."""
