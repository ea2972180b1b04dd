"""Who may use which assistant."""
