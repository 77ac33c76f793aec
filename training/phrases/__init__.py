"""Makes the starter model `phrases`: patterns and slots in, a small translator with its card out."""
