"""The file name in a ``Content-Disposition`` header. Pure."""

import warnings
from urllib.parse import unquote_plus

from aiohttp import content_disposition_filename, parse_content_disposition

_MOST: int = 2048


def name_of(header: str, *, form_encoded: bool = False) -> str:
    """The name that the header gives; empty if it gives none. It is foreign text.

    ``filename*`` (RFC 5987) comes first.

    Args:
        form_encoded: a plain ``filename`` has ``+`` for a space and ``%26`` for ``&``, as the
            addresses of bots' files have it.
    """
    if not header or len(header) > _MOST:
        return ""
    with warnings.catch_warnings():
        # aiohttp warns of malformed headers, and quotes them; here they mean "no name".
        warnings.simplefilter("ignore")
        _, parameters = parse_content_disposition(header)
        name = content_disposition_filename(parameters) or ""
    if form_encoded and name and "filename*" not in parameters:
        name = unquote_plus(name)
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
