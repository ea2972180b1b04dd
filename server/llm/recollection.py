"""What the demonstration model knows from the conversation so far. Pure.

It has no memory of its own: it reads the messages of the prompt, as a real model does.
So it shows whether the service's memory works.
"""

import re
from collections.abc import Sequence
from typing import Final

from server.llm.base import Message, Role

_INTRODUCTION: Final = re.compile(r"(?:我叫|我的名字(?:叫|是))\s*([^\s,。!,!?、的]{1,20})")
_ASKS_NAME: Final = re.compile(r"我叫(?:什么|啥)|我是谁|我的名字(?:是|叫)?(?:什么|啥)|(?:记得|知道)我的名字")
_ASKS_LAST: Final = re.compile(r"我(?:刚才|刚刚|上一句|之前)(?:说|问)了?(?:些|的是)?(?:什么|啥)|上一个问题(?:是什么)?")


def recollect(messages: Sequence[Message]) -> str | None:
    """The answer to a question about the conversation itself; ``None`` for any other."""
    question = messages[-1].text
    earlier = [message.text for message in messages[:-1] if message.role is Role.USER]
    if _ASKS_NAME.search(question):
        names = [name for text in earlier if (name := _introduced(text))]
        return f"您叫{names[-1]}。" if names else "您还没有告诉我您的名字。"
    if _ASKS_LAST.search(question):
        return f"您刚才说的是：「{earlier[-1]}」" if earlier else "这是我们这次对话的第一句话。"
    name = _introduced(question)
    return f"您好，{name}！我记住您的名字了。请问有什么可以帮您？" if name else None


def _introduced(text: str) -> str | None:
    """The name with which somebody introduces themselves, if they do."""
    found = None if _ASKS_NAME.search(text) else _INTRODUCTION.search(text)
    return found[1] if found else None
