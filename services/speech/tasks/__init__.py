"""The tasks of speech, one a file."""
