"""The tasks of translation, one a file."""
