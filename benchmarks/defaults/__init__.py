"""Question every default by inner validation, one change at a time."""
