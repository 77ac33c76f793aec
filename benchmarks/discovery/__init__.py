"""What `benchmarks.control_plane` runs beside itself: leases, a router that is watched, and clients."""
