"""The menus of applications (自定义菜单; DOC 90231 to 90233), and what touching an entry sends."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from simulator.corp import Corp
from simulator.rules import Refused
from simulator.settings import AppSettings

_KINDS: Final = {
    "click": "key",
    "view": "url",
    "view_miniprogram": "pagepath",
    "scancode_push": "key",
    "scancode_waitmsg": "key",
    "pic_sysphoto": "key",
    "pic_photo_or_album": "key",
    "pic_weixin": "key",
    "location_select": "key",
}
"""Every kind of entry, and the field that its event brings as ``EventKey``."""
_MOST_KEY: Final = 128


class NoSuchEntry(Exception):
    """The menu has no such entry."""


class Menus:
    """The menu of each application: from the settings until another one is created."""

    def __init__(self, corp: Corp) -> None:
        self._menus: dict[int, list[dict[str, Any]]] = {
            app.agent_id: [
                *({"type": "click", "name": name, "key": key} for name, key in app.menu.items()),
                *({"type": "scancode_waitmsg", "name": name, "key": key} for name, key in app.scan_menu.items()),
            ]
            for app in corp.settings.apps
        }

    def create(self, app: AppSettings, body: Mapping[str, Any]) -> None:
        """``menu/create``. Raises :class:`Refused`."""
        buttons = body.get("button")
        if not isinstance(buttons, list) or not 1 <= len(buttons) <= 3:
            raise Refused(40058, "button: 1 to 3 items")
        for button in buttons:
            below = button.get("sub_button") if isinstance(button, dict) else None
            if below is not None and (not isinstance(below, list) or not 1 <= len(below) <= 5):
                raise Refused(40058, "sub_button: 1 to 5 items")
            for entry in below or [button]:
                _check(entry)
        self._menus[app.agent_id] = buttons

    def get(self, app: AppSettings) -> list[dict[str, Any]]:
        """``menu/get``: the entries at the top, with those below them."""
        return self._menus.get(app.agent_id, [])

    def delete(self, app: AppSettings) -> None:
        """``menu/delete``."""
        self._menus.pop(app.agent_id, None)

    def entry(self, app: AppSettings, name: str) -> tuple[str, str]:
        """The event that touching an entry sends, and its ``EventKey``.

        Raises:
            NoSuchEntry: no entry has this name or key.
        """
        for entry in self._entries(app):
            key = str(entry.get(_KINDS[entry["type"]], ""))
            if name in (entry["name"], key):
                return entry["type"], key
        raise NoSuchEntry(f"no entry {name!r} in the menu of {app.name}")

    def _entries(self, app: AppSettings) -> Iterator[dict[str, Any]]:
        for button in self._menus.get(app.agent_id, []):
            yield from button.get("sub_button") or [button]


def _check(entry: object) -> None:
    if not isinstance(entry, dict) or not entry.get("name") or entry.get("type") not in _KINDS:
        raise Refused(40058, "button.name or button.type invalid")
    value = entry.get(_KINDS[entry["type"]])
    if not isinstance(value, str) or not value or (_KINDS[entry["type"]] == "key" and len(value.encode()) > _MOST_KEY):
        raise Refused(40058, f"button.{_KINDS[entry['type']]} invalid")
