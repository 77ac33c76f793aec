"""One folder a service, one process a replica."""
