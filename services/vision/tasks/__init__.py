"""The tasks of vision, one a file."""
