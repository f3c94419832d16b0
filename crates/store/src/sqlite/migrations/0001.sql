-- Numbers are unsigned and stored bit for bit: one of 2^63 or more shows as negative. Times are milliseconds since 1970.
-- Digests and keys are raw bytes. What is one column only because it is a list or a choice is encoded as `caii-wire`'s
-- rows are.

-- One row. Commits are accepted from the holder of this epoch alone. The ids are the next free ones: what used the
-- lower ones may be deleted.
CREATE TABLE pool (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL,
    next_key INTEGER NOT NULL,
    next_ticket INTEGER NOT NULL,
    next_file INTEGER NOT NULL,
    next_job INTEGER NOT NULL
) STRICT;
INSERT INTO pool VALUES (1, 0, 1, 1, 1, 1);

CREATE TABLE keys (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    account TEXT NOT NULL,
    role TEXT NOT NULL,
    secret_hash BLOB NOT NULL,
    created INTEGER NOT NULL,
    revoked INTEGER
) STRICT;

-- As issued: the uses since then are the rows of `enrolments`.
CREATE TABLE tickets (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    secret_hash BLOB NOT NULL,
    expires INTEGER NOT NULL,
    uses_max INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    revoked INTEGER
) STRICT;

-- In order. The last row of a device counts; each used its ticket once.
CREATE TABLE enrolments (
    number INTEGER PRIMARY KEY,
    device BLOB NOT NULL,
    public_key BLOB NOT NULL,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    enrolled INTEGER NOT NULL,
    ticket INTEGER NOT NULL REFERENCES tickets
) STRICT;

CREATE TABLE workloads (
    digest BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    manifest BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE models (
    name TEXT PRIMARY KEY,
    workload BLOB NOT NULL,
    endpoint TEXT NOT NULL,
    dimensions INTEGER NOT NULL,
    tokens_max INTEGER NOT NULL,
    source TEXT NOT NULL,
    added INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    filename TEXT NOT NULL,
    purpose TEXT NOT NULL,
    digest BLOB NOT NULL,
    size INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT;

-- Open and ended ones. `ended` and what follows it is set when the job ends.
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    kind_details BLOB NOT NULL,
    workload BLOB NOT NULL,
    input INTEGER,
    records_per_task INTEGER,
    deadline INTEGER NOT NULL,
    submitted INTEGER NOT NULL,
    prepared INTEGER,
    blob BLOB,
    ending TEXT,
    ending_details BLOB,
    ending_since INTEGER,
    ended INTEGER,
    output INTEGER,
    errors INTEGER,
    records INTEGER,
    records_ok INTEGER,
    records_failed INTEGER,
    tasks INTEGER,
    tasks_settled INTEGER,
    tasks_given_up INTEGER,
    attempts_failed INTEGER,
    devices INTEGER,
    fuel INTEGER,
    cpu_ms INTEGER
) STRICT;
CREATE INDEX jobs_open ON jobs (id) WHERE ended IS NULL;
-- Synchronous requests are the many and are never listed.
CREATE INDEX jobs_listed ON jobs (id) WHERE kind <> 'sync';
CREATE INDEX jobs_listed_by_owner ON jobs (owner, id) WHERE kind <> 'sync';

-- The split inputs of jobs, apart from `jobs` because they are large.
CREATE TABLE inputs (
    job INTEGER PRIMARY KEY REFERENCES jobs,
    prepared BLOB NOT NULL
) STRICT;

CREATE TABLE settled (
    job INTEGER NOT NULL REFERENCES inputs,
    task INTEGER NOT NULL,
    device BLOB NOT NULL,
    root BLOB NOT NULL,
    result BLOB NOT NULL,
    size INTEGER NOT NULL,
    items INTEGER NOT NULL,
    items_failed INTEGER NOT NULL,
    records_failed INTEGER NOT NULL,
    fuel INTEGER NOT NULL,
    cpu_ms INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (job, task)
) STRICT, WITHOUT ROWID;

CREATE TABLE given_up (
    job INTEGER NOT NULL REFERENCES inputs,
    task INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (job, task)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    number INTEGER PRIMARY KEY,
    job INTEGER NOT NULL REFERENCES inputs,
    task INTEGER NOT NULL,
    lease BLOB NOT NULL,
    device BLOB NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX attempts_by_job ON attempts (job);
