"""What an operator sees: metrics and traces."""
