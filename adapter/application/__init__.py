"""A self-built application (自建应用): callbacks in, ``message/send`` out."""
