"""What imports, training, routing and the instruments cost, and what large or wide input costs."""
