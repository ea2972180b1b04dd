"""A multipart body with one file in it. Pure."""

import secrets

from adapter.media.kinds import safe_name


def one_file(field: str, name: str, data: bytes) -> tuple[str, bytes]:
    """The content type and the body of a form that uploads one file.

    The name stands there as UTF-8, as browsers write it: what RFC 2231 or percent signs would
    make of it is shown to people as it stands. Quotes and line breaks in it, which would end
    the header, are replaced.
    """
    name = safe_name(name) or "file"
    boundary = f"weconverse-{secrets.token_hex(16)}"
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{field}"; filename="{name}"; filelength={len(data)}\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return f"multipart/form-data; boundary={boundary}", b"".join(
        (head.encode(), data, f"\r\n--{boundary}--\r\n".encode())
    )
