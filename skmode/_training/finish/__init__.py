"""What follows early stopping: calibration on the validation rows, and the refit with all rows."""
