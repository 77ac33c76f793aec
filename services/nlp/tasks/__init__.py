"""The tasks of nlp, one a file."""
