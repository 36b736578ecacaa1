"""What a notebook shows: fitted estimators, progress bars."""
