"""What every part of the package may use; it imports nothing of skmode but its version."""
