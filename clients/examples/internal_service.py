"""An internal service that lets the model do a part of its work: it sums up support tickets.

    python internal_service.py < tickets.jsonl

Each line is ``{"id": "T-1", "text": "..."}``; each answer is a line with the summary, or with
why there is none. What to look at: the request id is the ticket's own, so that running the
same file again costs nothing and answers the same; every call has a deadline; what to do
about a failure is decided by the class of the error, never by its words.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass

from weconverse import (
    ConversationClient,
    DeadlineExceeded,
    InvalidRequest,
    ResourceExhausted,
    Sender,
    Turn,
    TurnOptions,
    Unavailable,
    WeConverseError,
    text_of,
)

AT_ONCE = 8
"""How many tickets are summed up at the same time: more would only wait inside the service."""

WITHHELD = {Turn.INPUT_BLOCKED, Turn.OUTPUT_BLOCKED, Turn.PROVIDER_BLOCKED}
"""Finish reasons of a reply that a person may be shown, but that is no summary."""


@dataclass(frozen=True)
class Summary:
    """What became of one ticket: ``done``, ``withheld``, ``refused`` for good, or ``later``."""

    id: str
    outcome: str
    text: str = ""


async def summarise(client: ConversationClient, ticket_id: str, text: str, *, timeout: float = 30.0) -> Summary:
    """Sums up one ticket. Raises only what another try could not mend, such as a wrong token."""
    try:
        turn = await client.converse(
            f"tickets.{ticket_id}",
            f"用一句话概括这张工单:\n{text}",
            request_id="summary",
            sender=Sender(id="ticket-service"),
            channel="tickets",
            options=TurnOptions(bypass_memory=True, max_output_tokens=200),
            timeout=timeout,
        )
    except InvalidRequest as error:
        return Summary(ticket_id, "refused", str(error))
    except (ResourceExhausted, Unavailable, DeadlineExceeded) as error:
        # The client has waited already where the service said how long. The same request id
        # makes the next run find the turn, if it was answered meanwhile.
        return Summary(ticket_id, "later", error.reason or error.code.name)
    return Summary(ticket_id, "withheld" if turn.finish_reason in WITHHELD else "done", text_of(turn.reply))


async def summarise_all(client: ConversationClient, lines: Iterable[str]) -> AsyncIterator[Summary]:
    """Sums up all tickets, ``AT_ONCE`` at a time, in their order."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(line: str) -> Summary:
        ticket = json.loads(line)
        async with gate:
            return await summarise(client, ticket["id"], ticket["text"])

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(line)) for line in lines if line.strip()]
        for task in running:
            yield await task


async def main(target: str) -> int:
    """Reads tickets from standard input; the exit code is 1 if some must be tried later."""
    later = 0
    async with ConversationClient(target) as client:
        async for summary in summarise_all(client, sys.stdin):
            print(json.dumps(asdict(summary), ensure_ascii=False), flush=True)
            later += summary.outcome == "later"
    return 1 if later else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="127.0.0.1:50051")
    try:
        sys.exit(asyncio.run(main(parser.parse_args().target)))
    except* WeConverseError as errors:
        sys.exit("; ".join(str(error) for error in errors.exceptions))
