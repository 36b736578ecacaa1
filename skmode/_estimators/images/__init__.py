"""The estimators of images: their rows are pixels, and all else is as for tables."""
