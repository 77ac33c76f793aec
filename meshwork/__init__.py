"""Meshwork: AI models as typed gRPC services that anyone can run."""

__version__ = "0.1.0"
