"""Bare ``Converse`` on grpc.aio: answers every request with a turn of the product's size."""

import time
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from bench import place, upstream
from bench.baselines import serving
from weconverse.v1 import conversation_pb2 as pb

_REPLY = pb.Content(parts=[pb.Part(text=upstream.reply_text("", 2, 64))])


async def _converse(request: pb.ConverseRequest, _context: Any) -> pb.ConverseResponse:
    now = Timestamp(seconds=int(time.time()))
    turn = pb.Turn(
        name=f"{request.conversation}/turns/{request.request_id or '0123456789abcdef'}",
        state=pb.Turn.SUCCEEDED,
        input=request.input,
        reply=_REPLY,
        finish_reason=pb.Turn.STOP,
        cache_outcome=pb.Turn.HIT,
        model="default",
        create_time=now,
        end_time=now,
        sender=request.sender,
        assistant="assistants/default",
        channel=request.channel,
    )
    return pb.ConverseResponse(turn=turn)


if __name__ == "__main__":
    place.run(serving.serve(converse=_converse), fast_loop=False)
