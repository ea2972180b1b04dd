"""``python -m simulator``: a local WeCom with a chat page."""

import asyncio
import sys
from collections.abc import Iterator
from typing import Final

from program.run import CannotStart, Program, run
from program.settings import SettingsError
from simulator.app import Simulator, SimulatorError
from simulator.settings import Settings, problems


def plan(settings: Settings) -> Iterator[str]:
    """Says what would be played. Raises :class:`SettingsError` for a contradiction."""
    for field, reason in problems(settings):
        raise SettingsError(field, reason)
    yield f"# Would play {settings.corp_id} on {settings.listen.address}:"
    for app in settings.apps:
        yield f"#   application {app.agent_id} {app.name}, callbacks to {app.callback_url or 'nowhere yet'}"
    for bot in settings.bots:
        where = (
            f"callbacks to {bot.callback_url or 'nowhere yet'}"
            if bot.mode == "callback"
            else "over the long connection"
        )
        yield f"#   bot {bot.id} {bot.name}, {where}"
    yield f"#   {len(settings.people)} people, {len(settings.groups)} groups, {len(settings.faults.switches)} faults on"


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Plays until told to stop."""
    try:
        async with Simulator(settings) as sim:
            print(f"simulator: chat page {sim.page_url}", flush=True)
            print(f"simulator: REST base {sim.rest_base}, long connection {sim.socket_base}", flush=True)
            await stop.wait()
    except SimulatorError as error:
        raise CannotStart(str(error)) from None


PROGRAM: Final = Program(
    name="simulator",
    summary="A local WeCom: chat page, callbacks, REST and long connection, with faults at will.",
    prefix="WECONVERSE_SIMULATOR",
    settings=Settings,
    log=lambda settings: settings.log,
    plan=plan,
    serve=serve,
)

if __name__ == "__main__":
    sys.exit(run(PROGRAM))
