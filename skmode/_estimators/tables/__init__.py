"""What is particular to tables: reading their rows, and the trunk behind them."""
