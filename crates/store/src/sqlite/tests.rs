use super::*;
use crate::MemoryStore;
use crate::conformance::script::{Random, Script};
use crate::conformance::{History, SEEDS_FEW, STEPS, check};
use caii_coordinator::Catalog;
use caii_model::{Digest, JailLayers, JobId, Millis, Timestamp};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(directory: &TempDir) -> SqliteStore {
    SqliteStore::open(&directory.path().join("pool.db")).unwrap()
}

fn rebuilt(store: &mut dyn Store) -> Catalog {
    let snapshot = store.load().unwrap();
    let mut catalog = Catalog::default();
    snapshot.changes.iter().for_each(|change| catalog.apply(change));
    catalog.reserve_ids(snapshot.next);
    catalog
}

/// So many commits of a script, and the catalog after each; the first is that of an empty pool.
fn commits(seed: u64, count: usize) -> (Vec<Vec<Change>>, Vec<Catalog>) {
    let (mut script, mut history) = (Script::new(seed), History::default());
    let commits: Vec<_> = (0..count).map(|_| script.changes()).collect();
    let mut catalogs = vec![history.catalog().clone()];
    for changes in &commits {
        history.commit(changes.clone());
        catalogs.push(history.catalog().clone());
    }
    (commits, catalogs)
}

#[test]
fn sqlite_conforms() {
    for seed in 0..SEEDS_FEW {
        let directory = directory();
        check(seed, STEPS, &mut || Box::new(open(&directory))).unwrap();
    }
}

#[test]
fn snapshots_are_those_of_the_store_in_memory() {
    let directory = directory();
    let (mut sqlite, mut memory) = (open(&directory), MemoryStore::new());
    let (on_disk, in_memory) = (sqlite.acquire().unwrap(), memory.acquire().unwrap());
    for changes in commits(7, 60).0 {
        sqlite.commit(on_disk, &changes).unwrap();
        memory.commit(in_memory, &changes).unwrap();
    }
    assert_eq!(sqlite.load().unwrap(), memory.load().unwrap());
}

#[test]
fn a_log_cut_anywhere_holds_whole_commits() {
    let source = directory();
    let mut store = open(&source);
    let epoch = store.acquire().unwrap();
    let (commits, catalogs) = commits(3, 30);
    for changes in &commits {
        store.commit(epoch, changes).unwrap();
    }
    // The files as they lie there while the pool runs: what a crash of the machine leaves, and less.
    let log = fs::read(source.path().join("pool.db-wal")).unwrap();
    let mut random = Random::new(3);
    let (mut last, mut seen) = (0, std::collections::BTreeSet::new());
    let mut cuts: Vec<usize> = (0..30).map(|_| random.below(log.len() as u64) as usize).collect();
    cuts.extend([0, log.len()]);
    cuts.sort_unstable();
    for cut in cuts {
        let copy = directory();
        fs::copy(source.path().join("pool.db"), copy.path().join("pool.db")).unwrap();
        fs::write(copy.path().join("pool.db-wal"), &log[..cut]).unwrap();
        let catalog = rebuilt(&mut open(&copy));
        // Commits that change nothing in the catalog look alike: any of them will do.
        let place = catalogs.iter().rposition(|expected| *expected == catalog);
        let place = place.unwrap_or_else(|| panic!("a log cut at {cut} holds part of a commit"));
        assert!(place >= last, "a longer log holds less");
        last = place;
        seen.insert(place);
    }
    assert_eq!(last, commits.len(), "the whole log holds everything");
    assert!(seen.len() > 10, "the cuts fell everywhere: {seen:?}");
}

const CHILD_DIRECTORY: &str = "CAII_STORE_TEST_DIRECTORY";
const CHILD_SEED: u64 = 11;
const CHILD_COMMITS: usize = 400;

/// Not a test of its own: what the next ones run as another process, to kill it or to take its disk away.
#[test]
fn child_commits_until_it_cannot() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let mut store = SqliteStore::open(&Path::new(&directory).join("pool.db")).unwrap();
    let epoch = store.acquire().unwrap();
    for (number, changes) in commits(CHILD_SEED, CHILD_COMMITS).0.iter().enumerate() {
        match store.commit(epoch, changes) {
            Ok(()) => println!("\ncommitted {}", number + 1),
            Err(error) => {
                println!("\nfailed {error:?}");
                return;
            }
        }
    }
}

