"""The serving runtime: from a decoded request to a typed answer."""
