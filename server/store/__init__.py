"""Turn rows: inbox, outbox, memory and log in one table."""
