"""A mesh that costs little, for benchmarks and tests that count calls: models without a network."""
