"""One question a file; each prints one JSON line last. `make bench` runs them all."""
