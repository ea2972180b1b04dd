"""How a key is shown to a vendor. Pure."""

from server.llm.presets import AuthStyle


def authorization(style: AuthStyle, key: str) -> dict[str, str]:
    """Headers, or gRPC metadata, that authorise a call; none without a key. Names are in lower case."""
    if not key or style == "none":
        return {}
    if style == "bearer":
        return {"authorization": f"Bearer {key}"}
    return {style: key}
