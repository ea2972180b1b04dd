"""Who calls: a bearer token, or the name in a client certificate."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from server.errors import CallerNotAllowed, CallerUnknown
from server.rpc.call import current
from server.rpc.interceptors.wrap import Behaviour, Context, Method
from server.settings import CallerSettings

_SCHEME = "bearer "


class Identity:
    """Finds the caller, or refuses. Without callers and without client certificates, everybody may call.

    The health service answers everybody: balancers carry no credentials, and it tells
    nothing but whether the service is up. The service for administrators answers nobody
    without a token of an administrator, on loopback either, and that token is good for
    nothing else.
    """

    def __init__(
        self, callers: Sequence[CallerSettings], admins: Sequence[CallerSettings] = (), *, certificates: bool
    ) -> None:
        """Args: who has tokens, and whether every connection has shown a client certificate."""
        self._callers = _Tokens(callers)
        self._admins = _Tokens(admins)
        self._certificates = certificates

    def __call__(self, method: Method, inner: Behaviour) -> Behaviour:
        if method.is_health or not (method.is_admin or self._callers or self._certificates):
            return inner
        who = self._admin if method.is_admin else self._caller

        async def behaviour(request: Any, context: Context) -> Any:
            current.get().caller = who(context)
            return await inner(request, context)

        return behaviour

    def _caller(self, context: Context) -> str:
        header = _authorization(context.invocation_metadata() or ())
        if header is not None and self._callers:
            name = self._callers.name_of(_token(header))
            if name:
                return name
            raise CallerUnknown("the token is not valid; ask the operator for one")
        if self._certificates:
            return certificate_name(context.auth_context())
        raise CallerUnknown("a credential is needed; send `authorization: Bearer <token>`")

    def _admin(self, context: Context) -> str:
        header = _authorization(context.invocation_metadata() or ())
        name = "" if header is None else self._admins.name_of(_token(header))
        if name:
            return name
        # Whoever is a caller hears that this is not for callers; everybody else only that nobody knows them.
        if self._callers or self._certificates:
            raise CallerNotAllowed(self._caller(context), "only an administrator may do this; send a token of one")
        raise CallerUnknown("a token of an administrator is needed; send `authorization: Bearer <token>`")


class _Tokens:
    """Tokens by their digests."""

    def __init__(self, owners: Sequence[CallerSettings]) -> None:
        self._known = [(bytes.fromhex(digest), owner.name) for owner in owners for digest in owner.token_sha256]

    def __bool__(self) -> bool:
        return bool(self._known)

    def name_of(self, token: str) -> str:
        """Whose token it is; empty for nobody's."""
        digest = hashlib.sha256(token.encode()).digest()
        found = ""
        for known, name in self._known:  # all of them, every time: where the right one stands must not show
            if hmac.compare_digest(known, digest):
                found = name
        return found


def _token(header: str) -> str:
    if header[: len(_SCHEME)].lower() != _SCHEME:
        raise CallerUnknown("the authorization must be `Bearer <token>`")
    return header[len(_SCHEME) :].strip()


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
