"""Other model servers, measured beside Meshwork: same machine, same weights, same requests, in turns.

::

    python -m benchmarks.peers install [NAME...]   # virtual environments, in .bench/ (a few GB)
    python -m benchmarks.peers data                # weights, texts, images, reference answers
    python -m benchmarks.peers run text mosec      # one peer, one workload

Only the serving layer differs. Each peer runs the network as its users do (one padded forward pass
over what its batcher hands over) with the settings that were best for it on two cores.
"""
