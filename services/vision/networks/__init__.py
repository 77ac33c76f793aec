"""The networks of vision, one a file."""
