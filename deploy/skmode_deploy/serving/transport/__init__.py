"""Connections, TLS, tokens and limits."""
