"""The journal's tables, meant to be read by a human with any SQLite tool.

What never changes of a run lies in `run`, what changes in the small rows of `state`; payloads lie in
tables of their own, so that neither a listing nor a change of state touches them. Lists of records
are JSON arrays whose items are in the order of the fields in `nbtasks.core.messages`.
"""

from __future__ import annotations

VERSION = 4
APPLICATION = 0x6E627473  # "nbts"

_SINCE_2 = """
CREATE TABLE mark (
    name     TEXT PRIMARY KEY,      -- 'checked': every page was read and found whole;
                                    -- 'written': the newest transaction, no two have the same
    at       REAL NOT NULL          -- UNIX seconds
) WITHOUT ROWID;
CREATE INDEX spec_by_code ON spec (code);
"""

_SINCE_3 = """
ALTER TABLE run ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;  -- larger ones go first
ALTER TABLE run ADD COLUMN eta REAL NOT NULL DEFAULT 0;          -- not before; 0: at once
ALTER TABLE run ADD COLUMN expires REAL NOT NULL DEFAULT 0;      -- not started by then: never; 0: none
ALTER TABLE run ADD COLUMN name TEXT NOT NULL DEFAULT '';        -- its own; '': its task's
CREATE TABLE idempotency (          -- runs that were submitted with a key
    task     TEXT NOT NULL,
    key      TEXT NOT NULL,
    seq      INTEGER NOT NULL REFERENCES run,
    PRIMARY KEY (task, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_by_run ON idempotency (seq);
ALTER TABLE run ADD COLUMN cache_key TEXT NOT NULL DEFAULT '';  -- runs with the same have the same result
ALTER TABLE run ADD COLUMN refresh INTEGER NOT NULL DEFAULT 0;  -- no earlier result is taken
CREATE TABLE cache (                -- whose result stands for a cache key
    key      TEXT PRIMARY KEY,
    seq      INTEGER NOT NULL REFERENCES run,
    expires  REAL NOT NULL          -- UNIX seconds; 0: as long as the run is kept
) WITHOUT ROWID;
CREATE INDEX cache_by_run ON cache (seq);
CREATE TABLE tag_limit (            -- how many runs with a tag may be under way
    name     TEXT PRIMARY KEY,
    slots    INTEGER NOT NULL,
    period_s REAL NOT NULL          -- of a rate: so many starts within this time; 0: at a time
) WITHOUT ROWID;
CREATE TABLE holding (              -- slots that the code of a live run holds
    token    TEXT PRIMARY KEY,
    name     TEXT NOT NULL,
    slots    INTEGER NOT NULL,
    run      TEXT NOT NULL          -- its id
) WITHOUT ROWID;
CREATE TABLE need (                 -- runs that must end before another may start
    seq      INTEGER NOT NULL REFERENCES run,  -- of the one that waits
    run      TEXT NOT NULL,                    -- the id of the one it waits for
    tolerant INTEGER NOT NULL,                 -- in whatever way it ends
    PRIMARY KEY (seq, run)
) WITHOUT ROWID;
"""

# What brings a journal of this version to the next one.
STEPS = {
    1: _SINCE_2,
    2: _SINCE_3,
    3: "DROP TABLE IF EXISTS ended;",  # counts of final runs, which schemas 2 and 3 kept
}

TABLES = (
    """
CREATE TABLE spec (
    spec     INTEGER PRIMARY KEY,
    id       TEXT NOT NULL UNIQUE,  -- digest of the body
    key      TEXT NOT NULL,         -- of the task
    name     TEXT NOT NULL,
    tags     TEXT NOT NULL,         -- JSON array
    code     TEXT NOT NULL,         -- digest in `code`; '' when only a serving pool can run it
    body     TEXT NOT NULL          -- JSON: Spec
);
CREATE TABLE code (
    digest   TEXT PRIMARY KEY,
    body     BLOB NOT NULL          -- pickled function
) WITHOUT ROWID;
CREATE TABLE run (                  -- never changed after insertion
    seq      INTEGER PRIMARY KEY,   -- order of arrival
    id       TEXT NOT NULL UNIQUE,  -- UUIDv7
    batch    TEXT NOT NULL,
    spec     INTEGER NOT NULL REFERENCES spec,
    parent   TEXT NOT NULL,         -- id of the run that submitted it
    submitted REAL NOT NULL,        -- UNIX seconds, as all times here
    parameters TEXT NOT NULL,       -- JSON object: name -> repr
    args     BLOB NOT NULL,         -- pickled
    crc      INTEGER NOT NULL       -- CRC-32 of id, parameters and args
);
CREATE TABLE state (
    seq      INTEGER PRIMARY KEY REFERENCES run,
    state    TEXT NOT NULL,
    message  TEXT NOT NULL,
    at       REAL NOT NULL,         -- since when
    history  TEXT NOT NULL,         -- JSON: [Moment]
    attempts TEXT NOT NULL,         -- JSON: [Attempt], charged ones only
    attempt  INTEGER NOT NULL,      -- number of the newest assignment
    worker   TEXT NOT NULL,         -- who holds it
    started  INTEGER NOT NULL,
    stop     TEXT NOT NULL,         -- why it is being interrupted
    due      REAL NOT NULL,         -- not before
    failures INTEGER NOT NULL,
    crashes  INTEGER NOT NULL,
    chunks   INTEGER NOT NULL       -- of output, of the newest assignment
);
CREATE INDEX state_by_name ON state (state);
CREATE TABLE result (
    seq      INTEGER PRIMARY KEY REFERENCES run,
    value    BLOB NOT NULL          -- pickled result or failure
);
CREATE TABLE output (
    seq      INTEGER NOT NULL REFERENCES run,
    attempt  INTEGER NOT NULL,
    number   INTEGER NOT NULL,      -- from 1 within the attempt
    body     BLOB NOT NULL,         -- JSON array of nbformat outputs
    UNIQUE (seq, attempt, number)
);
CREATE TABLE peer (                 -- workers and pools that may be alive
    id       TEXT PRIMARY KEY,
    kind     TEXT NOT NULL,         -- worker, pool
    body     TEXT NOT NULL          -- JSON object
) WITHOUT ROWID;
"""
    + _SINCE_2
    + _SINCE_3
)
