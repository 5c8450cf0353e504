"""The page of a home by itself, without a Jupyter server: `nbtasks dashboard`.

Whoever opens it needs the token, once: the link that the command prints has it, and a cookie keeps it.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import ipaddress
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler
from tornado.websocket import WebSocketHandler

from nbtasks.errors import NbtasksError
from nbtasks.web.serving import MESSAGE_BYTES_MAX, Answering, Site, Talking
from nbtasks.wire import pages
from nbtasks.wire.alive import born
from nbtasks.wire.process import owner_pid

COOKIE_DAYS = 365
LOOK_S = 1.0  # between two looks whether its owner lives, and whether anybody looks at it
LOGIN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>nbtasks</title>
<style>:root {{ color-scheme: light dark }} body {{ font: 15px/1.6 system-ui, sans-serif; max-width: 34em;
margin: 12vh auto; padding: 0 20px }} input, button {{ font: inherit; padding: 4px 8px }}</style>
<h1>nbtasks</h1><p>{problem}</p><form method="get" action="{path}"><label>Token
<input name="token" type="password" autocomplete="current-password" required autofocus></label>
<button>Open</button></form><p>The link that <code>nbtasks dashboard</code> printed has it; called once more,
the command prints it again.</p></html>"""


class _Guarded:
    """Lets in who has the token, by the cookie, the link, or a header as Jupyter's."""

    request: Any
    current_user: Any
    get_argument: Any
    get_signed_cookie: Any
    set_signed_cookie: Any
    settings: dict[str, Any]

    def get_current_user(self) -> str | None:
        kind, _, given = self.request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "token" and self._fits(given.strip()):
            return "header"
        if self._fits(self.get_argument("token", "")):
            return "link"
        cookie = self.get_signed_cookie(self._cookie, max_age_days=COOKIE_DAYS)
        return "cookie" if cookie == b"in" else None

    def keep(self) -> None:
        """Let this browser in from now on."""
        self.set_signed_cookie(
            self._cookie, "in", expires_days=COOKIE_DAYS, httponly=True, samesite="Strict", path="/"
        )

    def refuse_strangers(self) -> None:
        """Refuse a name that leads here and is somebody else's, whatever cookies it has."""
        name = urlsplit(f"//{self.request.host}").hostname or ""
        if not _is_address(name) and name not in ("localhost", self.settings["host"]):
            raise HTTPError(403, f"this dashboard is not called {name!r}")

    @property
    def _cookie(self) -> str:
        # cookies do not know of ports
        return f"nbtasks-{self.settings['port']}"

    def _fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.settings["token"].encode())


class _Handler(_Guarded, Answering, RequestHandler):
    def prepare(self) -> None:
        self.refuse_strangers()
        self.set_header("X-Content-Type-Options", "nosniff")

    def check_xsrf_cookie(self) -> None:
        if self.current_user != "header":  # no page of another site can send that
            super().check_xsrf_cookie()

    def require(self) -> None:
        if not self.current_user:
            raise HTTPError(403, "the token is missing")

    def write_error(self, status_code: int, **options: Any) -> None:
        error = options.get("exc_info", (None, None, None))[1]
        message = getattr(error, "log_message", None) or self._reason
        self.finish({"message": message})


class PageHandler(_Handler):
    def get(self, *_: str) -> None:
        if not self.current_user:
            self.set_status(403)
            given = self.get_argument("token", "")
            problem = "That is not the token." if given else "This page needs its token."
            self.set_header("Content-Type", "text/html; charset=utf-8")
            self.set_header("X-Frame-Options", "DENY")
            self.finish(LOGIN.format(problem=problem, path=escape(self.request.path)))
        elif self.current_user == "link":
            self.keep()
            self.redirect(self.request.path)  # the token is not to stay in the address
        else:
            self.answer_page()


class FileHandler(_Handler):
    def get(self, name: str) -> None:
        self.require()
        self.answer_file(name)


class ApiHandler(_Handler):
    async def get(self, path: str) -> None:
        self.require()
        await self.answer_api(path)

    async def post(self, path: str) -> None:
        self.require()
        await self.answer_api(path)


class LiveHandler(_Guarded, Talking, WebSocketHandler):
    def prepare(self) -> None:
        self.refuse_strangers()
        if not self.current_user:
            raise HTTPError(403, "the token is missing")

    def open(self, *_: str, **__: str) -> None:
        self.begin()

    async def on_message(self, message: str | bytes) -> None:
        await self.take(message)

    def on_close(self) -> None:
        self.end()


def application(site: Site, token: str, host: str, port: int) -> Application:
    """The dashboard as a tornado application."""
    options = {"site": site}
    return Application(
        [
            ("/api/live", LiveHandler, options),
            ("/api/(.+)", ApiHandler, options),
            ("/static/([^/]+)", FileHandler, options),
            ("/(|runs/task-run/[^/]+)", PageHandler, options),
        ],
        token=token,
        host=host,
        port=port,
        # who has the token may as well have this
        cookie_secret=hashlib.sha256(b"nbtasks dashboard" + token.encode()).hexdigest(),
        xsrf_cookies=True,
        xsrf_cookie_kwargs={"samesite": "Strict"},
        websocket_max_message_size=MESSAGE_BYTES_MAX,
        websocket_ping_interval=20,
        log_function=lambda handler: None,
    )


def link(url: str, token: str) -> str:
    """The address that lets a browser in."""
    return f"{url}?{urlencode({'token': token})}"


def serve(home: Path, host: str, port: int, ready: Callable[[str], object]) -> None:
    """Serve the page of `home` until SIGINT or SIGTERM, or until the owner of this process has ended.

    Parameters
    ----------
    port
        0: any that is free.
    ready
        Called with the link that lets in, once it listens.

    Raises
    ------
    NbtasksError
        The port or the address cannot be had.
    """
    try:
        sockets = bind_sockets(port, host)
    except OSError as error:
        raise NbtasksError(_not_bound(host, port, error)) from None
    asyncio.run(_serve(home, host, sockets, ready))


async def _serve(home: Path, host: str, sockets: list[socket.socket], ready: Callable[[str], object]) -> None:
    port, token = sockets[0].getsockname()[1], pages.token(home)
    site = Site(home, "/")
    server = HTTPServer(application(site, token, host, port))
    server.add_sockets(sockets)
    url = f"http://{_shown(host)}:{port}/"
    pages.announce(home, url)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN or number is signal.SIGTERM:
            loop.add_signal_handler(number, ended.set)
    ready(link(url, token))
    owner = owner_pid()
    try:
        while not ended.is_set() and (owner is None or born(owner) is not None):
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ended.wait(), LOOK_S)
            site.rest()
    finally:
        pages.withdraw(home)
        server.stop()
        await server.close_all_connections()
        site.close()


def _not_bound(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken; name another: nbtasks dashboard --port N, 0 for any"
    return f"{host}:{port} cannot be listened at: {error.strerror or error}"


def _shown(host: str) -> str:
    """As an address has it; what listens everywhere is shown by a name of this machine."""
    if host in ("", "0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
