"""Findings: what the figures mean, in plain language, and what to do about it."""
