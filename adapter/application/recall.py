"""Takes a message back that an application sent: for an operator, when something went to people that should not have.

WeCom does so within 24 hours, for everybody who got it, but not in the personal WeChat
(DOC 94867). The log names the ``msgid`` of every message (``message_sent``).
"""

import aiohttp
from prometheus_client import CollectorRegistry

from adapter.metrics import Metrics
from adapter.rest.api import WeComApi
from adapter.rest.errors import RequestRefused, WeComError
from adapter.settings import Settings
from program.run import CannotStart
from program.settings import SettingsError

_REASONS = {
    42052: "it is older than 24 hours",
    40058: "WeCom knows no such message of this application",
}


async def recall(settings: Settings, which: str | None) -> str:
    """Takes one message back, and says so.

    Args: ``which`` is ``ACCOUNT/MSGID``: the application by its account name, and the message as the log names it.

    Raises:
        CannotStart: it was not taken back; the text says why.
        SettingsError: no such application.
    """
    account, _, msgid = (which or "").partition("/")
    if not account or not msgid:
        raise CannotStart("--recall: give ACCOUNT/MSGID, as in the log line message_sent")
    app = settings.apps.get(account)
    if app is None:
        raise SettingsError(f"apps.{account}", "is not there; --recall takes back what an application sent")
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        api = WeComApi(
            session,
            base=settings.wecom.api_base,
            corp_id=app.corp_id,
            secret=app.secret,
            metrics=Metrics(CollectorRegistry()),
            request_seconds=settings.wecom.request_seconds,
        )
        try:
            await api.recall(msgid)
        except WeComError as error:
            reason = _REASONS.get(error.code, "") if isinstance(error, RequestRefused) else ""
            raise CannotStart(f"--recall: {error}" + (f": {reason}" if reason else "")) from None
        finally:
            await api.aclose()
    return f"{which}: taken back"
