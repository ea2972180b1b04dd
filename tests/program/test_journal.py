import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from program.journal import configure
from program.secret import Secret


@pytest.fixture
def output() -> Iterator[io.BytesIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.BytesIO()
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def lines(output: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_line_is_one_json_object(output: io.BytesIO) -> None:
    configure("info", "json", output, for_good=False)
    with structlog.contextvars.bound_contextvars(turn="t-1"):
        structlog.get_logger().info("turn_ended", seconds=1.5, name="张三")
    structlog.get_logger().debug("too_low")
    (line,) = lines(output)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "turn_ended", "level": "info", "seconds": 1.5, "name": "张三", "turn": "t-1"}


def test_texts_and_secrets_are_dropped_and_named(output: io.BytesIO) -> None:
    configure("debug", "json", output, for_good=False)
    structlog.get_logger().debug("slip", text="你好", api_key="sk", key=Secret("hidden"), turn="t")
    (line,) = lines(output)
    assert line["dropped"] == ["api_key", "text"]
    assert line["turn"] == "t"
    assert "你好" not in output.getvalue().decode()
    assert "hidden" not in output.getvalue().decode()


def test_other_libraries_join_from_warning(output: io.BytesIO) -> None:
    configure("debug", "json", output, for_good=False)
    logging.getLogger("aiohttp.server").info("quiet")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("grpc._cython").exception("in %s", "core")
    (line,) = lines(output)
    assert (line["event"], line["logger"], line["message"]) == ("library_log", "grpc._cython", "in core")
    assert "ValueError: broken" in line["exception"]


def test_text_is_for_reading(output: io.BytesIO) -> None:
    configure("info", "text", output, for_good=False)
    structlog.get_logger().warning("late", seconds=2, why="two words")
    assert output.getvalue().decode().endswith(" warning late seconds=2 why='two words'\n")


def test_a_broken_character_does_not_break_the_line(output: io.BytesIO) -> None:
    configure("info", "json", output, for_good=False)
    structlog.get_logger().info("odd", name="a\ud800b")
    assert lines(output)[0]["event"] == "odd"


async def test_lines_of_tasks_do_not_mix(output: io.BytesIO) -> None:
    writer = configure("info", "json", output, for_good=False)

    async def one(name: str) -> None:
        structlog.contextvars.bind_contextvars(turn=name)
        await asyncio.sleep(0)
        structlog.get_logger().info("done", me=name)

    await asyncio.gather(*(one(str(number)) for number in range(5)))
    assert lines(output) == []  # they wait for one another
    writer.flush()
    assert len(lines(output)) == 5
    assert all(line["turn"] == line["me"] for line in lines(output))


async def test_lines_wait_a_moment_but_warnings_do_not(output: io.BytesIO) -> None:
    configure("info", "json", output, for_good=False)
    structlog.get_logger().info("first")
    structlog.get_logger().warning("second")
    assert [line["event"] for line in lines(output)] == ["first", "second"]
    structlog.get_logger().info("third")
    async with asyncio.timeout(5):
        while len(lines(output)) < 3:
            await asyncio.sleep(0.01)
    await asyncio.to_thread(structlog.get_logger().info, "from a thread")
    assert lines(output)[3]["event"] == "from a thread"


def test_a_reader_that_went_away_stops_nobody(output: io.BytesIO) -> None:
    configure("info", "json", output, for_good=False)
    output.close()
    structlog.get_logger().warning("unheard")
