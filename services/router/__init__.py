"""The control plane: leases to snapshot to xDS."""
