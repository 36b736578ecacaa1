"""Models in a folder: which versions there are, which one answers."""
