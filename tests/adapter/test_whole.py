"""Messages are submitted with what belongs to them, whatever WeCom does meanwhile."""

import asyncio

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from adapter.callbacks.gate import Rejected
from adapter.callbacks.taking import Taking
from adapter.media.attachments import Attachments
from adapter.media.fetching import Fetched
from adapter.media.room import Claim, Room
from adapter.media.whole import FilledSubmission, WholeSubmission
from adapter.metrics import Metrics
from adapter.translate import Address, Attachment, Incoming
from weconverse import InvalidField, Unavailable, WeConverseError
from weconverse.v1.conversation_pb2 import Content, Media, Part, Sender

SENT_AT = 1_800_000_000


def message(create_time: int = SENT_AT) -> Incoming:
    address = msgspec.json.encode(Address(door="app", user="u", create_time=create_time))
    content = Content(parts=[Part(media=Media(mime_type="image/jpeg"))])
    attachment = Attachment(part=0, kind="image", media_id="a")
    return Incoming("conversations/wecom.a.1", "m1", content, Sender(id="p"), address, (attachment,))


class Shelf:
    """Gives the file when the test lets it."""

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = asyncio.Event()
        self.fetches = 0
        if ready:
            self.ready.set()

    async def __call__(self, attachment: Attachment, *, most: int, claim: Claim) -> Fetched:
        self.fetches += 1
        await self.ready.wait()
        await claim.grow(10)
        return Fetched(b"0123456789")


class Service:
    """Takes messages, after as many failures as the test wants."""

    def __init__(self, *failures: WeConverseError) -> None:
        self.failures = list(failures)
        self.taken: list[Incoming] = []

    async def __call__(self, incoming: Incoming, seconds: float) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append(incoming)

    @property
    def files(self) -> list[bytes]:
        return [incoming.content.parts[0].media.inline_data for incoming in self.taken]


def attachments(shelf: Shelf) -> Attachments:
    return Attachments(Room(fetches=4, total_bytes=1000), shelf, Metrics(CollectorRegistry()), max_bytes=1000)


def whole(service: Service, shelf: Shelf, *, seconds: float = 5.0, now: float = SENT_AT) -> WholeSubmission:
    return WholeSubmission(service, attachments(shelf), seconds=seconds, now=lambda: now)


def taking() -> Taking:
    return Taking(Metrics(CollectorRegistry()), door="app", submit_seconds=0.05)


async def test_a_fetch_goes_on_behind_a_callback_that_was_told_not_yet() -> None:
    shelf, service = Shelf(ready=False), Service()
    submission = whole(service, shelf)
    for _ in range(2):
        with pytest.raises(Rejected) as caught:
            await taking().take(submission, message())
        assert caught.value.status == 503
    assert service.taken == []
    shelf.ready.set()
    await taking().take(submission, message())
    await taking().take(submission, message())
    assert service.files == [b"0123456789"]
    assert shelf.fetches == 1


async def test_the_message_is_submitted_also_when_wecom_never_comes_again() -> None:
    shelf, service = Shelf(ready=False), Service()
    submission = whole(service, shelf)
    with pytest.raises(Rejected):
        await taking().take(submission, message())
    shelf.ready.set()
    async with asyncio.timeout(2):
        while not service.taken:
            await asyncio.sleep(0.01)
    assert service.files == [b"0123456789"]


async def test_the_last_repetition_at_another_instance_has_little_time_left() -> None:
    service = Service()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await whole(service, Shelf(ready=False), seconds=8.0, now=SENT_AT + 10.2)(message(), 5)
    assert 1.0 < loop.time() - began < 3.0
    assert service.taken[0].content.parts[0].media.missing == Media.UNAVAILABLE


async def test_a_service_that_is_away_for_a_moment_gets_what_was_fetched() -> None:
    service, shelf = Service(Unavailable("away"), Unavailable("away")), Shelf()
    await whole(service, shelf)(message(), 5)
    assert service.files == [b"0123456789"]
    assert shelf.fetches == 1


async def test_what_the_service_refuses_is_told_to_who_waits_and_tried_anew_by_the_next() -> None:
    service, shelf = Service(InvalidField("no")), Shelf()
    submission = whole(service, shelf)
    with pytest.raises(InvalidField):
        await submission(message(), 5)
    await submission(message(), 5)
    assert service.files == [b"0123456789"]
    assert shelf.fetches == 2


async def test_closing_ends_what_is_under_way() -> None:
    shelf, service = Shelf(ready=False), Service()
    submission = whole(service, shelf)
    with pytest.raises(Rejected):
        await taking().take(submission, message())
    await submission.aclose()
    shelf.ready.set()
    await asyncio.sleep(0)
    assert service.taken == []


async def test_a_bots_message_is_fetched_once_however_often_it_is_offered() -> None:
    service, shelf = Service(Unavailable("away"), Unavailable("away")), Shelf()
    submission = FilledSubmission(service, attachments(shelf), seconds=5, kept_seconds=60)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await submission(message(), 5)
    await submission(message(), 5)
    assert service.files == [b"0123456789"]
    assert shelf.fetches == 1


async def test_a_bots_message_that_is_refused_is_let_go_of() -> None:
    service, shelf = Service(InvalidField("no")), Shelf()
    room = Room(fetches=4, total_bytes=1000)
    fill = Attachments(room, shelf, Metrics(CollectorRegistry()), max_bytes=1000)
    submission = FilledSubmission(service, fill, seconds=5, kept_seconds=60)
    with pytest.raises(InvalidField):
        await submission(message(), 5)
    await asyncio.sleep(0)
    assert room.taken == 0
