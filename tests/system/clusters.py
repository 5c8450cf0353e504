"""Dask clusters for tests of its task runner: one worker, no dashboard, closed at the end."""

from __future__ import annotations

from typing import Any

import distributed


def dask_cluster(processes: bool) -> Any:
    """A context manager; its worker is a process of its own or a part of this one."""
    return distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=processes, dashboard_address=":0"
    )
