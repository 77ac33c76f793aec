"""The networks of the translation service: one a file."""
