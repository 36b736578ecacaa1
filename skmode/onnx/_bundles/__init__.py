"""What is exported, checked and written."""
