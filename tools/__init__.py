"""What developers run: `make generate`."""
