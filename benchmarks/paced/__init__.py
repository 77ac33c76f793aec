"""Replicas whose speed is known: what a balancer makes of them can be held against the ideal."""
