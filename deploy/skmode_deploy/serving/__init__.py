"""Serve bundles by the Open Inference Protocol V2, REST and gRPC.

From the bottom up: `protocol` reads and writes tensors, `transport` bounds connections and
requests, `observe` counts and logs, `models` keeps the versions in memory, `engine` responds.
"""
