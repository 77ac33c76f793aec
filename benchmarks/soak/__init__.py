"""What `longrun` is made of: mixed load, and what the mesh's processes hold while it runs."""
