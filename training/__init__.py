"""Makes the starter models from nothing, and measures them: `make starters`."""
