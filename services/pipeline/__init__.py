"""Runs pipelines: calls of several services as one."""
