"""Runs a whole mesh on one machine: starts its processes, restarts those that crash, stops them all."""
