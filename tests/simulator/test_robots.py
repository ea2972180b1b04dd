"""The webhook of a group's robot as DOC 91770 has it: kinds, limits, codes."""

import base64
import hashlib
import io
import json

import aiohttp
import pytest

from simulator.clock import ManualClock

KEY = "simulator-robot-key-0001"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


def image(data, md5=None):
    digest = md5 or hashlib.md5(data, usedforsecurity=False).hexdigest()
    return {"msgtype": "image", "image": {"base64": base64.b64encode(data).decode(), "md5": digest}}


def text(content, **more):
    return {"msgtype": "text", "text": {"content": content, **more}}


async def send(session, sim, body, key=KEY):
    raw = io.BytesIO(json.dumps(body).encode())
    async with session.post(f"{sim.rest_base}/cgi-bin/webhook/send", params={"key": key}, data=raw) as answer:
        return (await answer.json())["errcode"]


def seen(sim):
    return [(bubble.speaker, bubble.look, bubble.text) for bubble in sim.bubbles("lina", "group")]


async def test_a_text_calls_people_in_the_group(simulator, session):
    async with simulator() as sim:
        body = text("磁盘快满了", mentioned_list=["lina", "@all"], mentioned_mobile_list=["13800000000"])
        assert await send(session, sim, body) == 0
        assert seen(sim) == [("robot:群机器人", "text", "磁盘快满了 @李娜 @所有人 @13800000000")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (text(""), 44004),
        (text("字" * 683), 40058),
        (text("字" * 682), 0),
        ({"msgtype": "markdown", "markdown": {"content": "x" * 4097}}, 40058),
        ({"msgtype": "markdown_v2", "markdown_v2": {"content": "x" * 4096}}, 0),
        (image(PNG), 0),
        (image(PNG, "0" * 32), 40058),
        (image(PNG + bytes(2 * 1024 * 1024)), 45001),
        ({"msgtype": "news", "news": {"articles": [{"title": "a", "url": "https://a"}] * 8}}, 0),
        ({"msgtype": "news", "news": {"articles": [{"title": "a", "url": "https://a"}] * 9}}, 45008),
        ({"msgtype": "news", "news": {"articles": ["a"]}}, 40058),
        ({"msgtype": "file", "file": {"media_id": "of another"}}, 40007),
        ({"msgtype": "template_card", "template_card": {"card_type": "button_interaction"}}, None),
        ({"msgtype": "video", "video": {}}, 40008),
    ],
)
async def test_limits_of_kinds(simulator, session, body, code):
    async with simulator() as sim:
        said = await send(session, sim, body)
        assert said != 0 if code is None else said == code
        assert len(seen(sim)) == (said == 0)


async def test_files_belong_to_their_robot(simulator, session):
    async with simulator() as sim:
        form = aiohttp.FormData()
        form.add_field("media", b"a,b\n1,2\n", filename="a.csv")
        url = f"{sim.rest_base}/cgi-bin/webhook/upload_media"
        async with session.post(url, params={"key": KEY, "type": "file"}, data=form) as answer:
            uploaded = await answer.json()
        assert uploaded["errcode"] == 0
        assert isinstance(uploaded["created_at"], str)
        assert await send(session, sim, {"msgtype": "file", "file": {"media_id": uploaded["media_id"]}}) == 0
        assert sim.bubbles("lina", "group")[0].content["name"] == "a.csv"
        async with session.post(url, params={"key": KEY, "type": "image"}, data=b"") as answer:
            assert (await answer.json())["errcode"] == 40004


async def test_twenty_a_minute(simulator, session):
    clock = ManualClock()
    async with simulator(clock=clock) as sim:
        assert [await send(session, sim, text(str(number))) for number in range(21)] == [0] * 20 + [45009]
        clock.advance(60)
        assert await send(session, sim, text("再来")) == 0


async def test_keys_open_one_robot_and_only_while_it_is_enabled(simulator, session):
    async with simulator() as sim:
        assert await send(session, sim, text("好"), key="another") == 93000
        sim.robots.disable("群机器人")
        assert await send(session, sim, text("好")) == 93004
        sim.robots.disable("群机器人", disabled=False)
        assert await send(session, sim, text("好")) == 0