fn child(directory: &TempDir, wrapper: &[&str]) -> Command {
    let test = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(&test),
        [shell, rest @ ..] => {
            let mut command = Command::new(shell);
            command.args(rest).arg(&test);
            command
        }
    };
    command.args(["--exact", "sqlite::tests::child_commits_until_it_cannot", "--nocapture"]);
    command.env(CHILD_DIRECTORY, directory.path()).stdout(Stdio::piped());
    command
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let (_, catalogs) = commits(CHILD_SEED, CHILD_COMMITS);
    for acknowledged_min in [1, 7, 23, 40] {
        let directory = directory();
        let mut child = child(&directory, &[]).spawn().unwrap();
        let mut acknowledged = 0;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        for line in &mut lines {
            acknowledged = line.strip_prefix("committed ").map_or(acknowledged, |number| number.parse().unwrap());
            if acknowledged == acknowledged_min {
                break;
            }
        }
        child.kill().unwrap();
        // What it wrote between the break and its death was acknowledged too.
        for line in lines {
            acknowledged = line.strip_prefix("committed ").map_or(acknowledged, |number| number.parse().unwrap());
        }
        child.wait().unwrap();
        assert!(acknowledged >= acknowledged_min && acknowledged < CHILD_COMMITS, "killed in time: {acknowledged}");
        let catalog = rebuilt(&mut open(&directory));
        assert!(
            catalogs[acknowledged..].iter().take(2).any(|expected| *expected == catalog),
            "after {acknowledged} acknowledged commits the pool holds those, or also the one that was under way"
        );
    }
}

/// The system refuses to let files grow, in the middle of whatever was being written.
#[test]
fn a_limit_on_file_sizes_fails_commits_whole() {
    let (_, catalogs) = commits(CHILD_SEED, CHILD_COMMITS);
    for blocks in ["400", "700", "1111"] {
        let directory = directory();
        // Made without a limit, so that the limit meets commits.
        drop(open(&directory));
        let limit = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let output = child(&directory, &["sh", "-c", &limit]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let acknowledged = text.lines().filter(|line| line.starts_with("committed ")).count();
        assert!(text.contains("\nfailed "), "the limit was met: {text}");
        assert!(acknowledged > 0, "some commits fit: {text}");
        let catalog = rebuilt(&mut open(&directory));
        assert!(catalogs[acknowledged..].iter().take(2).any(|expected| *expected == catalog), "{acknowledged}: {text}");
    }
}

/// The database meets its own limit in the middle of a commit, as it would meet the disk's.
#[test]
fn a_full_database_refuses_whole_commits() {
    let directory = directory();
    let mut store = open(&directory);
    let epoch = store.acquire().unwrap();
    let pages: i64 = store.db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    store.db.query_row(&format!("PRAGMA max_page_count = {}", pages + 6), [], |_| Ok(())).unwrap();
    let (commits, catalogs) = commits(6, 400);
    let full = commits.iter().position(|changes| match store.commit(epoch, changes) {
        Ok(()) => false,
        Err(error @ StoreError::DiskFull { .. }) => {
            assert!(error.to_string().contains("free some disk space"), "{error}");
            true
        }
        Err(error) => panic!("{error:?}"),
    });
    let full = full.expect("so many changes need more than six pages");
    assert!(full > 0);
    assert_eq!(rebuilt(&mut store), catalogs[full]);
    let mut store = open(&directory);
    assert_eq!(rebuilt(&mut store), catalogs[full]);
    store.commit(epoch, &commits[full]).unwrap();
    assert_eq!(rebuilt(&mut store), catalogs[full + 1], "with room again, it goes on");
}

/// Losing power cannot be tried here; what surviving it rests on can be looked at.
#[test]
fn every_commit_is_synced() {
    let store = open(&directory());
    let setting = |name: &str| -> String {
        store
            .db
            .query_row(
                &format!("SELECT CAST(pragma AS TEXT) FROM (SELECT {name} AS pragma FROM pragma_{name})"),
                [],
                |row| row.get(0),
            )
            .unwrap()
    };
    assert_eq!(["journal_mode", "synchronous", "foreign_keys"].map(setting), ["wal", "2", "1"]);
}

#[test]
fn a_read_only_database_is_told() {
    let directory = directory();
    let mut store = open(&directory);
    let epoch = store.acquire().unwrap();
    store.db.execute_batch("PRAGMA query_only = ON").unwrap();
    let error = store.commit(epoch, &commits(1, 1).0[0]).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
    assert!(error.to_string().contains("read-only"), "{error}");
}

#[test]
fn a_locked_database_is_told() {
    let directory = directory();
    let (mut store, other) = (open(&directory), open(&directory));
    store.db.busy_timeout(Duration::from_millis(1)).unwrap();
    other.db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.acquire().unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
    other.db.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.acquire().unwrap(), Epoch(1));
}

