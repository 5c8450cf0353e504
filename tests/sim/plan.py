"""What a seed does: its own mix of faults (a "swarm"), its load, and how each run behaves.

A mix of everything hides what a mix of few things shows, so every kind of fault is absent from half
of the seeds.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import msgspec

from nbtasks.core.hooks import ENDS
from nbtasks.core.messages import Need, RunId, Spec, Terms
from nbtasks.core.records import Now

PYTHON = "3.11"


class Plan(NamedTuple):
    """One day. Times are simulated seconds, probabilities are per opportunity."""

    faults_s: float  # so long things go wrong; then they heal
    # network
    drop: float
    repeat: float
    delay_s: float  # mean
    tail: float  # probability of a delay of up to `tail_s`
    tail_s: float
    split: float  # probability that the messages of a frame travel apart
    encoded: bool  # frames are really encoded and decoded
    pass_s: float  # what arrives within this time may be one batch for the broker
    # processes
    crash: float  # of the broker, per commit, at a random side of it
    step_kill: float  # of a worker, per step of its main thread
    promise_kill: float  # of a client that wrote into its outbox and said nothing yet
    gives_up: float  # probability that a caller is interrupted when a submit was promised
    facts_late_s: float  # until an exit is known
    starts_s: float  # until a worker is up
    worker_kills: int
    broker_kills: int
    pool_kills: int
    client_kills: int
    stalls: int
    reconnects: int  # of some peer
    # operators
    drains: int
    resizes: int
    stops: int
    jumps: int  # of the wall clock
    # load
    clients: int
    batches: int
    batch_runs: int
    cancel: float  # of a run
    hangs: float  # of a run, until it is interrupted
    queue_limit: int
    idle_stop_s: float
    workers: int
    second_pool: bool  # one that serves certain tasks
    stays: bool
    promises: bool  # the clients use an outbox
    terms: bool  # some submits have a priority, an eta, a time when they expire, an idempotency key
    needs: float  # of a run, that it needs others
    caches: float  # of a run, that it has a cache key
    limits: bool  # tags are limited, and the limits changed
    lends: float  # of a run, that its code waits for others
    hooks: bool  # some tasks have hooks, and conditions that say no
    streams: bool  # some runs yield values, which clients read
    sticky: bool  # some runs are to share a namespace
    runs_max: int  # that a worker executes before it is replaced; 0: any number
    observes: bool  # the clients look at the board and at some of their runs

    @property
    def calm(self) -> bool:
        """Whether what is said a few times arrives."""
        return not self.stalls


def _some(rng: Random, chance: float, *values: float) -> float:
    return rng.choice(values) if rng.random() < chance else 0.0


def draw(rng: Random, others: Random) -> Plan:
    """Draw the mix of one seed; what `others` decides leaves the rest of the day as it is."""
    half = 0.5
    return Plan(
        faults_s=rng.uniform(3, 8),
        drop=_some(rng, half, 0.02, 0.1, 0.3, 0.3),
        repeat=_some(rng, half, 0.02, 0.1, 0.3, 0.6),
        delay_s=rng.choice((0.0002, 0.002, 0.02)),
        tail=_some(rng, half, 0.02, 0.1),
        tail_s=rng.choice((0.2, 1.0, 3.0)),
        split=_some(rng, half, 0.3, 1.0),
        encoded=rng.random() < 0.1,
        pass_s=rng.choice((0.0, 0.003, 0.1, 0.1)),
        crash=_some(rng, half, 0.005, 0.03),
        step_kill=_some(rng, half, 0.01, 0.05),
        facts_late_s=rng.choice((0.0005, 0.02, 1.5)),
        starts_s=rng.choice((0.05, 0.4)),
        worker_kills=int(_some(rng, half, 1, 3, 5)),
        broker_kills=int(_some(rng, half, 1, 2, 4)),
        pool_kills=int(_some(rng, 0.3, 1, 2)),
        client_kills=int(_some(rng, 0.3, 1, 2)),
        stalls=int(_some(rng, 0.3, 1, 3)),
        reconnects=int(_some(rng, half, 3, 15, 30)),
        drains=int(_some(rng, 0.2, 1)),
        resizes=int(_some(rng, 0.3, 1, 3)),
        stops=int(_some(rng, 0.2, 1, 2)),
        jumps=int(_some(rng, half, 1, 3, 6)),
        clients=rng.choice((1, 1, 2)),
        batches=rng.choice((3, 6, 12)),
        batch_runs=rng.choice((1, 2, 5, 10)),
        cancel=_some(rng, half, 0.1, 0.4),
        hangs=_some(rng, 0.3, 0.5),
        queue_limit=rng.choice((5000, 5000, 6, 15)),
        idle_stop_s=rng.choice((900.0, 900.0, 1.0)),
        workers=rng.choice((1, 2, 3)),
        second_pool=rng.random() < 0.3,
        stays=rng.random() < 0.7,
        observes=others.random() < 0.3,
        promises=others.random() < 0.7,
        promise_kill=_some(others, half, 0.2, 0.5),
        terms=others.random() < 0.5,
        caches=_some(others, half, 0.3, 0.7),
        limits=others.random() < 0.4,
        lends=_some(others, half, 0.3, 0.8),
        needs=_some(others, half, 0.2, 0.7),
        hooks=others.random() < 0.5,
        streams=others.random() < 0.5,
        sticky=others.random() < 0.4,
        runs_max=int(_some(others, 0.3, 1, 3)),
        gives_up=_some(others, half, 0.3),
    )


class Job(NamedTuple):
    """How the user code of a run behaves."""

    kind: str  # see `KINDS`
    length_s: float
    chunks: int  # of output

    @property
    def takes_notice(self) -> bool:
        """Whether an interrupt ends it."""
        return self.kind not in ("late", "deaf")

    @property
    def must_be_stopped(self) -> bool:
        return self.kind in ("hangs", "deaf")


HOOKS = Job("completes", 0.01, 1)  # of a hook run

KINDS = {
    "completes": 60,
    "raises": 6,
    "flaky": 10,  # raises, every other time
    "exits": 3,  # ends its process
    "flaky exit": 5,
    "system exit": 3,
    "hangs": 12,  # until it is interrupted
    "late": 5,  # takes no notice of an interrupt, but ends
    "deaf": 4,  # takes no notice of an interrupt, nor ends
}


def draw_job(rng: Random, plan: Plan, deaf: bool = True) -> Job:
    """Draw how a run behaves; without `deaf` it ends by itself or when it is told to."""
    kind = "hangs" if rng.random() < plan.hangs else rng.choices(list(KINDS), weights=list(KINDS.values()))[0]
    if kind == "deaf" and not deaf:
        kind = "completes"
    most_s = rng.choice((0.002, 0.002, 0.02, 0.02, 0.3, 2.0))
    return Job(kind, rng.uniform(0.0, most_s), rng.choice((0, 0, 1, 3)))


def draw_terms(rng: Random, plan: Plan, now: Now, alone: bool) -> Terms:
    """What is asked of a submit; `alone`: of one run."""
    if not plan.terms:
        return Terms()
    # nobody waits until a clock that was set back by a day is right again
    may_wait = not plan.jumps
    return Terms(
        priority=rng.choice((0, 0, 1, -1)),
        eta=now.unix_s + rng.uniform(-1, 3) if may_wait and rng.random() < 0.3 else 0.0,
        expires=now.unix_s + rng.choice((0.01, 0.5, 2.0)) if rng.random() < 0.2 else 0.0,
        key=rng.choice(("k", "l")) if alone and rng.random() < 0.4 else "",
    )


def draw_needs(rng: Random, plan: Plan, known: list[RunId]) -> tuple[Need, ...]:
    """Which of the runs that were submitted before one more needs; now and then one that nobody recorded."""
    if not known or not plan.needs or rng.random() >= plan.needs:
        return ()
    chosen = rng.sample(known, min(len(known), rng.choice((1, 1, 2, 3))))
    if rng.random() < 0.02:
        chosen.append("run-unknown")
    return tuple(Need(run, rng.random() < 0.3) for run in chosen)


def draw_key(rng: Random, plan: Plan) -> str:
    """The cache key of a run; "": none."""
    return rng.choice(("x", "y", "z")) if plan.caches and rng.random() < plan.caches else ""


def draw_spec(rng: Random, plan: Plan, served: bool) -> Spec:
    """A task; one that is served may not carry its code."""
    key = rng.choice(("a", "b")) if served else rng.choice(("a", "b", "c"))
    spec = Spec(
        key=key,
        name=key,
        python=PYTHON,
        code="" if served and rng.random() < 0.5 else f"code-{key}",
        version=f"{rng.randrange(10**6)}",
        retries=rng.choice((0, 0, 1, 3)),
        retry_delay_s=rng.choice((0.0, 0.0, 0.3, 2.0)),
        crash_retries=rng.choice((0, 0, 1, 2)),
        timeout_s=rng.choice((0.0, 0.0, 0.2, 1.0)),
        grace_s=rng.choice((0.0, 0.2, 1.0, 5.0, 5.0)),
        cache_s=rng.choice((0.0, 0.2, 2.0)) if plan.caches else 0.0,
        tags=rng.choice(((), ("t",), ("t", "u"))) if plan.limits else (),
        later_delays_s=rng.choice(((), (), (0.0,), (0.1, 0.5))),
        retry_jitter=rng.choice((0.0, 0.0, 0.5)),
        hooks=tuple(rng.sample(ENDS, rng.choice((0, 1, 2, len(ENDS))))) if plan.hooks else (),
    )
    # not drawn, so that a day without it stays as it was
    return (
        msgspec.structs.replace(spec, sticky=("", "", "s", "z")[int(spec.version) % 4])
        if plan.sticky
        else spec
    )
