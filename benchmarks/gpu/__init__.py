"""What a GPU gives: answers, times, the share of its peak, and what makes the CPU wait for it."""