#[test]
fn what_is_no_pool_is_refused_and_left_alone() {
    let directory = directory();
    let path = directory.path().join("pool.db");
    let refused = |what: &str| match SqliteStore::open(&path) {
        Err(error @ StoreError::Corrupt { .. }) => assert!(error.to_string().contains("no CAII pool"), "{error}"),
        other => panic!("{what} gave {other:?}"),
    };
    fs::write(&path, "This is a letter to my aunt, and longer than SQLite's header. ".repeat(9)).unwrap();
    let before = fs::read(&path).unwrap();
    refused("a text");
    assert_eq!(fs::read(&path).unwrap(), before);
    fs::remove_file(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE aunts (name TEXT); INSERT INTO aunts VALUES ('Ann')").unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    refused("another program's database");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn damage_is_an_error_and_names_its_place() {
    let directory = directory();
    let mut store = open(&directory);
    let epoch = store.acquire().unwrap();
    for changes in commits(2, 40).0 {
        store.commit(epoch, &changes).unwrap();
    }
    let damages = [
        ("UPDATE keys SET role = 'king'", "`king`, which is no word"),
        ("UPDATE keys SET role = 'admin', account = 'Not a name'", "`Not a name`, which is no account"),
        ("UPDATE keys SET account = 'ann', secret_hash = x'00'", ""),
        ("DELETE FROM keys; UPDATE workloads SET manifest = x'0102'", "manifest"),
        ("DELETE FROM workloads; UPDATE jobs SET kind_details = x'09'", "kind_details"),
    ];
    for (damage, told) in damages {
        store.db.execute_batch(damage).unwrap();
        match store.load() {
            Err(StoreError::Corrupt { source, .. }) => assert!(source.to_string().contains(told), "{damage}: {source}"),
            other => panic!("{damage} gave {other:?}"),
        }
    }
}

#[test]
fn overwritten_pages_are_an_error() {
    let directory = directory();
    let mut store = open(&directory);
    let epoch = store.acquire().unwrap();
    for changes in commits(2, 40).0 {
        store.commit(epoch, &changes).unwrap();
    }
    drop(store);
    let path = directory.path().join("pool.db");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let error = SqliteStore::open(&path).and_then(|mut store| store.load().map(drop)).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
}

#[test]
fn a_newer_schema_is_refused_and_older_ones_are_brought_up() {
    let directory = directory();
    let path = directory.path().join("pool.db");
    let mut store = open(&directory);
    let epoch = store.acquire().unwrap();
    let (commits, catalogs) = commits(4, 20);
    for changes in &commits {
        store.commit(epoch, changes).unwrap();
    }
    drop(store);
    let newer: Vec<&str> = migrate::MIGRATIONS.iter().copied().chain(["CREATE TABLE later (n INTEGER)"]).collect();
    let broken: Vec<&str> = newer.iter().copied().chain(["CREATE TABLE more (n INTEGER); NONSENSE"]).collect();
    let tables = || -> i64 {
        let db = Connection::open(&path).unwrap();
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name IN ('later', 'more')";
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let mut db = connect(&path, BUSY_MAX, migrate::check_mark).unwrap();
    migrate::migrate_to(&mut db, &path, &broken).unwrap_err();
    assert_eq!(tables(), 0, "a migration that fails changes nothing");
    migrate::migrate_to(&mut db, &path, &newer).unwrap();
    migrate::migrate_to(&mut db, &path, &newer).unwrap();
    assert_eq!(tables(), 1);
    assert_eq!(rebuilt(&mut SqliteStore { db, path: path.clone() }), catalogs[20]);
    match SqliteStore::open(&path) {
        Err(error @ StoreError::NewerSchema { .. }) => assert!(error.to_string().contains("upgrade"), "{error}"),
        other => panic!("{other:?}"),
    }
}

/// Results that were accepted before devices said what confines their programs.
#[test]
fn results_of_the_first_schema_are_read_as_saying_nothing_of_a_jail() {
    let directory = directory();
    let path = directory.path().join("pool.db");
    let mut db = connect(&path, BUSY_MAX, migrate::check_mark).unwrap();
    migrate::migrate_to(&mut db, &path, &migrate::MIGRATIONS[..1]).unwrap();
    db.execute_batch(
        "PRAGMA foreign_keys = OFF;
         INSERT INTO settled VALUES (1, 0, zeroblob(8), zeroblob(32), zeroblob(32), 1, 2, 0, 0, 3, 4, 5, 6);",
    )
    .unwrap();
    drop(db);
    let mut store = SqliteStore::open(&path).unwrap();
    let settled = store.settled(JobId(1)).unwrap();
    let report = settled[0].1.report;
    assert_eq!((report.items, report.wall, report.jail), (2, Millis(5), JailLayers::NONE));
    assert_eq!(settled[0].1.at, Timestamp(6));
}

/// Secrets that nobody was committed to are worth nothing: draws by them could have been chosen.
#[test]
fn secrets_of_the_third_schema_are_gone() {
    let directory = directory();
    let path = directory.path().join("pool.db");
    let mut db = connect(&path, BUSY_MAX, migrate::check_mark).unwrap();
    migrate::migrate_to(&mut db, &path, &migrate::MIGRATIONS[..3]).unwrap();
    db.execute_batch("INSERT INTO audit_secrets VALUES (7, zeroblob(32), 5)").unwrap();
    drop(db);
    assert_eq!(SqliteStore::open(&path).unwrap().load().unwrap(), Snapshot::default());
}

#[test]
fn log_and_postings_are_never_changed() {
    let directory = directory();
    let mut store = open(&directory);
    let epoch = store.acquire().unwrap();
    let (commits, catalogs) = commits(9, 60);
    for changes in &commits {
        store.commit(epoch, changes).unwrap();
    }
    let attempts = [
        ("UPDATE log SET at = at + 1 WHERE number = 3", "the log is never changed"),
        ("UPDATE log SET attachment = NULL", "the log is never changed"),
        ("DELETE FROM log WHERE number = 0", "nothing is deleted from the log"),
        ("DELETE FROM log", "nothing is deleted from the log"),
        ("INSERT OR REPLACE INTO log SELECT * FROM log WHERE number = 3", "numbered from 0 without a gap"),
        (
            "INSERT INTO log SELECT max(number) + 2, 8, max(at), x'00', NULL, NULL, NULL, NULL, NULL FROM log",
            "numbered from 0 without a gap",
        ),
        ("UPDATE postings SET amount = amount + 1", "postings are never changed"),
        ("UPDATE OR REPLACE postings SET credit = debit + 1 WHERE number = 1", "postings are never changed"),
        ("DELETE FROM postings WHERE number = 0", "postings are never deleted"),
        ("REPLACE INTO postings SELECT * FROM postings WHERE number = 0", "numbered from 0 without a gap"),
        (
            "INSERT INTO postings SELECT 1 + (SELECT max(number) FROM postings), id, entry, debit, credit, amount, kind
                 FROM postings LIMIT 1",
            "UNIQUE constraint failed: postings.id",
        ),
        (
            "INSERT INTO postings SELECT max(number) + 1, zeroblob(16), 0, 1, 2, 0, 1 FROM postings",
            "CHECK constraint failed: amount > 0",
        ),
    ];
    let count = |table: &str| -> i64 {
        store.db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    let before = ["log", "postings"].map(count);
    assert!(before.iter().all(|count| *count > 20), "there is something to be changed: {before:?}");
    for (attempt, told) in attempts {
        let error = store.db.execute_batch(attempt).unwrap_err();
        assert!(error.to_string().contains(told), "{attempt}: {error}");
    }
    assert_eq!(["log", "postings"].map(count), before);
    assert_eq!(rebuilt(&mut store), catalogs[60]);
}

/// Databases out there have gone through these texts: add a migration, never edit one.
#[test]
fn released_migrations_are_not_edited() {
    let digests: Vec<_> = migrate::MIGRATIONS.iter().map(|sql| Digest::of(sql.as_bytes()).short()).collect();
    assert_eq!(digests, ["8bc0aada6af2", "23e85d0467fa", "299f0be4fc60", "1d14b238bfb5"]);
}
