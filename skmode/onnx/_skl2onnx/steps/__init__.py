"""Steps before an estimator."""
