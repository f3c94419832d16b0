//! Thousands of rewards, prices and receipts against a second implementation, in Python, that was written from the
//! documents.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use caii_model::{
    Accepted, Account, Claim, DeviceId, Digest, Energy, EnergyMethod, Fuel, JobId, MeterId, MicroCredits, Millijoules,
    Millis, Overflow, PoolId, Ppm, Receipt, Tariff, TariffTerms, TaskId, TaskIndex, Timestamp, TrackRecord, Verdict,
    VerificationPolicy, VoidReason, WorkFacts, availability, price, reward, settle,
};
use std::io::Write as _;
use std::process::{Command, Stdio};

const CASES: usize = 4_000;

/// A generator that every machine agrees on (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Up to a maximum, of any magnitude, with both ends often.
    fn size(&mut self, max: u64) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => max,
            2 => self.below(1_000).min(max),
            _ => {
                let shifted = max >> self.below(64);
                if shifted == u64::MAX { self.next() } else { self.below(shifted + 1) }
            }
        }
    }

    /// Mostly what a pool could see, sometimes what does not fit.
    fn usual(&mut self, usual: u64, max: u64) -> u64 {
        if self.below(3) == 0 { self.size(max) } else { self.size(usual) }
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }

    fn share(&mut self, max: u32) -> Ppm {
        Ppm(self.size(u64::from(max)) as u32)
    }

    fn rate(&mut self) -> MicroCredits {
        MicroCredits(self.usual(100_000_000, Tariff::RATE_MAX) as i64)
    }
}

struct Case {
    tariff: Tariff,
    facts: WorkFacts,
    policy: VerificationPolicy,
    present: Millis,
    receipt: Receipt,
    void: Option<VoidReason>,
}

fn case(random: &mut Random) -> Case {
    let tariff = Tariff::new(TariffTerms {
        number: random.size(u64::from(u32::MAX)).max(1) as u32,
        effective_from: Timestamp(random.next()),
        compute_rate: random.rate(),
        reliability_bonus: random.share(1_000_000),
        reliability_share_floor: random.share(999_999),
        availability_rate: random.rate(),
        availability_daily_max: Millis(random.size(86_400_000)),
        energy_rate: random.rate(),
        energy_certified_joules: random.usual(10_000, Tariff::CERTIFIED_JOULES_MAX),
        verification_surcharge: random.share(1_000_000),
        pool_fee: random.share(1_000_000),
        probation_holdback: random.share(1_000_000),
    })
    .unwrap();
    let fuel = random.usual(1_000_000_000_000_000, u64::MAX);
    let audit_fuel = random.usual(1_000_000_000_000, u64::MAX).min(u64::MAX - fuel);
    let counts = [random.usual(100_000, u64::MAX), random.usual(100_000, u64::MAX)];
    let facts = WorkFacts {
        fuel: Fuel(fuel),
        audit_fuel: Fuel(audit_fuel),
        record: TrackRecord::new(counts[0].min(counts[1]), counts[0].max(counts[1])).unwrap(),
        energy: Energy {
            used: Millijoules(random.usual(1_000_000_000, u64::MAX)),
            method: EnergyMethod::ALL[random.below(5) as usize],
        },
        probation: random.below(2) == 1,
    };
    let policy = match random.below(3) {
        0 => VerificationPolicy::Audit,
        1 => VerificationPolicy::Spot,
        _ => VerificationPolicy::Quorum { copies: 2 + random.below(9) as u32 },
    };
    let void = (random.below(4) == 0).then(|| VoidReason::ALL[random.below(9) as usize]);
    let items = random.size(u64::from(u32::MAX)) as u32;
    let claim = Claim {
        pool: PoolId(random.bytes()),
        device: DeviceId(random.bytes()),
        sequence: random.next(),
        task: TaskId { job: JobId(random.next()), index: TaskIndex(random.next() as u32) },
        workload: Digest(random.bytes()),
        meter: MeterId(Digest(random.bytes())),
        input: Digest(random.bytes()),
        root: Digest(random.bytes()),
        items,
        items_failed: random.size(u64::from(items)) as u32,
        fuel: Fuel(fuel + audit_fuel),
        cpu: Millis(random.next()),
        wall: Millis(random.next()),
        energy: facts.energy,
        jail: Digest(random.bytes()),
    };
    let letters = b"abcdefghijklmnopqrstuvwxyz0123456789-_.";
    let length = 1 + random.below(64);
    let owner: String = (0..length).map(|_| char::from(letters[random.below(39) as usize])).collect();
    let receipt = Receipt {
        claim,
        claim_signature: random.bytes(),
        owner: Account::new(&owner).unwrap(),
        policy,
        tariff: tariff.digest(),
        at: Timestamp(random.next()),
        // Replaced where the claim is accepted.
        verdict: Verdict::Void(void.unwrap_or(VoidReason::Late)),
    };
    Case { tariff, facts, policy, present: Millis(random.size(200_000_000)), receipt, void }
}

