"""The rows of a fit: which of them validate, what a teacher predicts for them, and made-up ones."""
