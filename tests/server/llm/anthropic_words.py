"""Events of a Messages API, as Anthropic writes them."""

import json


def event(kind: str, **fields: object) -> bytes:
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def delta(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def thought(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": text})


def stop(reason: str = "end_turn", **usage: object) -> bytes:
    return event(
        "message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage or {"output_tokens": 7}
    )


START = event(
    "message_start",
    message={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "claude",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 1},
    },
)
END = event("message_stop")
WHOLE = (
    START
    + event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    + event("ping")
    + delta("你好")
    + event("content_block_stop", index=0)
    + stop()
    + END
)
"""A stream of one short reply."""
