"""A JupyterLab for tests: a server with its own token, folders and settings, that asks nobody for news.

Notebook 7, which shows one document without anything around it, is an extension of the same server.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat

from tests.system.waiting import until

ROOT = Path(__file__).parents[2]
START_S = 120.0  # it is up after 2 s on a quiet machine
END_S = 30.0  # it ends its kernels first
CONFIG = {
    "ServerApp": {"open_browser": False, "ip": "127.0.0.1", "terminals_enabled": False, "allow_root": True},
    "LabApp": {
        "expose_app_in_browser": True,
        "extension_manager": "readonly",
        "news_url": None,
        "check_for_updates_class": "jupyterlab.handlers.announcements.NeverCheckForUpdate",
    },
    "JupyterNotebookApp": {"expose_app_in_browser": True},
}
# As a user would set them: nothing is fetched from elsewhere, and what the tests write is what they see.
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/extensionmanager-extension/plugin": {"enabled": False},
    "@jupyterlab/notebook-extension/tracker": {"codeCellConfig": {"autoClosingBrackets": False}},
}


class Lab:
    """A running JupyterLab.

    Parameters
    ----------
    base
        A folder for all that it writes.

    Attributes
    ----------
    folder
        Where notebooks are, and their kernels.
    home
        The HOME of whoever uses it.
    """

    def __init__(self, base: Path) -> None:
        self.folder, self.home = base / "n", base / "u"
        self._token = secrets.token_hex(16)
        self._log = base / "lab.log"
        self._write_settings(base)
        self._process = self._start(self._environment(base))
        try:
            self.url = until(self._answering_url, "JupyterLab answers", START_S, pause_s=0.05)
        except BaseException:
            self.close()
            raise

    def _environment(self, base: Path) -> dict[str, str]:
        places = {
            "HOME": self.home,
            "IPYTHONDIR": self.home / "ipython",
            "JUPYTER_CONFIG_DIR": base / "c",
            "JUPYTER_DATA_DIR": base / "d",
            "JUPYTER_RUNTIME_DIR": base / "j",
            # what an installation puts beside those of Jupyter: nbtasks' extensions
            "JUPYTER_CONFIG_PATH": ROOT / "jupyter-config",
            "JUPYTER_PATH": ROOT / "nbtasks" / "web",
        }
        # kernels are to behave as a user's do, and ipykernel keeps file descriptors uncaptured under pytest
        kept = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        return {**kept, **{name: str(path) for name, path in places.items()}}

    def _write_settings(self, base: Path) -> None:
        self._runtime = base / "j"
        for folder in (self.folder, self.home, base / "c", base / "d", self._runtime):
            folder.mkdir(parents=True, exist_ok=True)
        (base / "c" / "jupyter_server_config.json").write_text(json.dumps(CONFIG))
        for plugin, values in SETTINGS.items():
            path = base / "c" / "lab" / "user-settings" / f"{plugin}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))

    def _start(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]  # if somebody takes it meanwhile, the server looks for another
        command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.port={port}"]
        command += [f"--IdentityProvider.token={self._token}", f"--ServerApp.root_dir={self.folder}"]
        with self._log.open("wb") as log:
            return subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=log)

    def _answering_url(self) -> str | None:
        """Where it listens: it has written that down, and answers there."""
        if self._process.poll() is not None:
            raise AssertionError(f"JupyterLab did not start:\n{self._log.read_text()[-2000:]}")
        try:
            url = json.loads((self._runtime / f"jpserver-{self._process.pid}.json").read_text())["url"]
            self._ask("GET", f"{url}api/status")
        except (OSError, ValueError):
            return None
        return str(url)

    # -- by its REST interface ----------------------------------------------------------------------------

    def _ask(self, verb: str, url: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Authorization": f"token {self._token}"}, method=verb)
        with urllib.request.urlopen(request, timeout=START_S) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def write(self, name: str, sources: list[str]) -> None:
        """Make a notebook of these code cells, below a heading with its name."""
        cells = [nbformat.v4.new_markdown_cell(f"# {name}"), *map(nbformat.v4.new_code_cell, sources)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        body = {"type": "notebook", "format": "json", "content": book}
        self._ask("PUT", f"{self.url}api/contents/{quote(name)}.ipynb", body)

    def read(self, name: str) -> Any:
        """The notebook as it is on the disk."""
        return nbformat.read(self.folder / f"{name}.ipynb", as_version=4)

    def touch(self, name: str) -> None:
        """Let go what waits for this file."""
        (self.folder / name).touch()

    def clear(self) -> None:
        """Remove what tests left beside the notebooks."""
        for path in self.folder.iterdir():
            if path.is_file() and path.suffix != ".ipynb":
                path.unlink()

    def end_kernels(self) -> None:
        """A session of a notebook has a kernel, and is over with it."""
        for session in self._ask("GET", f"{self.url}api/sessions"):
            self._ask("DELETE", f"{self.url}api/sessions/{session['id']}")

    def page_url(self, name: str, ui: str = "lab") -> str:
        """In a workspace of its own, so that no other notebook is opened with it; its name has no spaces.

        Parameters
        ----------
        ui
            "lab", or "notebook" for Notebook 7.
        """
        if ui == "notebook":
            return f"{self.url}notebooks/{quote(name)}.ipynb?token={self._token}"
        workspace = quote(name.replace(" ", "-"))
        return f"{self.url}lab/workspaces/{workspace}/tree/{quote(name)}.ipynb?token={self._token}"

    def close(self) -> None:
        """End it with its kernels."""
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
