"""The bare way there and back: `python -m tests.bench.hop ROLE FOLDER` is one process of it.

A client's DEALER, a loop over two ROUTERs in plain Python, and DEALERs that send back what comes, over
`ipc` without keys. Nothing is done with a message but to pass it on, so no broker in Python is faster.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import zmq

HEAD_BYTES, BODY_BYTES = 40, 160  # as large as those that `targets.THERE` was measured with
BATCH = 200  # messages from one socket before the other one has its turn
WORKERS = 2


def socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    """A socket that drops nothing, however much is queued, and keeps nobody from ending."""
    made = context.socket(kind)
    made.linger = made.sndhwm = made.rcvhwm = 0
    return made


def front(folder: str) -> str:
    return f"ipc://{folder}/front"


def back(folder: str) -> str:
    return f"ipc://{folder}/back"


def main() -> None:
    role, folder = sys.argv[1:]
    threading.Thread(target=_end_with_owner, args=(folder,), daemon=True).start()
    {"router": _route, "echo": _echo}[role](folder)


def _end_with_owner(folder: str) -> None:
    """Standard input is a pipe that its owner alone holds open: it ends with it, however that ends."""
    while os.read(0, 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _route(folder: str) -> None:
    context = zmq.Context()
    clients, workers = socket(context, zmq.ROUTER), socket(context, zmq.ROUTER)
    clients.bind(front(folder))
    workers.bind(back(folder))
    # a ROUTER drops what is for a peer it does not know yet
    turns = itertools.cycle([workers.recv_multipart()[0] for _ in range(WORKERS)])
    poller = zmq.Poller()
    poller.register(clients, zmq.POLLIN)
    poller.register(workers, zmq.POLLIN)
    while True:
        for ready, _ in poller.poll():
            for frames in _batch(ready):
                if ready is clients:
                    workers.send_multipart([next(turns), *frames])
                else:
                    clients.send_multipart(frames[1:])


def _batch(ready: zmq.Socket[bytes]) -> Iterator[list[bytes]]:
    with suppress(zmq.Again):
        for _ in range(BATCH):
            yield ready.recv_multipart(zmq.NOBLOCK)


def _echo(folder: str) -> None:
    worker = socket(zmq.Context(), zmq.DEALER)
    worker.connect(back(folder))
    worker.send(b"")  # here I am
    while True:
        worker.send_multipart(worker.recv_multipart())


if __name__ == "__main__":
    main()
