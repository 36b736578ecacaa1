"""Connections, certificates, tokens and limits."""
