"""A model that answers at once."""
