"""Read tables from files in chunks, score them, and write the predictions."""
