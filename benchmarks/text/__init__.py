"""Models of texts, beside what they compete with."""
