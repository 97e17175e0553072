"""What the service costs, in ratios of interleaved rounds, beside floors and peers; docs/benchmarks.md shows it."""
