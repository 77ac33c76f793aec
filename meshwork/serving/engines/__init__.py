"""What executes a network: named arrays in, named arrays out, one file an engine."""
