"""`python -m tests.sim SEED` replays a day with its trace; `--seeds N` runs many."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator

from tests.sim.mutations import MUTATIONS, first_red
from tests.sim.world import Red, simulate


def _verdict(seed: int) -> tuple[int, str]:
    try:
        simulate(seed)
    except Red as red:
        return seed, str(red)
    return seed, ""


def _verdicts(seeds: range, jobs: int) -> Iterator[tuple[int, str]]:
    if jobs == 1:
        yield from map(_verdict, seeds)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap(_verdict, seeds, chunksize=10)


def _run_many(seeds: range, jobs: int) -> int:
    begun, cpu_begun = time.monotonic(), time.process_time()
    red = []
    for n, (seed, verdict) in enumerate(_verdicts(seeds, jobs), start=1):
        if verdict:
            red.append(seed)
            print(f"\r{verdict[:600]}", flush=True)
        if n % 50 == 0 or n == len(seeds):
            print(f"\r{n} of {len(seeds)} seeds, {len(red)} red", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    elapsed_s = (time.process_time() - cpu_begun) if jobs == 1 else (time.monotonic() - begun)
    print(f"{len(seeds)} seeds, {1000 * elapsed_s / len(seeds):.1f} ms each, red: {red or 'none'}")
    return 1 if red else 0


def _show_mutations(seeds: range) -> int:
    survivors = 0
    for name, change in MUTATIONS.items():
        seed = first_red(change, seeds)
        survivors += seed is None
        print(f"{name:60} {'not noticed' if seed is None else f'seed {seed}'}", flush=True)
    return 1 if survivors else 0


def _replay(seed: int) -> int:
    try:
        world, status = simulate(seed, tracing=True), 0
    except Red as red:
        world, status = red.world, 1
        print("\n".join([str(world.plan), *world.trace]))
        print(red)
        return status
    print("\n".join([str(world.plan), *world.trace]))
    return status


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="replay this seed and print what happens")
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    parser.add_argument("--mutations", action="store_true", help="which seed notices which rule that is gone")
    arguments = parser.parse_args()
    if arguments.mutations:
        return _show_mutations(range(arguments.start, arguments.start + arguments.seeds))
    if arguments.seed is not None:
        return _replay(arguments.seed)
    return _run_many(range(arguments.start, arguments.start + arguments.seeds), arguments.jobs)


if __name__ == "__main__":
    sys.exit(main())
