"""The tasks of recommendation, one a file."""
