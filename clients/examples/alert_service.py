"""An internal service that tells people something of its own accord: alerts go into a group, by its robot.

    python alert_service.py channels/wecom/accounts/ops-robot < alerts.jsonl

Each line is ``{"id": "A-1", "level": "critical", "text": "...", "chart": "cpu.png"}``; level and
chart may be missing. What to look at: the request id is the alert's own, so that an alert that is
told twice is read once, also when this program was started again between; when ``push`` returns,
the alert is on disk at the service, and arrives also if the robot may not send now; what
to do about a failure is decided by the class of the error.
"""

import argparse
import asyncio
import json
import mimetypes
import sys
from collections.abc import Iterable
from pathlib import Path

from weconverse import (
    ConversationClient,
    DeadlineExceeded,
    InvalidRequest,
    Media,
    Part,
    ResourceExhausted,
    Unavailable,
    WeConverseError,
)

SIGNS = {"critical": "🔴 严重", "warning": "🟡 警告"}


def message(alert: dict[str, str]) -> list[Part]:
    """What people see: a headline, the text, and the chart if there is one."""
    parts = [Part(text=f"**{SIGNS.get(alert.get('level', ''), '🔵 通知')}** {alert['id']}\n{alert['text']}")]
    if chart := alert.get("chart"):
        kind = mimetypes.guess_type(chart)[0] or "application/octet-stream"
        data = Path(chart).read_bytes()
        parts.append(Part(media=Media(mime_type=kind, inline_data=data, display_name=Path(chart).name)))
    return parts


async def tell(client: ConversationClient, account: str, alert: dict[str, str], *, timeout: float = 10.0) -> str:
    """Sends one alert. Returns ``owed``, ``refused`` for good, or ``later``."""
    try:
        await client.push(account, message(alert), request_id=alert["id"], timeout=timeout)
    except InvalidRequest as error:
        print(f"{alert['id']}: {error}", file=sys.stderr)
        return "refused"
    except (ResourceExhausted, Unavailable, DeadlineExceeded):
        return "later"
    return "owed"


async def tell_all(target: str, account: str, lines: Iterable[str]) -> int:
    """Sends alerts one after the other, so that they arrive in their order; how many must be told later."""
    later = 0
    async with ConversationClient(target) as client:
        for line in lines:
            if line.strip():
                alert = json.loads(line)
                outcome = await tell(client, account, alert)
                print(alert["id"], outcome, flush=True)
                later += outcome == "later"
    return later


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("account")
    parser.add_argument("--target", default="127.0.0.1:50051")
    arguments = parser.parse_args()
    try:
        sys.exit(1 if asyncio.run(tell_all(arguments.target, arguments.account, sys.stdin)) else 0)
    except WeConverseError as wrong:
        sys.exit(str(wrong))
