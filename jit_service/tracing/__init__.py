"""What is collected of a sampled call, and how it is exported as a trace (docs/adr/0069-trace-sampled-calls.md)."""
