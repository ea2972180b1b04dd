"""Model backends: one provider a file, one router in front of them."""
