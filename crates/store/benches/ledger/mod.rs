//! Receipts and payments as a pool of a thousand members logs them, and one million postings of them.

use caii_audit::{Event, Logged, PoolOpened};
use caii_coordinator::{Catalog, Change, JobEnd, Totals};
use caii_ledger::{CreditLimit, Entry, GrantKey, events};
use caii_model::*;
use caii_store::{ReceiptQuery, ReceiptsOf, SqliteStore, Store};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

const MEMBERS: u64 = 1_000;
const TASKS_PER_JOB: u32 = 1_000;
const TASKS_PER_COMMIT: usize = 256;
const POSTINGS: u64 = 1_000_000;

/// Makes entries that a ledger takes, in the order in which they are asked for.
#[derive(Default)]
pub(crate) struct Bookkeeper {
    decided: BTreeMap<DeviceId, u64>,
    now: u64,
    tasks: u64,
    pub(crate) postings: u64,
}

fn tariff() -> Tariff {
    let terms = TariffTerms {
        number: 1,
        effective_from: Timestamp(1),
        compute_rate: MicroCredits(1_000),
        reliability_bonus: Ppm(200_000),
        reliability_share_floor: Ppm(900_000),
        availability_rate: MicroCredits(0),
        availability_daily_max: Millis(0),
        energy_rate: MicroCredits(500),
        energy_certified_joules: 40,
        verification_surcharge: Ppm(20_000),
        pool_fee: Ppm(50_000),
        probation_holdback: Ppm(250_000),
    };
    Tariff::new(terms).expect("its terms are within their ranges")
}

fn member(number: u64) -> Account {
    Account::new(&format!("member-{}", number % MEMBERS)).expect("it is a name")
}

fn change(logged: Logged) -> Change {
    Change::Logged(Box::new(Event::from(logged)))
}

impl Bookkeeper {
    pub(crate) fn open(&mut self) -> Vec<Change> {
        let at = self.at();
        let opened = PoolOpened { key: [1; 32], charter: None, credit_limit: CreditLimit::Unlimited, at };
        vec![change(Logged::PoolOpened(opened)), change(Logged::TariffEnacted { tariff: tariff(), at })]
    }

    /// A job's requester gets credits, and they are set aside.
    pub(crate) fn reserve(&mut self, job: JobId) -> Vec<Change> {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&job.0.to_le_bytes());
        let (at, amount) = (self.at(), MicroCredits(1_000_000_000));
        let granted = events::granted(GrantKey(key), &member(job.0), amount, at);
        [granted, events::job_reserved(job, &member(job.0), amount, at)]
            .into_iter()
            .flat_map(|e| self.entry(e))
            .collect()
    }

    pub(crate) fn give_back(&mut self, job: JobId, rest: MicroCredits) -> Option<Change> {
        let at = self.at();
        self.entry(events::job_returned(job, &member(job.0), rest, at))
    }

    /// A task's receipt and its payment: one in ten devices is on probation, one task in a hundred has audits with it.
    pub(crate) fn accept(&mut self, job: JobId, index: u32) -> Vec<Change> {
        self.tasks += 1;
        let device = DeviceId((self.tasks * 7_919 % (5 * MEMBERS)).to_be_bytes());
        let sequence = self.decided.entry(device).and_modify(|decided| *decided += 1).or_insert(1);
        let (sequence, at) = (*sequence, self.at());
        let random = Digest::of(&self.tasks.to_le_bytes());
        let audit_fuel = Fuel(if self.tasks.is_multiple_of(100) { 1_000_000 } else { 0 });
        let task = TaskId { job, index: TaskIndex(index) };
        let claim = Claim {
            pool: PoolId([1; 8]),
            device,
            sequence,
            task,
            workload: Digest([1; 32]),
            meter: MeterId(Digest([3; 32])),
            input: random,
            root: Digest::of(&random.0),
            items: 64,
            items_failed: 0,
            fuel: Fuel(123_456_789 + self.tasks % 1_000 + audit_fuel.0),
            cpu: Millis(987),
            wall: Millis(1_234),
            energy: Energy { used: Millijoules(9_000), method: EnergyMethod::Model },
            jail: Digest([5; 32]),
        };
        let record = TrackRecord::new(sequence - 1, sequence - 1).expect("as many as were decided");
        let facts = WorkFacts {
            fuel: Fuel(claim.fuel.0 - audit_fuel.0),
            audit_fuel,
            record,
            energy: claim.energy,
            probation: device.0[7].is_multiple_of(10),
        };
        let settlement = settle(&tariff(), &facts, VerificationPolicy::Audit).expect("it fits");
        let mut claim_signature = [0; 64];
        claim_signature[..32].copy_from_slice(&random.0);
        let owner = member(u64::from_be_bytes(device.0));
        let accepted = Accepted {
            record,
            probation: facts.probation,
            audit_fuel,
            reward: settlement.reward,
            charge: settlement.price.total,
        };
        let paid = events::task_accepted(task, device, &owner, &settlement, at).expect("it splits");
        let (policy, tariff, verdict) = (VerificationPolicy::Audit, tariff().digest(), Verdict::Accepted(accepted));
        let receipt = Receipt { claim, claim_signature, owner, policy, tariff, at, verdict };
        [Some(change(Logged::Receipt(Box::new(receipt)))), self.entry(paid)].into_iter().flatten().collect()
    }

    fn entry(&mut self, entry: Option<Entry>) -> Option<Change> {
        self.postings += entry.as_ref().map_or(0, |entry| entry.postings.len() as u64);
        entry.map(|entry| change(Logged::Entry(entry)))
    }

    fn at(&mut self) -> Timestamp {
        self.now += 1;
        Timestamp(self.now)
    }
}

