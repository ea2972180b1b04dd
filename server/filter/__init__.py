"""What may be said and shown: word lists, personal data, and what a hit of either means. Knows no other room."""
