"""What the model sees of a conversation, and where it is read back from."""
