"""The gRPC face: decode, call, encode. The only place that knows the contract messages."""
