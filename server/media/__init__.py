"""What people send beside text, turned into what models read: documents, pictures, recordings."""
