"""The benchmark: what the service costs, in ratios of interleaved rounds, beside floors and peers. See docs/benchmarks.md."""
