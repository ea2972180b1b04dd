"""Files of messages: fetched from WeCom with care, and put up there."""
