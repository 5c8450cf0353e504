"""What a pool was asked for, looked up on this machine: which interpreter, which variables, which GPUs."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from nbtasks.wire.kind import Kind
from nbtasks.wire.process import python_command

GPU_TAG = "gpu"  # which workers with a GPU offer
DEVICES = "CUDA_VISIBLE_DEVICES"
CHECK_S = 60.0  # for an interpreter to import a worker


class BadKind(ValueError):
    """What was asked for is not here; the message is one line for people."""


class Workers(NamedTuple):
    """How workers are started."""

    command: list[str]  # up to the module's arguments
    env: dict[str, str]
    tags: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()  # GPUs, of which each worker sees one
    runs_max: int = 0

    def environment(self, own: dict[str, str], taken: Iterable[str]) -> dict[str, str]:
        """The variables of one more worker; `taken` are the GPUs of the others."""
        if not self.devices:
            return {**own, **self.env}
        users = Counter(taken)
        return {**own, **self.env, DEVICES: min(self.devices, key=lambda device: users[device])}


def workers(kind: Kind, most: int, environment: dict[str, str]) -> Workers:
    """How to start what was asked for; raises `BadKind`."""
    command, env = python_command("nbtasks.worker"), dict(kind.env)
    if kind.kernel:
        python, of_kernel = _interpreter(kind.kernel)
        command, env = [python, *command[1:]], {**of_kernel, **env}
        _check(kind.kernel, python, {**environment, **env})
    tags, devices = kind.tags, tuple[str, ...]()
    if kind.gpu:
        devices = _devices({**environment, **env})
        tags = tuple(dict.fromkeys((*tags, GPU_TAG)))
        if most > len(devices):
            raise BadKind(
                f"{most} workers with a GPU each were asked for, and there are {len(devices)} GPUs"
                if devices
                else f"no GPU was found: neither {DEVICES} nor /dev/nvidia0 is there"
            )
    return Workers(command, env, tags, devices, kind.runs_max)


def _devices(environment: dict[str, str]) -> tuple[str, ...]:
    """The GPUs that may be used."""
    allowed = environment.get(DEVICES)
    if allowed is not None:
        return tuple(filter(None, (device.strip() for device in allowed.split(","))))
    found = (re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*"))
    return tuple(sorted((match[1] for match in found if match), key=int))


def _interpreter(name: str) -> tuple[str, dict[str, str]]:
    """Interpreter and variables of a kernelspec."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    known = KernelSpecManager()
    try:
        spec = known.get_kernel_spec(name)
    except NoSuchKernel:
        there = ", ".join(sorted(known.find_kernel_specs())) or "none"
        raise BadKind(f"there is no kernel {name!r}; there are: {there}") from None
    if spec.language.lower() != "python" or not spec.argv:
        raise BadKind(f"kernel {name!r} is of {spec.language or 'no language'}: workers execute Python")
    return spec.argv[0], dict(spec.env)


def _check(name: str, python: str, environment: dict[str, str]) -> None:
    try:
        done = subprocess.run(
            [python, "-c", "import ipykernel, nbtasks.worker.executor"],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CHECK_S,
            cwd=os.sep,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadKind(f"the interpreter of kernel {name!r} cannot be used: {error}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise BadKind(f"kernel {name!r} ({python}) cannot be a worker: {last}; install nbtasks there")
