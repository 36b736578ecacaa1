"""Observation of the server: metrics, logs, routing drift and shadow models."""
