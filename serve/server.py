"""The process around the app: take the port first, say when it is ready, and finish what was begun before it ends."""

import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, final

import uvicorn
from starlette.types import ASGIApp

from bigstep.errors import ConfigError

log = logging.getLogger("bigstep.serve")

WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - how to reach a wildcard address


def bind(host: str, port: int) -> socket.socket:
    """Listen on an address, so that nobody else can take it while the model loads.

    Args:
        host: a name or address of this machine; :: is every one of it, those of IPv4 too where the system allows it.
        port: 1 to 65535, or 0 for any free one.

    Raises:
        ConfigError: the port is taken or not allowed, or the host is not this machine.
    """
    if not 0 <= port <= 65535:  # getaddrinfo would take it modulo 65536
        raise ConfigError(f"cannot listen on {host}:{port}", got=f"port {port}", expected="0 to 65535")
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        everywhere = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, backlog=2048, dualstack_ipv6=everywhere)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}",
            got=error,
            do="choose another one with --port, or --host 127.0.0.1 for this machine only",
        ) from error


def url(listener: socket.socket) -> str:
    """Return the address under which this machine reaches the server."""
    host, port = listener.getsockname()[:2]
    named = f"[{host}]" if ":" in host else host
    return f"http://{WILDCARDS.get(host, named)}:{port}"


@final
class _Server(uvicorn.Server):
    """A server that announces its start, and passes on the signal to stop."""

    def __init__(self, config: uvicorn.Config, announcement: str, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self.announcement = announcement
        self.drain = drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.stdout.write(self.announcement + "\n")
        sys.stdout.flush()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.drain()
        super().handle_exit(sig, frame)


def run(
    app: ASGIApp,
    listener: socket.socket,
    *,
    announcement: str,
    drain: Callable[[], None],
    grace_s: float,
    keep_alive_s: int,
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is under way and return.

    HTTP/1.1 is read by h11. httptools, uvicorn's other parser, costs less per request, but takes the body behind an
    offer to upgrade (h2c of Java's HttpClient and of curl) for the next request, and keeps headers without an end.

    Args:
        listener: an open socket of `bind`.
        announcement: a line for standard output, once requests are answered.
        drain: is called when the signal arrives.
        grace_s: the longest time that requests under way may take.
        keep_alive_s: the longest time between two requests on one connection.

    Raises:
        KeyboardInterrupt: after a complete stop by SIGINT.
        RuntimeError: the app could not start; the log says why.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        timeout_keep_alive=keep_alive_s,
        lifespan="on",
        log_level="warning",
        access_log=False,  # /metrics counts requests; a line for each costs about as much as a small model
        server_header=False,
        timeout_graceful_shutdown=math.ceil(grace_s) + 1,
    )
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises its signal once more after a complete stop
    try:
        _Server(config, announcement, drain).run(sockets=[listener])
    except SystemExit as error:  # uvicorn's code for a failed start is 3, which means something else here
        raise RuntimeError("the server could not start") from error
    finally:
        signal.signal(signal.SIGTERM, before)


def leave(code: int) -> NoReturn:
    """End the process while the model still runs: an ordinary end would abort in the thread that is inside it."""
    log.warning("stopped without waiting any longer for a call of the model, whose requests were answered with 504")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
