"""One file a peer: the workload's function behind that server; BENCH_ variables say which and how."""
