"""Tables in files: read in chunks, scored, written."""
