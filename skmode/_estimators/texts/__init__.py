"""The estimators of texts: their rows are bags of tokens, and all else is as for tables."""
