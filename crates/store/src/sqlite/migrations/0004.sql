-- The pool's log and the books that follow from it.

-- The most that a job may cost, in micro-credits.
ALTER TABLE jobs ADD COLUMN max_price INTEGER;

-- Nobody was told what these are, so nothing may be drawn by them.
DELETE FROM audit_secrets;

-- What is published, in the order of the published log: a row's number is its entry's number there. Never changed.
-- `kind` is the number that published files have for it. Beside `bytes` (canonical) and what they name by a digest stands
-- only what rows are found by: `device` and `sequence` of receipts and of claims that were voided; `owner` of receipts, by
-- its number in `ledger_accounts`; `job` of receipts, and of ledger entries that belong to one.
CREATE TABLE log (
    number INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    attachment BLOB,
    device BLOB,
    sequence INTEGER,
    owner INTEGER,
    job INTEGER
) STRICT;
-- Receipts are 5, ledger entries 6, voided claims 14.
CREATE UNIQUE INDEX log_receipts ON log (device, sequence) WHERE kind = 5;
CREATE UNIQUE INDEX log_voided ON log (device, sequence) WHERE kind = 14;
CREATE INDEX log_by_owner ON log (owner, number) WHERE kind = 5;
CREATE INDEX log_by_job ON log (job, kind, number) WHERE job IS NOT NULL;
CREATE INDEX log_of_no_job ON log (number) WHERE kind = 6 AND job IS NULL;
-- What stays true for the whole pool: it was opened, tariffs, certifications, payouts.
CREATE INDEX log_standing ON log (number) WHERE kind IN (1, 2, 4, 13);
CREATE INDEX log_secrets ON log (number) WHERE kind = 8;

CREATE TRIGGER log_is_appended BEFORE INSERT ON log
WHEN NEW.number IS NOT (SELECT coalesce(max(number) + 1, 0) FROM log)
BEGIN SELECT RAISE(ABORT, 'entries of the log are numbered from 0 without a gap'); END;
CREATE TRIGGER log_is_not_changed BEFORE UPDATE ON log
BEGIN SELECT RAISE(ABORT, 'the log is never changed: what was wrong is put right by a new entry'); END;
CREATE TRIGGER log_is_not_deleted BEFORE DELETE ON log
BEGIN SELECT RAISE(ABORT, 'nothing is deleted from the log: what was wrong is put right by a new entry'); END;

-- Accounts that ever had anything. Those that belong to somebody (member, held, payable) are numbered up from 1, all others
-- down from -1, so that only the former's postings need an index.
CREATE TABLE ledger_accounts (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    balance INTEGER NOT NULL,
    UNIQUE (kind, name)
) STRICT;
CREATE INDEX ledger_balances ON ledger_accounts (number) WHERE balance <> 0;

-- Every transfer, once. The last byte of `id` is its place in its entry, whose time and purpose are in the log.
CREATE TABLE postings (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    entry INTEGER NOT NULL,
    debit INTEGER NOT NULL,
    credit INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    kind INTEGER NOT NULL,
    CHECK (debit <> credit)
) STRICT;
CREATE INDEX postings_by_debit ON postings (debit, number) WHERE debit > 0;
CREATE INDEX postings_by_credit ON postings (credit, number) WHERE credit > 0;

CREATE TRIGGER postings_are_appended BEFORE INSERT ON postings
WHEN NEW.number IS NOT (SELECT coalesce(max(number) + 1, 0) FROM postings)
BEGIN SELECT RAISE(ABORT, 'postings are numbered from 0 without a gap'); END;
CREATE TRIGGER postings_are_not_changed BEFORE UPDATE ON postings
BEGIN SELECT RAISE(ABORT, 'postings are never changed: what was wrong is put right by a new transfer'); END;
CREATE TRIGGER postings_are_not_deleted BEFORE DELETE ON postings
BEGIN SELECT RAISE(ABORT, 'postings are never deleted: what was wrong is put right by a new transfer'); END;

-- Each device's claims in numbers.
CREATE TABLE device_accounts (
    device BLOB PRIMARY KEY,
    decided INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    held INTEGER NOT NULL,
    releases INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How long each device was present on the day (since 1970) that is not settled.
CREATE TABLE attendance (
    device BLOB PRIMARY KEY,
    day INTEGER NOT NULL,
    attended_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How often each member asked to be paid out.
CREATE TABLE payout_requests (
    account TEXT PRIMARY KEY,
    requests INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the bank answered to, by the number of the answer's entry in the log.
CREATE TABLE payouts_settled (
    entry INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    account TEXT NOT NULL
) STRICT;

-- What members want to become of what they earn. `name` and what follows are the bank account of those who prefer `direct`.
CREATE TABLE payout_preferences (
    account TEXT PRIMARY KEY,
    preference TEXT NOT NULL,
    name TEXT,
    iban TEXT,
    bic TEXT
) STRICT, WITHOUT ROWID;

-- Payout runs with their files. `details` is the entry of the log that a run becomes; until then `sent` is absent, and the
-- files may be made anew. `approval` is a DSSE envelope.
CREATE TABLE payouts (
    run INTEGER PRIMARY KEY,
    details BLOB NOT NULL,
    pain001 BLOB NOT NULL,
    csv BLOB NOT NULL,
    approval BLOB,
    sent INTEGER
) STRICT;
