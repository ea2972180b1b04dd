"""What the adapter itself says to people, where no answer of the service can be shown."""

from typing import Final

THINKING: Final = "正在思考,请稍候…"
"""Shown while nothing of the answer can be."""

TO_BE_CONTINUED: Final = "这个回答用时较长,完成后会另发一条消息。"
"""Ends a bubble that WeCom is about to close before the answer is complete."""

NO_ANSWER: Final = "抱歉,这次没有得到回答。请换一种问法再试一次。"
"""Stands for an answer without any visible character, which WeCom would not show."""

NOT_TAKEN: Final = "抱歉,服务暂时不可用,这条消息没有被处理。请稍后再发送一次。"
"""Told to a person whose message the service did not take in time."""

NOT_ACCEPTED: Final = "抱歉,这条消息无法处理。请换一种方式描述您的问题。"
"""Told to a person whose message the service refuses."""
