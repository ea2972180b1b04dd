"""WeCom and nothing but: translates its callbacks and frames into the contract and back."""
