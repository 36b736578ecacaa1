"""gRPC: the service of the Open Inference Protocol, with the same limits as REST."""
