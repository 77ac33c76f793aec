"""The networks of speech."""