impl Case {
    fn json(&self) -> String {
        let (terms, facts, receipt) = (self.tariff.terms(), &self.facts, &self.receipt);
        let claim = &receipt.claim;
        let (policy, copies) = match self.policy {
            VerificationPolicy::Audit => ("audit", 0),
            VerificationPolicy::Spot => ("spot", 0),
            VerificationPolicy::Quorum { copies } => ("quorum", copies),
        };
        let numbers = |fields: &[(&str, i128)]| {
            fields.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect::<Vec<_>>().join(",")
        };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let tariff = numbers(&[
            ("number", terms.number.into()),
            ("effective_from", terms.effective_from.0.into()),
            ("compute_rate", terms.compute_rate.0.into()),
            ("reliability_bonus", terms.reliability_bonus.0.into()),
            ("reliability_share_floor", terms.reliability_share_floor.0.into()),
            ("availability_rate", terms.availability_rate.0.into()),
            ("availability_daily_max", terms.availability_daily_max.0.into()),
            ("energy_rate", terms.energy_rate.0.into()),
            ("energy_certified_joules", terms.energy_certified_joules.into()),
            ("verification_surcharge", terms.verification_surcharge.0.into()),
            ("pool_fee", terms.pool_fee.0.into()),
            ("probation_holdback", terms.probation_holdback.0.into()),
        ]);
        let work = numbers(&[
            ("fuel", facts.fuel.0.into()),
            ("audit_fuel", facts.audit_fuel.0.into()),
            ("accepted", facts.record.accepted().into()),
            ("decided", facts.record.decided().into()),
            ("energy", facts.energy.used.0.into()),
        ]);
        let counts = numbers(&[
            ("sequence", claim.sequence.into()),
            ("job", claim.task.job.0.into()),
            ("index", claim.task.index.0.into()),
            ("items", claim.items.into()),
            ("items_failed", claim.items_failed.into()),
            ("cpu", claim.cpu.0.into()),
            ("wall", claim.wall.0.into()),
        ]);
        let digests = [
            ("pool", hex(&claim.pool.0)),
            ("device", hex(&claim.device.0)),
            ("workload", claim.workload.hex()),
            ("meter", claim.meter.0.hex()),
            ("input", claim.input.hex()),
            ("root", claim.root.hex()),
            ("jail", claim.jail.hex()),
            ("signature", hex(&receipt.claim_signature)),
        ];
        let digests = digests.map(|(name, hex)| format!(r#""{name}":"{hex}""#)).join(",");
        let void = self.void.map_or("null".to_owned(), |reason| format!(r#""{}""#, reason.as_str()));
        let (method, probation) = (facts.energy.method.as_str(), facts.probation);
        let (owner, at, present) = (receipt.owner.as_str(), receipt.at.0, self.present.0);
        format!(r#"{{"tariff":{{{tariff}}},"work":{{{work},"energy_method":"{method}","probation":{probation}}},"#,)
            + &format!(
                r#""claim":{{{counts},{digests}}},"owner":"{owner}","policy":"{policy}","copies":{copies},"at":{at},"#
            )
            + &format!(r#""void":{void},"present":{present}}}"#)
    }

    /// The line that the other implementation should write.
    fn answer(&self) -> String {
        let overflow = |overflow: Overflow| format!("overflow in {}", overflow.step.as_str());
        let text =
            |amounts: &[MicroCredits]| amounts.iter().map(|amount| amount.0.to_string()).collect::<Vec<_>>().join(" ");
        let earned = reward(&self.tariff, &self.facts);
        let cost = price(&self.tariff, self.facts.fuel, self.policy);
        let settled = settle(&self.tariff, &self.facts, self.policy);
        let present = availability(&self.tariff, self.present);
        let mut parts = vec![
            earned.map_or_else(overflow, |r| text(&[r.compute, r.reliability, r.energy, r.total, r.held])),
            cost.map_or_else(overflow, |p| text(&[p.work, p.surcharge, p.fee, p.total])),
            present.map_or_else(overflow, |present| text(&[present.amount])),
        ];
        if let Ok(settled) = settled {
            parts.push(text(&[settled.earned, settled.earned_by_audits, settled.unearned]));
        }
        parts.push(self.tariff.digest().hex());
        let verdict = match (self.void, settled) {
            (Some(reason), _) => Some(Verdict::Void(reason)),
            (None, Err(_)) => None,
            (None, Ok(settled)) => Some(Verdict::Accepted(Accepted {
                record: self.facts.record,
                probation: self.facts.probation,
                audit_fuel: self.facts.audit_fuel,
                reward: settled.reward,
                charge: settled.price.total,
            })),
        };
        if let Some(verdict) = verdict {
            let receipt = Receipt { verdict, ..self.receipt.clone() };
            parts.push(format!("{} {}", receipt.to_canonical().len(), receipt.digest().hex()));
        }
        parts.join(" | ")
    }
}

#[test]
fn python_computes_the_same() {
    let mut random = Random(20_261_124);
    let cases: Vec<Case> = (0..CASES).map(|_| case(&mut random)).collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/oracle/reward.py");
    let mut python = Command::new("python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = python.stdin.take().unwrap();
    let lines: String = cases.iter().map(|case| case.json() + "\n").collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let answers = String::from_utf8(output.stdout).unwrap();
    assert_eq!(answers.lines().count(), CASES);
    let mut overflows = 0;
    for (case, answer) in cases.iter().zip(answers.lines()) {
        assert_eq!(case.answer(), answer, "{}", case.json());
        overflows += usize::from(answer.contains("overflow"));
    }
    // Both kinds of case are there in numbers.
    assert!((100..CASES / 2).contains(&overflows), "{overflows} of {CASES} overflow");
}
