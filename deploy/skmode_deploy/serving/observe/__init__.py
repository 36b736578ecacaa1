"""Metrics, logs, drift and shadow models."""
