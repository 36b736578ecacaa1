"""Models: found in a folder, loaded, replaced, rolled back, and asked for predictions."""
