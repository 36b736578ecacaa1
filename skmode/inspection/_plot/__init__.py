"""Pictures of what the instruments find; matplotlib is imported when one is drawn."""
