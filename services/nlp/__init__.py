"""Models that read."""
