"""Text as WeCom shows it: cut, degraded, cleaned. Pure."""
