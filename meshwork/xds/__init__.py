"""xDS: resources to snapshot to subscription to wire. Knows no AI."""
