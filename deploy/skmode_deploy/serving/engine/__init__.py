"""REST and gRPC around the models."""
