"""Serve bundles to requests: what is common to all engines, and the engines themselves.

`tensors`, `model`, `repository`, `metrics` and `admission` know of no engine. `kserve_engine` and
`grpc_server` put them behind KServe's implementation of the Open Inference Protocol.
"""
