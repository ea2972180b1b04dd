"""The wire: one servicer a file, and the one place where a domain error becomes a status."""
