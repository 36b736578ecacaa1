"""A mixture evaluated on rows: found, run once, compared with the truth, counted."""
