-- Checking of results. What is settled is provisional until its job's checks make it final.

ALTER TABLE jobs ADD COLUMN verification TEXT NOT NULL DEFAULT 'off';
-- The depth of audits, or the number of results of a quorum.
ALTER TABLE jobs ADD COLUMN verification_number INTEGER NOT NULL DEFAULT 0;

-- Steps in the checking of tasks, in order.
CREATE TABLE checks (
    number INTEGER PRIMARY KEY,
    job INTEGER NOT NULL REFERENCES inputs,
    task INTEGER NOT NULL,
    event BLOB NOT NULL
) STRICT;
CREATE INDEX checks_by_task ON checks (job, task);

-- Accepted results that do not count any more.
CREATE TABLE voided (
    number INTEGER PRIMARY KEY,
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
    jail INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;

-- What each device was asked and has survived, by workload.
CREATE TABLE standings (
    device BLOB NOT NULL,
    workload BLOB NOT NULL,
    drawn INTEGER NOT NULL,
    survived INTEGER NOT NULL,
    PRIMARY KEY (device, workload)
) STRICT, WITHOUT ROWID;

-- Devices that were found to falsify.
CREATE TABLE convictions (
    device BLOB PRIMARY KEY,
    workload BLOB NOT NULL,
    job INTEGER NOT NULL,
    audit INTEGER NOT NULL,
    item_task INTEGER NOT NULL,
    item INTEGER NOT NULL,
    as_auditor INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What draws depend on, by period. Secret until the period is over.
CREATE TABLE audit_secrets (
    period INTEGER PRIMARY KEY,
    secret BLOB NOT NULL,
    since INTEGER NOT NULL
) STRICT;
