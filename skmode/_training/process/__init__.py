"""What a fit shares with others: its process, and the processes that run it together with it."""
