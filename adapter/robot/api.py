"""The webhook of a group's robot (DOC 91770). Its address holds the key, so it is in no error and no log line."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from yarl import URL

from adapter.rest.errors import WeComUnreachable
from adapter.rest.multipart import one_file
from adapter.rest.secret_address import Answer, SecretAddress
from program.secret import Secret

GONE: Final = frozenset({93000, 93004})
"""The key is wrong or the robot was removed; the robot is disabled. Only somebody in the group can change that."""


class _Uploaded(Answer):
    media_id: str = ""


class RobotApi:
    """Sends what one robot says."""

    def __init__(self, addresses: SecretAddress, *, base: str, key: Secret) -> None:
        """Args: ``base`` of the HTTP interface; ``key`` is read anew for each request."""
        self._addresses = addresses
        self._base = URL(base.rstrip("/") + "/cgi-bin/webhook/")
        self._key = key

    async def send(self, body: Mapping[str, Any]) -> None:
        """Sends one message. There is no duplicate check: sending it again shows it again.

        Raises:
            WeComError: it was not sent, or (``WeComUnreachable.maybe_done``) nobody knows.
        """
        url = (self._base / "send").with_query(key=self._key.reveal())
        await self._addresses.post(url, msgspec.json.encode(body), "webhook/send", Answer)

    async def upload(self, kind: str, name: str, data: bytes) -> str:
        """Puts a file up and returns its ``media_id``, good for three days and this robot.

        Args: ``kind`` file or voice; ``name`` is what people see.

        Raises:
            WeComError: there is none.
        """
        content_type, body = one_file("media", name, data)
        url = (self._base / "upload_media").with_query(key=self._key.reveal(), type=kind)
        answer = await self._addresses.post(url, body, "webhook/upload_media", _Uploaded, content_type=content_type)
        if not answer.media_id:
            raise WeComUnreachable("webhook/upload_media gave no media_id", maybe_done=False)
        return answer.media_id
