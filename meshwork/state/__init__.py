"""What lives in Redis, one concept a file."""
