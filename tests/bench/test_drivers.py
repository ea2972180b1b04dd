"""The load generators count and check: right answers pass, wrong ones end the job."""

from collections.abc import Iterator

import msgspec
import pytest

from bench import calls, channel, envelope, jobs, load, upstream, wecom
from bench.product import door
from bench.subject import DRIVER_CORE, Program, Running, Subject


@pytest.fixture(scope="module")
def model() -> Iterator[Running]:
    with Subject("upstream", Program("bench.upstream")).started(core=DRIVER_CORE) as running:
        yield running


def test_echo_is_measured() -> None:
    with calls.echo().started() as running:
        result = load.run(calls.unary(running, 0.2, jobs.Answers(64, marked=False)))
    assert result.count > 20
    assert result.seconds == pytest.approx(0.2, rel=0.5)
    assert sum(result.cpu.values()) > 0


@pytest.mark.parametrize("tokens", [1, 500])
def test_relay_passes_every_token(model: Running, tokens: int) -> None:
    with calls.relay(model.addresses["http"], f"tokens-{tokens}").started() as running:
        answers = jobs.Answers(tokens, messages=1)
        for job in (calls.stream(running, 0.1, answers), calls.unary(running, 0.1, answers)):
            assert load.run(msgspec.structs.replace(job, concurrency=4)).count > 1


def test_paced_relay_takes_its_time(model: Running) -> None:
    with calls.relay(model.addresses["http"], "tokens-5-gap-20").started() as running:
        job = calls.stream(running, 0.5, jobs.Answers(5, messages=1))
        result = load.run(msgspec.structs.replace(job, concurrency=1))
    assert 1 <= result.count <= 7  # four gaps of 20 ms and the end


@pytest.mark.parametrize(
    "wrong",
    [jobs.Answers(63, messages=1), jobs.Answers(64, messages=2), jobs.Answers(64, messages=1, completed=True)],
    ids=["too few tokens", "another prompt", "no completed"],
)
def test_wrong_answer_ends_the_job(model: Running, wrong: jobs.Answers) -> None:
    with calls.relay(model.addresses["http"], "tokens-64").started() as running:
        job = msgspec.structs.replace(calls.stream(running, 0.2, wrong), concurrency=2)
        with pytest.raises(load.LoadFailed, match="WrongAnswer"):
            load.run(job)


@pytest.mark.parametrize("events", [True, False], ids=["events", "questions"])
def test_callbacks_open_at_the_bare_handler(events: bool) -> None:
    with channel.bare_handler().started() as running:
        result = load.run(channel.callbacks_job(running, 200, events=events))
    assert result.count == 200


def test_refused_callback_ends_the_job() -> None:
    with channel.bare_handler().started() as running:
        job = channel.callbacks_job(running, 8)
        forged = msgspec.structs.replace(job, door=msgspec.structs.replace(job.door, token="another"))
        with pytest.raises(load.LoadFailed, match="answered with 500"):
            load.run(forged)


def test_envelopes_are_those_of_wecom() -> None:
    from wechatpy.enterprise.crypto import WeChatCrypto

    known = door("127.0.0.1:1")
    message = envelope.text_message(known, "u1", "报销 & <流程>", 42, 1700000000)
    (request,) = envelope.seal(known, [message], 1700000000)
    head, _, body = request.partition(b"\r\n\r\n")
    query = dict(pair.split("=") for pair in head.split(b" ")[1].decode().partition("?")[2].split("&"))
    crypto = WeChatCrypto(known.token, known.encoding_aes_key, known.corp_id)
    opened = crypto.decrypt_message(body, query["msg_signature"], query["timestamp"], query["nonce"])
    assert (opened.decode() if isinstance(opened, bytes) else opened) == message


def _send(user: str, text: str) -> bytes:
    return msgspec.json.encode({"touser": user, "msgtype": "text", "text": {"content": text}})


def test_referee_sees_what_is_wrong() -> None:
    referee = wecom.Referee()
    right = upstream.reply_text(upstream.mark("u1"), 2, wecom.TOKENS)
    referee.take(_send("u1", right))
    assert (referee.stats.sent, referee.stats.wrong, referee.stats.doubled) == (1, 0, 0)
    referee.take(_send("u1", right))
    assert referee.stats.doubled == 1
    referee.take(_send("u2", right))
    referee.take(_send("u3", upstream.reply_text(upstream.mark("u3"), 2, wecom.TOKENS - 1)))
    assert referee.stats.wrong == 2