/// Commits a million postings and the receipts that they pay, then loads, asks and tries to change them.
pub(crate) fn million(directory: &Path) {
    let path = directory.join("million.db");
    let mut store = SqliteStore::open(&path).expect("the store opens");
    let epoch = store.acquire().expect("nobody else has it");
    let (mut books, mut catalog) = (Bookkeeper::default(), Catalog::default());
    let (mut waiting, mut busy) = (books.open(), std::time::Duration::ZERO);
    let mut job = 0;
    while books.postings < POSTINGS {
        job += 1;
        let id = JobId(job);
        waiting.extend([super::submitted(id), super::prepared(id, TASKS_PER_JOB)]);
        waiting.extend(books.reserve(id));
        for index in 0..TASKS_PER_JOB {
            waiting.extend(books.accept(id, index));
            if waiting.len() > 2 * TASKS_PER_COMMIT {
                busy += commit(&mut store, epoch, &mut catalog, &mut waiting);
            }
        }
        busy += commit(&mut store, epoch, &mut catalog, &mut waiting);
        let rest = catalog.books().ledger().balance(&caii_ledger::LedgerAccount::Escrow(id));
        waiting.extend(books.give_back(id, rest));
        let ended = JobEnd {
            ending: Ending::Completed,
            at: Timestamp(1),
            output: None,
            errors: None,
            totals: Totals::default(),
        };
        // The last one stays open, as some job always is.
        if books.postings < POSTINGS {
            waiting.push(Change::JobEnded(id, ended));
        }
    }
    busy += commit(&mut store, epoch, &mut catalog, &mut waiting);
    let (receipts, postings) = (books.tasks, books.postings);
    let seconds = busy.as_secs_f64();
    println!(
        "{postings} postings of {receipts} receipts, {TASKS_PER_COMMIT} receipts a commit: {:.0} postings/s, {:.0} receipts/s",
        postings as f64 / seconds,
        receipts as f64 / seconds,
    );
    drop(store);

    let megabytes = std::fs::metadata(&path).expect("it is there").len() as f64 / 1e6;
    println!("{megabytes:.0} MB, {:.0} bytes a receipt with its postings", megabytes * 1e6 / receipts as f64);
    sizes(&path, receipts);

    let mut store = SqliteStore::open(&path).expect("the store opens");
    let start = Instant::now();
    let snapshot = store.load().expect("it loads");
    let loaded = start.elapsed();
    let mut rebuilt = Catalog::default();
    snapshot.changes.iter().for_each(|change| rebuilt.apply(change));
    rebuilt.reserve_ids(snapshot.next);
    assert!(rebuilt == catalog, "what is loaded is what was applied");
    println!(
        "loading it: {:.0} ms, {:.0} ms with applying it",
        loaded.as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64() * 1e3
    );

    let query = |of| ReceiptQuery { of, from: 0, until: u64::MAX, newest_first: true, limit: 1_000 };
    let start = Instant::now();
    let page = store.books().receipts(&query(ReceiptsOf::Owner(member(3)))).expect("it reads");
    println!("{} receipts of a member: {:.1} ms", page.len(), start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    let page = store.books().statement(&member(3), None, 100).expect("it reads");
    println!("{} lines of a statement: {:.1} ms", page.len(), start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    let page = store.logged(1_000, 1_000).expect("it reads");
    println!("{} entries of the log: {:.1} ms", page.len(), start.elapsed().as_secs_f64() * 1e3);
}

fn commit(
    store: &mut SqliteStore,
    epoch: caii_store::Epoch,
    catalog: &mut Catalog,
    changes: &mut Vec<Change>,
) -> std::time::Duration {
    let start = Instant::now();
    store.commit(epoch, changes).expect("it is committed");
    let busy = start.elapsed();
    changes.drain(..).for_each(|change| catalog.apply(&change));
    busy
}

/// What takes the room, table by table and index by index, and that nothing of it can be changed.
fn sizes(path: &Path, receipts: u64) {
    let db = rusqlite::Connection::open(path).expect("it opens");
    let sql = "SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC LIMIT 12";
    let mut statement = db.prepare(sql).expect("SQLite counts its pages");
    let sizes = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)));
    for (name, bytes) in sizes.expect("it counts").map(|size| size.expect("names and sizes")) {
        println!("  {name}: {:.1} MB, {:.0} bytes a receipt", bytes as f64 / 1e6, bytes as f64 / receipts as f64);
    }
    for attempt in ["UPDATE postings SET amount = 1 WHERE number = 999999", "DELETE FROM postings", "DELETE FROM log"] {
        let refused = db.execute_batch(attempt).expect_err("nothing is changed");
        println!("  {attempt}: {refused}");
    }
}
