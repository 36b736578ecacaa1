"""Read tables from files in chunks, score them, write the answers."""
