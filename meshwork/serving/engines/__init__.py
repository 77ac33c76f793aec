"""What executes a network: named arrays in, named arrays out, by torch or another engine."""
