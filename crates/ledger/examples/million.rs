//! Applies a million transfers and says how fast: `cargo run --release -p caii-ledger --example million`.
#![expect(clippy::unwrap_used, reason = "an example ends at the first thing that goes wrong")]
#![expect(clippy::disallowed_methods, reason = "an example measures time; the crate does not")]

use caii_ledger::{CreditLimit, GrantKey, Ledger, LedgerAccount, Outcome, events};
use caii_model::{
    Account, DeviceId, Energy, Fuel, JobId, MicroCredits, Millis, Ppm, Tariff, TariffTerms, TaskId, TaskIndex,
    Timestamp, TrackRecord, VerificationPolicy, WorkFacts, settle,
};
use std::time::Instant;

const TASKS_PER_JOB: u32 = 1_000;

fn main() {
    let tariff = Tariff::new(TariffTerms {
        number: 1,
        effective_from: Timestamp(0),
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
    })
    .unwrap();
    let accounts: Vec<Account> = (0..1_000).map(|n| Account::new(&format!("member-{n}")).unwrap()).collect();
    let mut ledger = Ledger::default();
    let (mut transfers, mut remembered_max, mut settled_for) = (0usize, 0, std::time::Duration::ZERO);
    let apply = |ledger: &mut Ledger, entry: Option<caii_ledger::Entry>| {
        let entry = entry.unwrap();
        assert_eq!(ledger.apply(&entry, CreditLimit::Below(MicroCredits::ZERO)), Ok(Outcome::Applied));
        entry.postings.len()
    };

    let start = Instant::now();
    let mut job = 0u64;
    while transfers < 1_000_000 {
        job += 1;
        let requester = &accounts[(job % 1_000) as usize];
        let mut key = [0; 16];
        key[..8].copy_from_slice(&job.to_le_bytes());
        let amount = MicroCredits::credits(100).unwrap();
        transfers += apply(&mut ledger, events::granted(GrantKey(key), requester, amount, Timestamp(job)));
        transfers += apply(&mut ledger, events::job_reserved(JobId(job), requester, amount, Timestamp(job)));
        for index in 0..TASKS_PER_JOB {
            let number = job * u64::from(TASKS_PER_JOB) + u64::from(index);
            let facts = WorkFacts {
                fuel: Fuel(10_000_000_000 + number),
                audit_fuel: Fuel(100_000_000),
                record: TrackRecord::new(99, 100).unwrap(),
                energy: Energy::UNKNOWN,
                probation: number.is_multiple_of(10),
            };
            let before = Instant::now();
            let settlement = settle(&tariff, &facts, VerificationPolicy::Audit).unwrap();
            settled_for += before.elapsed();
            let task = TaskId { job: JobId(job), index: TaskIndex(index) };
            let owner = &accounts[(number * 7 % 1_000) as usize];
            let device = DeviceId(number.to_le_bytes());
            let entry = events::task_accepted(task, device, owner, &settlement, Timestamp(number)).unwrap();
            transfers += apply(&mut ledger, entry);
        }
        remembered_max = remembered_max.max(ledger.remembered_count());
        let rest = ledger.balance(&LedgerAccount::Escrow(JobId(job)));
        transfers += apply(&mut ledger, events::job_returned(JobId(job), requester, rest, Timestamp(job)));
        ledger.close(JobId(job)).unwrap();
        ledger.check().unwrap();
    }
    let took = start.elapsed();
    println!(
        "{transfers} transfers in {:.2} s ({:.0} a second; {:.2} s of it computing settlements); \
         at most {remembered_max} entries remembered; {} accounts; balances sum to {}",
        took.as_secs_f64(),
        transfers as f64 / took.as_secs_f64(),
        settled_for.as_secs_f64(),
        ledger.balances().count(),
        ledger.trial_balance().sum()
    );
}
