"""Meshwork: AI models as typed gRPC services that anyone can run."""
