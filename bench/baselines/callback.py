"""The bare callback handler: aiohttp, verify, decrypt, 200. It does not even read what it decrypted."""

import argparse

from aiohttp import web

from adapter.crypto import Envelope
from adapter.wire import parse_envelope
from bench import place


def _application(envelope: Envelope) -> web.Application:
    async def callback(request: web.Request) -> web.Response:
        encrypted = parse_envelope(await request.read()).encrypted
        query = request.query
        envelope.open(query["msg_signature"], query["timestamp"], query["nonce"], encrypted)
        return web.Response()

    application = web.Application()
    application.router.add_post("/wecom/app/{account}", callback)
    return application


async def _serve(envelope: Envelope) -> None:
    runner = web.AppRunner(_application(envelope), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    await place.announce_and_wait({"http": runner.addresses[0][1]})
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corp-id", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--encoding-aes-key", required=True)
    options = parser.parse_args()
    place.run(_serve(Envelope(options.token, options.encoding_aes_key, options.corp_id)), fast_loop=False)


if __name__ == "__main__":
    main()
