"""The live view of a mesh in a terminal: what `meshwork top` shows."""
