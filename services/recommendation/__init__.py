"""Models that recommend."""
