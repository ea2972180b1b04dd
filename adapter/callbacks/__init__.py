"""What every door that WeCom calls has in common."""
