"""Models that listen and speak."""
