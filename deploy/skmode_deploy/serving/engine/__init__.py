"""Answer REST and gRPC from one service."""
