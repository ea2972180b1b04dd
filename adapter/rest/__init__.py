"""The HTTP interface of WeCom."""
