"""From what a user passes to tensors."""
