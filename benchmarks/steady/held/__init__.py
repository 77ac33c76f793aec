"""A model that holds its device for a known time."""
