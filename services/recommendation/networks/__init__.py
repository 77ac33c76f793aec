"""The networks of recommendation, one a file."""
