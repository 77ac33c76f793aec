"""The networks of NLP, one a file."""
