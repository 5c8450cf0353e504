"""One system through one workload: `python -m tests.bench.child SYSTEM WORKLOAD` prints figures as JSON."""

from __future__ import annotations

import json
import sys

from tests.bench.systems import SYSTEMS, Unsupported
from tests.bench.workloads import STANDING, WORKLOADS, Figures, first_result, standing


def main() -> int:
    name, wanted = sys.argv[1:]
    try:
        print(json.dumps(_figures(name, wanted)), flush=True)
    except Unsupported as error:
        print(json.dumps({"unsupported": str(error)}), flush=True)
    return 0


def _figures(name: str, wanted: str) -> Figures:
    if wanted == "cold":
        return first_result(name)
    with SYSTEMS[name]() as system:
        if wanted in WORKLOADS:
            return WORKLOADS[wanted](system)
        return standing(system, [each for each in STANDING if each.__name__ in wanted.split(",")])


if __name__ == "__main__":
    sys.exit(main())
