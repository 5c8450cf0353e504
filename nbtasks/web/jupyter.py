"""The extension of the Jupyter server: `/nbtasks` beside the notebooks, behind the server's own token."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import authorized, ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.utils import url_path_join
from tornado.ioloop import PeriodicCallback
from tornado.web import authenticated
from tornado.websocket import WebSocketHandler

from nbtasks.settings import home_path
from nbtasks.web.serving import MESSAGE_BYTES_MAX, POLICY, REST_S, Answering, Site, Talking

RESOURCE = "nbtasks"  # as authorizers know it


class _Handler(Answering, JupyterHandler):
    auth_resource = RESOURCE
    # a page that is open somewhere must not keep an idle server
    _track_activity = False

    @property
    def content_security_policy(self) -> str:
        return POLICY


class PageHandler(_Handler):
    @authenticated
    @authorized
    def get(self, *_: str) -> None:
        self.answer_page()


class FileHandler(_Handler):
    @authenticated
    @authorized
    def get(self, name: str) -> None:
        self.answer_file(name)


class ApiHandler(_Handler):
    @authenticated
    @authorized
    async def get(self, path: str) -> None:
        await self.answer_api(path)

    @authenticated
    @authorized
    async def post(self, path: str) -> None:
        await self.answer_api(path)


class LiveHandler(Talking, WebSocketMixin, WebSocketHandler, JupyterHandler):
    auth_resource = RESOURCE
    _track_activity = False

    @ws_authenticated
    @authorized
    async def get(self, *arguments: Any, **options: Any) -> None:
        result = super().get(*arguments, **options)
        if result is not None:
            await result

    def open(self, *_: str) -> None:
        super().open()
        self.begin()

    async def on_message(self, message: str | bytes) -> None:
        await self.take(message)

    def on_close(self) -> None:
        super().on_close()
        self.end()

    @property
    def max_message_size(self) -> int:
        return MESSAGE_BYTES_MAX


def load(server: Any) -> None:
    """Add the routes to a server, and let go of the broker while nobody looks."""
    base = url_path_join(server.web_app.settings["base_url"], "nbtasks") + "/"
    site = Site(home_path(), base)
    options = {"site": site}
    server.web_app.add_handlers(
        ".*$",
        [
            (f"{base}api/live", LiveHandler, options),
            (rf"{base}api/(.+)", ApiHandler, options),
            (rf"{base}static/([^/]+)", FileHandler, options),
            (rf"{base[:-1]}", PageHandler, options),
            (rf"{base}(|runs/task-run/[^/]+)", PageHandler, options),
        ],
    )
    PeriodicCallback(site.rest, 1000 * REST_S).start()
    server.log.info("nbtasks: the board of %s is at %s", site.home, base)
