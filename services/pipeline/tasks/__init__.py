"""The tasks of pipeline, one a file."""
