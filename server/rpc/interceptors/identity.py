"""Who calls: a bearer token, or the name in a client certificate."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from server.errors import CallerUnknown
from server.rpc.call import current
from server.rpc.interceptors.wrap import Behaviour, Context, Method
from server.settings import CallerSettings

_SCHEME = "bearer "


class Identity:
    """Finds the caller, or refuses. Without callers and without client certificates, everybody may call.

    The health service answers everybody: balancers carry no credentials, and it tells
    nothing but whether the service is up.
    """

    def __init__(self, callers: Sequence[CallerSettings], *, certificates: bool) -> None:
        """Args: who has tokens, and whether every connection has shown a client certificate."""
        self._tokens = [(bytes.fromhex(token), caller.name) for caller in callers for token in caller.token_sha256]
        self._certificates = certificates

    def __call__(self, method: Method, inner: Behaviour) -> Behaviour:
        if method.is_health or not (self._tokens or self._certificates):
            return inner

        async def behaviour(request: Any, context: Context) -> Any:
            current.get().caller = self._caller(context)
            return await inner(request, context)

        return behaviour

    def _caller(self, context: Context) -> str:
        header = _authorization(context.invocation_metadata() or ())
        if header is not None and self._tokens:
            return self._of_token(header)
        if self._certificates:
            return certificate_name(context.auth_context())
        raise CallerUnknown("a credential is needed; send `authorization: Bearer <token>`")

    def _of_token(self, header: str) -> str:
        if header[: len(_SCHEME)].lower() != _SCHEME:
            raise CallerUnknown("the authorization must be `Bearer <token>`")
        digest = hashlib.sha256(header[len(_SCHEME) :].strip().encode()).digest()
        found = ""
        for known, name in self._tokens:  # all of them, every time: where the right one stands must not show
            if hmac.compare_digest(known, digest):
                found = name
        if not found:
            raise CallerUnknown("the token is not valid; ask the operator for one")
        return found


def _authorization(metadata: Iterable[tuple[str, Any]]) -> str | None:
    for key, value in metadata:
        if key == "authorization":
            return value if isinstance(value, str) else None
    return None


def certificate_name(auth_context: Mapping[str, Iterable[bytes]]) -> str:
    """The name in a client certificate: its first URI (as SPIFFE has it), another alternative name, or its common name.

    Raises:
        CallerUnknown: for a certificate without any name.
    """
    alternatives = [name.decode() for name in auth_context.get("x509_subject_alternative_name", ())]
    common = [name.decode() for name in auth_context.get("x509_common_name", ())]
    uris = [name for name in alternatives if "://" in name]
    for name in (*uris, *alternatives, *common):
        if name:
            return name
    raise CallerUnknown("the client certificate has no name; issue one with a URI or a common name")
