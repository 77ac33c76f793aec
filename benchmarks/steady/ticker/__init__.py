"""A model that writes at a steady pace."""
