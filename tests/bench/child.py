"""One system through one workload: `python -m tests.bench.child SYSTEM WORKLOAD` prints figures as JSON."""

from __future__ import annotations

import json
import sys

from tests.bench.systems import SYSTEMS, Unsupported
from tests.bench.workloads import STANDING, WORKLOADS, standing, warm


def main() -> int:
    name, wanted = sys.argv[1:]
    system = SYSTEMS[name]()
    try:
        if wanted in WORKLOADS:
            figures = WORKLOADS[wanted](system)
        else:
            some = [workload for workload in STANDING if workload.__name__ in wanted.split(",")]
            system.start(2)
            warm(system)
            figures = {}
            for workload in some:
                figures |= workload(system)
    except Unsupported as error:
        print(json.dumps({"unsupported": str(error)}), flush=True)
        return 0
    finally:
        if hasattr(system, "_pool") or hasattr(system, "_base"):
            system.stop()
    print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    assert standing  # the workload of a whole round
    sys.exit(main())
