"""The Open Inference Protocol (KServe V2, Triton): a replica's models as named tensors, in gRPC and REST."""
