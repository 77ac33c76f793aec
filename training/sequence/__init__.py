"""Makes `sequence`, the starter model of recommendation: `python -m training.sequence`."""
