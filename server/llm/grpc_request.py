"""What every request over gRPC has beside its message. Pure."""

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from server.llm.authorization import authorization
from server.llm.base import Prompt
from server.llm.grpc_call import Metadata
from server.llm.presets import AuthStyle

M = TypeVar("M", bound=Message)


def metadata_of(prompt: Prompt, auth: AuthStyle, key: str) -> Metadata:
    """What authorises a call, and the name by which it can be found in the backend's log.

    Request ids are the callers' and may hold anything; metadata holds printable ASCII.
    """
    metadata = list(authorization(auth, key).items())
    if prompt.request_id:
        metadata.append(("x-client-request-id", quote(prompt.request_id, safe="!#$&'()*+,/:;=?@[]~")))
    return metadata


def extra_fields(request: type[M], fields: Mapping[str, object]) -> M:
    """The fields of ``extra_body`` as a message, to be merged into each request.

    Their names may be those of the message or of its JSON, so that the same settings
    serve both transports of a vendor.

    Raises:
        ValueError: for a field that the message does not have, or a value that does not
            fit. The message begins with ``extra_body``.
    """
    known = {name for field in request.DESCRIPTOR.fields for name in (field.name, field.json_name)}
    for name in fields:
        if name not in known:
            names = ", ".join(field.name for field in request.DESCRIPTOR.fields)
            raise ValueError(f"extra_body.{name}: cannot be sent over gRPC; these can: {names}")
    message = request()
    try:
        ParseDict(dict(fields), message)
    except ParseError as error:
        # What follows the first line are the names of this program's own types.
        raise ValueError(f"extra_body: {str(error).splitlines()[0]}") from None
    return message
