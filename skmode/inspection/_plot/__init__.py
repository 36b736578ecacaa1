"""Displays of the results; matplotlib is imported when one is drawn."""
