"""How a tornado server answers: the page, its files, the API and the websocket, whoever lets people in.

The handlers of the Jupyter server and of the dashboard are these, each with its own guard before it. What
talks to a broker is loaded with the first question: a Jupyter server that is never asked starts as fast.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError

from nbtasks.live import scripts

if TYPE_CHECKING:
    from nbtasks.web.session import Session
    from nbtasks.web.source import Source

REST_S = 10.0  # between two looks whether anybody looks
THREADS = 4  # that ask the broker at a time
MESSAGE_BYTES_MAX = 64 * 1024  # of what a page says
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
_STATIC = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_FILES = ("page.css", "live.js", "icon.svg")


class Site:
    """What the handlers of one server share.

    Parameters
    ----------
    home
        Whose runs are shown.
    base
        Path of the page, with a slash at both ends.
    """

    def __init__(self, home: Path, base: str) -> None:
        self.home = home
        self.base = base
        self.threads = ThreadPoolExecutor(THREADS, "nbtasks-web")
        self._source: Source | None = None

    @property
    def source(self) -> Source:
        """On the server's own thread."""
        if self._source is None:
            from nbtasks.web.source import Source

            self._source = Source(self.home)
        return self._source

    def rest(self) -> None:
        """To be called now and then: let go of a broker at which nobody looks."""
        if self._source is not None:
            self._source.rest()

    def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)
        if self._source is not None:
            self._source.close()


class Answering:
    """Answers of a `RequestHandler`; `site` comes by `initialize`."""

    site: Site
    if TYPE_CHECKING:
        request: Any
        set_header: Any
        set_status: Any
        finish: Any
        xsrf_token: Any

    def initialize(self, site: Site) -> None:
        self.site = site

    def answer_page(self) -> None:
        """The one page: which view it shows is in its address."""
        _ = self.xsrf_token  # sets the cookie that a POST has to name
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Referrer-Policy", "same-origin")
        self.finish((_STATIC / "page.html").read_text("utf-8").replace("{base}", escape(self.site.base)))

    def answer_file(self, name: str) -> None:
        """A module or a style; the browser asks again whether it is the same."""
        text = _file(name)
        if text is None:
            raise HTTPError(404, f"there is no file {name!r} here")
        self.set_header("Content-Type", f"{_TYPES[Path(name).suffix]}; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.finish(text)

    async def answer_api(self, path: str) -> None:
        query = {name: values[-1].decode(errors="replace") for name, values in _arguments(self.request)}
        from nbtasks.web import api

        source, verb = self.site.source, self.request.method

        def asked() -> Any:
            with source.use() as client:
                return api.answer(client, verb, path, query)

        try:
            body = await asyncio.get_running_loop().run_in_executor(self.site.threads, asked)
            status = 200
        except api.Problem as problem:
            status, body = problem.status, {"message": str(problem)}
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(body))


class Talking:
    """The websocket of one page.

    What the page has not taken yet waits, the newest of each name: a slow page gets less, and costs no more.
    """

    site: Site
    if TYPE_CHECKING:
        write_message: Any

    def initialize(self, site: Site) -> None:
        self.site = site

    def begin(self) -> None:
        from nbtasks.web.session import Session

        loop = asyncio.get_running_loop()
        self._waiting: dict[int, dict[str, Any]] = {}
        self._sending: asyncio.Task[None] | None = None

        def send(message: dict[str, Any]) -> None:
            try:
                loop.call_soon_threadsafe(self._put, message)
            except RuntimeError:
                return  # the server ends

        self._session: Session | None = Session(self.site.source, send)

    async def take(self, text: str | bytes) -> None:
        """A message of the page; the next one is taken when this returns."""
        session = self._session
        if session is not None:
            await asyncio.get_running_loop().run_in_executor(self.site.threads, session.hear, text)

    def end(self) -> None:
        session, self._session = getattr(self, "_session", None), None
        if session is not None:
            self.site.threads.submit(session.close)

    def _put(self, message: dict[str, Any]) -> None:
        if self._session is None:
            return
        waiting = self._waiting.setdefault(message["card"], {})
        if "set" in message and "set" in waiting:
            waiting["set"].update(message["set"])
        else:
            self._waiting[message["card"]] = message
        if self._sending is None or self._sending.done():
            self._sending = asyncio.ensure_future(self._send_all())

    async def _send_all(self) -> None:
        while self._waiting:
            number = next(iter(self._waiting))
            try:
                await self.write_message(json.dumps(self._waiting.pop(number)))
            except WebSocketClosedError:
                return


def _file(name: str) -> str | None:
    stem, _, suffix = name.rpartition(".")
    if suffix == "js" and stem in ("run", "board"):
        return scripts.module(stem)
    if name == "page.js":
        return scripts.shared((_STATIC / name).read_text("utf-8"))
    if name == "widgets.css":
        return scripts.STYLE
    return (_STATIC / name).read_text("utf-8") if name in _FILES else None


def _arguments(request: Any) -> list[tuple[str, list[bytes]]]:
    # how Jupyter's front ends authenticate, and keep a question from counting as activity
    own = ("token", "_xsrf", "no_track_activity")
    return [(name, values) for name, values in request.query_arguments.items() if name not in own]
