"""Load over gRPC: ``Converse`` and ``StreamConverse`` in a closed loop, and silent streams."""

import asyncio
import contextlib
import itertools
import os
import re
import time
from collections.abc import AsyncIterator

import grpc
import msgspec

from bench import jobs, proc, upstream
from bench.window import Window, WrongAnswer, closed_loop
from weconverse.v1 import channel_pb2, channel_pb2_grpc
from weconverse.v1 import conversation_pb2 as pb
from weconverse.v1 import conversation_pb2_grpc as rpc

_REPLY = re.compile(r"⟨(\w+|-)⟩(\d+);")
_CALL_SECONDS = 60.0
_SETTLE_SECONDS = 1.0


@contextlib.asynccontextmanager
async def stubs(target: str, connections: int) -> AsyncIterator["list[rpc.ConversationServiceAsyncStub]"]:
    """Stubs on connections of their own."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            rpc.ConversationServiceStub(await stack.enter_async_context(_channel(target))) for _ in range(connections)
        ]


def _channel(target: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])


def check_reply(text: str, question: str, answers: jobs.Answers) -> None:
    """Raises ``WrongAnswer`` unless ``text`` is the whole reply to ``question``."""
    found = _REPLY.match(text)
    if not found:
        raise WrongAnswer(f"not a reply: {text[:80]!r}")
    messages = int(found[2])
    expected = upstream.reply_text(question if answers.marked else "", messages, answers.tokens)
    if text != expected:
        raise WrongAnswer(f"another reply than asked for: {text[:80]!r}, {len(text)} of {len(expected)} characters")
    if answers.messages is not None and messages != answers.messages:
        raise WrongAnswer(f"the prompt had {messages} messages instead of {answers.messages}")


class Asker:
    """Makes questions and checks the answers."""

    def __init__(self, job: jobs.Converse | jobs.Acknowledge, window: Window) -> None:
        self._job = job
        self._window = window
        self._numbers = itertools.count()
        self._run = f"{os.getpid():x}x{time.time_ns() % 10**9:x}"

    def request(self, worker: int) -> tuple[str, pb.ConverseRequest]:
        """The next question of a worker."""
        number = next(self._numbers)
        job = self._job
        distinct = job.distinct_questions if isinstance(job, jobs.Converse) else 0
        label = f"common{number % distinct}" if distinct else f"{self._run}n{number}"
        question = f"{upstream.mark(label)}请问出差的报销流程是什么?需要哪些材料,多久到账?"
        fresh = job.fresh_conversations if isinstance(job, jobs.Converse) else True
        options = pb.TurnOptions(bypass_memory=True) if isinstance(job, jobs.Converse) and job.bypass_memory else None
        return question, pb.ConverseRequest(
            conversation=f"conversations/bench.{self._run}.{number if fresh else f'w{worker}'}",
            input=pb.Content(parts=[pb.Part(text=question)]),
            sender=pb.Sender(id=f"bench{worker}"),
            assistant=job.assistant,
            channel="bench",
            options=options,
        )

    async def unary(self, stub: "rpc.ConversationServiceAsyncStub", worker: int, answers: jobs.Answers) -> None:
        """Asks one question and waits for the turn."""
        question, request = self.request(worker)
        turn = (await stub.Converse(request, timeout=_CALL_SECONDS)).turn
        if not turn.name.startswith(request.conversation):
            raise WrongAnswer(f"a turn of another conversation: {turn.name}")
        check_reply(turn.reply.parts[0].text if turn.reply.parts else "", question, answers)
        self._window.done += 1

    async def stream(self, stub: "rpc.ConversationServiceAsyncStub", worker: int, answers: jobs.Answers) -> None:
        """Asks one question and takes the events: no gap, nothing missing, nothing twice."""
        question, request = self.request(worker)
        length = len(upstream.reply_text(question, 1, answers.tokens))
        kinds: list[str] = []
        texts: list[str] = []
        whole = None
        async for event in stub.StreamConverse(request, timeout=_CALL_SECONDS):
            kind = event.WhichOneof("event") or ""
            kinds.append(kind)
            if event.sequence != len(kinds):
                raise WrongAnswer(f"event {len(kinds)} has the number {event.sequence}")
            if kind == "delta":
                texts.append(event.delta.text)
                self._window.done += len(event.delta.text) / length
            elif kind == "completed":
                whole = event.completed.turn.reply.parts[0].text
        text = "".join(texts)
        check_reply(text, question, answers)
        if answers.completed and (kinds[0] != "started" or kinds[-1] != "completed" or whole != text):
            raise WrongAnswer(f"not a whole stream: {kinds[0]} … {kinds[-1]}")


async def converse(job: jobs.Converse) -> jobs.Result:
    """Runs :class:`bench.jobs.Converse`."""
    window = Window(job.pids)
    asker = Asker(job, window)
    calls = [0] * job.concurrency
    begin = time.perf_counter()
    lenient = msgspec.structs.replace(job.answers, messages=None)

    async with stubs(job.target, job.connections) as connections:

        async def one(worker: int) -> None:
            answers = job.answers if calls[worker] >= job.warmup_calls else lenient
            stub = connections[worker % len(connections)]
            await (asker.stream if job.stream else asker.unary)(stub, worker, answers)
            calls[worker] += 1

        def warm() -> bool:
            return min(calls) >= job.warmup_calls and time.perf_counter() - begin >= job.warmup_seconds

        return await closed_loop(window, one, workers=job.concurrency, seconds=job.seconds, warm=warm)


async def hold(job: jobs.Hold) -> jobs.Result:
    """Runs :class:`bench.jobs.Hold`."""
    window = Window(job.pids)
    before = _resident(job)
    window.open()
    opened = asyncio.Semaphore(0)
    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(_channel(job.target)) for _ in range(8)]
        make = _attached if job.kind == "attach" else _following
        tasks = [
            asyncio.create_task(make(channels[number % len(channels)], job, number, opened))
            for number in range(job.concurrency)
        ]
        try:
            async with asyncio.timeout(60):
                for _ in tasks:
                    await opened.acquire()
            await asyncio.sleep(_SETTLE_SECONDS)  # what the subject still does with them belongs to their cost
            if any(task.done() for task in tasks):
                raise WrongAnswer("a stream that should stay open has ended")
            window.done = len(tasks)
            return msgspec.structs.replace(window.close(), bytes_before=before, bytes_after=_resident(job))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _resident(job: jobs.Hold) -> int:
    return sum(proc.resident_bytes(pid) for pid in job.pids.values())


async def _attached(channel: grpc.aio.Channel, job: jobs.Hold, number: int, opened: asyncio.Semaphore) -> None:
    hello = channel_pb2.Hello(account=f"channels/bench/accounts/a{number % 100}", instance=f"i{number}")
    call = channel_pb2_grpc.ChannelServiceStub(channel).Attach()
    try:
        await call.write(channel_pb2.AttachRequest(hello=hello))
        async for message in call:
            if message.WhichOneof("message") == "granted":
                opened.release()
    finally:
        call.cancel()


async def _following(channel: grpc.aio.Channel, job: jobs.Hold, number: int, opened: asyncio.Semaphore) -> None:
    # Twenty listeners to a turn, as if its followers had all attached by its request_id.
    request = pb.ConverseRequest(
        conversation=f"conversations/hold{number // 20}",
        input=pb.Content(parts=[pb.Part(text="等一下")]),
        request_id="held",
        assistant=job.assistant,
        channel="bench",
    )
    call = rpc.ConversationServiceStub(channel).StreamConverse(request, timeout=120)
    try:
        async for event in call:
            if event.WhichOneof("event") == "started":
                opened.release()
    finally:
        call.cancel()
