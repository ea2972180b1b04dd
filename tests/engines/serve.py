"""vLLM's or SGLang's gRPC service with a scripted model, on the stubs that their authors publish.

Runs in an environment of its own (``requirements-engines.lock``), so it imports nothing
of this repository: ``python serve.py vllm|sglang CONFIG``. The configuration is JSON: the
tokeniser's archive, and for each Generate in turn how it is answered. Prints a line of
JSON for its port and for each thing that happens. Serves until its input ends.
"""

import asyncio
import hashlib
import json
import sys
from pathlib import Path

import grpc
from google.protobuf.json_format import MessageToDict
from smg_grpc_proto.generated import (
    common_pb2,
    sglang_scheduler_pb2,
    sglang_scheduler_pb2_grpc,
    vllm_engine_pb2,
    vllm_engine_pb2_grpc,
)

CHUNK_BYTES = 64 * 1024


def say(**what):
    print(json.dumps(what, ensure_ascii=False), flush=True)


class Model:
    """What both services have in common; ``self.pb`` holds the messages of one."""

    def __init__(self, config):
        self.archive = Path(config["archive"]).read_bytes()
        self.answers = config["answers"]
        self.asked = 0

    async def Generate(self, request, context):
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        say(request=MessageToDict(request, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
        whole = False
        try:
            async for response in self.answer(request, answer, context):
                yield response
            whole = True
        finally:
            # gRPC cancels what waits, and closes what has just given a message.
            if not whole:
                say(left=request.request_id)

    async def answer(self, request, answer, context):
        ids, size, read = answer["ids"], answer.get("size", 1), len(request.tokenized.input_ids)
        part = []
        for at in range(0, len(ids), size):
            part = ids[at : at + size]
            yield self.chunk(request, part, read, at + len(part))
        if answer.get("hangs"):
            await asyncio.Event().wait()
        if "status" in answer:
            await context.abort(grpc.StatusCode[answer["status"]], answer.get("words", ""))
        yield self.complete(request, part, answer.get("finish", "stop"), read, len(ids))

    async def HealthCheck(self, request, context):
        return self.pb.HealthCheckResponse(healthy=True, message="ok")

    async def GetModelInfo(self, request, context):
        return self.pb.GetModelInfoResponse(
            model_path="/models/tiny",
            served_model_name="tiny",
            is_generation=True,
            max_context_length=512,
            default_sampling_params_json=json.dumps({"top_k": 20, "repetition_penalty": 1.25}),
        )

    async def GetTokenizer(self, request, context):
        for at in range(0, len(self.archive), CHUNK_BYTES):
            last = at + CHUNK_BYTES >= len(self.archive)
            yield common_pb2.GetTokenizerChunk(
                data=self.archive[at : at + CHUNK_BYTES],
                sha256=hashlib.sha256(self.archive).hexdigest() if last else "",
            )


class Vllm(Model, vllm_engine_pb2_grpc.VllmEngineServicer):
    """Counts the tokens of each message alone, and repeats the last ones at the end."""

    pb = vllm_engine_pb2

    def chunk(self, request, part, read, written):
        return self.pb.GenerateResponse(
            chunk=self.pb.GenerateStreamChunk(token_ids=part, prompt_tokens=read, completion_tokens=len(part))
        )

    def complete(self, request, part, finish, read, written):
        return self.pb.GenerateResponse(
            complete=self.pb.GenerateComplete(
                output_ids=part, finish_reason=finish, prompt_tokens=read, completion_tokens=len(part), cached_tokens=3
            )
        )

    async def Abort(self, request, context):
        say(aborted=request.request_ids[0])
        return self.pb.AbortResponse()


class Sglang(Model, sglang_scheduler_pb2_grpc.SglangSchedulerServicer):
    """Counts all tokens so far."""

    pb = sglang_scheduler_pb2

    def chunk(self, request, part, read, written):
        return self.pb.GenerateResponse(
            request_id=request.request_id,
            chunk=self.pb.GenerateStreamChunk(token_ids=part, prompt_tokens=read, completion_tokens=written),
        )

    def complete(self, request, part, finish, read, written):
        return self.pb.GenerateResponse(
            request_id=request.request_id,
            complete=self.pb.GenerateComplete(
                output_ids=part, finish_reason=finish, prompt_tokens=read, completion_tokens=written, cached_tokens=3
            ),
        )

    async def Abort(self, request, context):
        say(aborted=request.request_id)
        return self.pb.AbortResponse(success=True)


async def main():
    dialect, config = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    if dialect == "vllm":
        vllm_engine_pb2_grpc.add_VllmEngineServicer_to_server(Vllm(config), server)
    else:
        sglang_scheduler_pb2_grpc.add_SglangSchedulerServicer_to_server(Sglang(config), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    say(port=port)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
