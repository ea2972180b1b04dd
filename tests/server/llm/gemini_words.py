"""Responses of Gemini, and the ways in which they are sent."""

import json
from typing import Any


def piece(text: str) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}]}


def finish(reason: str, text: str = "") -> dict[str, Any]:
    candidate: dict[str, Any] = {"finishReason": reason, "index": 0}
    if text:
        candidate["content"] = {"role": "model", "parts": [{"text": text}]}
    return {"candidates": [candidate]}


def counted(**counts: int) -> dict[str, Any]:
    return {"usageMetadata": counts}


def sse(*responses: dict[str, Any]) -> bytes:
    return b"".join(f"data: {json.dumps(one, ensure_ascii=False)}\r\n\r\n".encode() for one in responses)


WHOLE = sse(piece("你"), finish("STOP", "好") | counted(promptTokenCount=5, candidatesTokenCount=7, totalTokenCount=12))
"""A stream of one short reply."""
