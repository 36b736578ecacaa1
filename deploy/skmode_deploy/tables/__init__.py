"""Tables in files: read in blocks, answered, written."""
