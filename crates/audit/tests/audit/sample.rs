//! A pool that never was: everything that it logged, by its own keys and those of its devices, stewards and witnesses.

use caii_audit::*;
use caii_ledger::{CreditLimit, Entry, GrantKey, Ledger, LedgerAccount, PayoutRun, events};
use caii_model::*;
use caii_payout::{Batch, BatchSpec, Currency, Payable, Payee, Rate, SepaText, csv, pain001};
use caii_tlog::{AddCheckpoint, Cosigner, Note, NoteSigner, Policy, Witness, parse_cosignatures};
use caii_trust::{
    Body, Certification, Charter, Envelope, Mandate, PAYLOAD_TYPE, PublicKey, Revocations, SigningKey, Steward,
    device_id,
};
use caii_verify::{Depth, Record, Secret, Standing, audits_due, draw_chance, draw_items, draw_more};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const START: u64 = 1_800_000_000_000;
pub(crate) const WITNESSES: [u8; 2] = [201, 202];

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32])
}

pub(crate) fn pool_key() -> SigningKey {
    key(100)
}

pub(crate) fn log_signer() -> NoteSigner {
    NoteSigner::new("log.pool.example".parse().expect("a name"), key(101))
}

pub(crate) fn pool_file() -> PoolFile {
    PoolFile {
        key: pool_key().public(),
        origin: "log.pool.example".parse().expect("an origin"),
        log: vec![log_signer().key().clone()],
        charter: Some(charter().id),
    }
}

fn cosigner(seed: u8) -> Cosigner {
    Cosigner::new(format!("w{seed}.example").parse().expect("a name"), key(seed))
}

pub(crate) fn policy() -> Policy {
    let [one, two] = WITNESSES.map(|seed| cosigner(seed).key().to_string());
    let text = format!(
        "log {}\nwitness one {one}\nwitness two {two}\ngroup both all one two\nquorum both\n",
        log_signer().key()
    );
    Policy::parse(text.as_bytes()).expect("a policy")
}

pub(crate) fn charter() -> Charter {
    let names = ["sam", "kim", "lee"].map(str::to_owned);
    let steward = |(name, seed): (&String, u8)| Steward {
        name: name.clone(),
        body: "lab".into(),
        key: PublicKey::Ed25519(key(seed).public()),
    };
    Charter {
        id: Digest([0xc4; 32]),
        name: "a sample".into(),
        bodies: vec![Body { name: "lab".into(), about: String::new() }],
        stewards: names.iter().zip(150..).map(steward).collect(),
        certify: vec![Mandate { region: Region::any(), threshold: 2, stewards: names.to_vec() }],
        revoke: names.to_vec(),
        runtime_min: RuntimeVersion([48, 0, 0]),
        certification_valid_max: Millis(366 * 86_400_000),
        revoked: Revocations::new(),
    }
}

/// A certification from a day before the start, signed by these stewards.
pub(crate) fn certification(workload: Digest, issued: Timestamp, signers: &[u8]) -> Event {
    let statement = Certification {
        workload,
        name: "echo".into(),
        charter: charter().id,
        runtime: RuntimeClass::Wasm,
        meter: MeterId(Digest([3; 32])),
        limits: Limits::default(),
        uses: BTreeSet::from([UseCategory::Embedding]),
        data_tiers: BTreeSet::from([DataTier::Public]),
        regions: BTreeSet::from([Region::any()]),
        issued,
        expires: Timestamp(START) + Millis(300 * 86_400_000),
        build: None,
    };
    let mut envelope = Envelope::unsigned(PAYLOAD_TYPE, statement.to_json());
    let message = envelope.signed_bytes();
    for seed in signers {
        envelope.add(PublicKey::Ed25519(key(*seed).public()).id(), key(*seed).sign_message(&message).to_vec());
    }
    let attachment = envelope.to_json();
    let (charter, envelope) = (charter().id, Digest::of(&attachment));
    Event { logged: Logged::WorkloadCertified { workload, charter, envelope, at: Timestamp(START) }, attachment }
}

pub(crate) fn terms(number: u32, effective_from: Timestamp) -> TariffTerms {
    TariffTerms {
        number,
        effective_from,
        compute_rate: MicroCredits(1_000_000 + 100_000 * i64::from(number)),
        reliability_bonus: Ppm(200_000),
        reliability_share_floor: Ppm(500_000),
        availability_rate: MicroCredits(3_600_000),
        availability_daily_max: Millis(8 * 3_600_000),
        energy_rate: MicroCredits(500_000),
        energy_certified_joules: 40,
        verification_surcharge: Ppm(20_000),
        pool_fee: Ppm(50_000),
        probation_holdback: Ppm(250_000),
    }
}

struct Device {
    key: SigningKey,
    owner: Account,
    next: u64,
    accepted: u64,
}

/// The pool while things happen in it.
pub(crate) struct Sample {
    pub(crate) events: Vec<Event>,
    pub(crate) payouts: BTreeMap<String, Vec<u8>>,
    pub(crate) ledger: Ledger,
    now: u64,
    devices: Vec<Device>,
    tariffs: Vec<Tariff>,
    standings: BTreeMap<usize, Standing>,
    secrets: u64,
    requesters: BTreeMap<JobId, Account>,
    /// Claims that were drawn from and are not final.
    pub(crate) open: BTreeMap<(JobId, usize), Vec<Open>>,
    /// Accepted claims, paid or not: what each is owed.
    owed: BTreeMap<(usize, u64), Owed>,
    /// What was held back of each device since it was released last.
    held: BTreeMap<usize, MicroCredits>,
}

struct Owed {
    task: TaskId,
    settlement: Settlement,
    own: bool,
    paid: bool,
}

/// An accepted claim that is not final.
#[derive(Clone)]
pub(crate) struct Open {
    pub(crate) sequence: u64,
    pub(crate) drawn: Vec<u32>,
    /// Of those drawn, the ones without an outcome.
    pub(crate) waits: Vec<u32>,
    task: TaskId,
    policy: VerificationPolicy,
    depth: u32,
    record: Record,
    /// Copies that agreed.
    copies: u32,
}

impl Open {
    fn is_final(&self, standing: Standing) -> bool {
        match self.policy {
            VerificationPolicy::Quorum { copies } => self.copies + 1 == copies,
            VerificationPolicy::Audit | VerificationPolicy::Spot => self.record.is_final(standing, Depth(self.depth)),
        }
    }
}

pub(crate) const WORKLOAD: Digest = Digest([0x77; 32]);

/// How many audits make a result final here.
const DEPTH: u32 = 30;

/// What a device is given.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) device: usize,
    pub(crate) job: u64,
    pub(crate) task: u32,
    pub(crate) items: u32,
    pub(crate) policy: VerificationPolicy,
    pub(crate) probation: bool,
    /// It audits another claim: nothing of it is the requester's, unless it is a quorum's copy.
    pub(crate) audit: bool,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let mut sample = Self {
            events: vec![],
            payouts: BTreeMap::new(),
            ledger: Ledger::default(),
            now: START,
            devices: vec![],
            tariffs: vec![],
            standings: BTreeMap::new(),
            secrets: 0,
            requesters: BTreeMap::new(),
            open: BTreeMap::new(),
            owed: BTreeMap::new(),
            held: BTreeMap::new(),
        };
        let opened = PoolOpened {
            key: pool_key().public(),
            charter: Some(charter().id),
            credit_limit: CreditLimit::Below(MicroCredits::ZERO),
            at: sample.at(),
        };
        sample.log(Logged::PoolOpened(opened));
        sample
    }

    pub(crate) fn at(&mut self) -> Timestamp {
        self.now += 1_000;
        Timestamp(self.now)
    }

    pub(crate) fn wait(&mut self, millis: u64) {
        self.now += millis;
    }

    pub(crate) fn log(&mut self, logged: Logged) {
        self.events.push(logged.into());
    }

    pub(crate) fn entry(&mut self, entry: Option<Entry>) {
        let Some(entry) = entry else { return };
        self.ledger.apply(&entry, CreditLimit::Below(MicroCredits::ZERO)).expect("the pool is honest");
        self.log(Logged::Entry(entry));
    }

    pub(crate) fn tariff(&mut self, number: u32, after: u64) {
        let at = self.at();
        let tariff = Tariff::new(terms(number, at + Millis(after))).expect("a tariff");
        self.tariffs.push(tariff.clone());
        self.log(Logged::TariffEnacted { tariff, at });
    }

    pub(crate) fn tariff_now(&self) -> Tariff {
        let holds = |tariff: &&Tariff| tariff.terms().effective_from.0 <= self.now;
        self.tariffs.iter().rev().find(holds).expect("one is in force").clone()
    }

    pub(crate) fn enrol(&mut self, owner: &str) -> usize {
        let key = key(self.devices.len() as u8 + 1);
        let owner = account(owner);
        let at = self.at();
        self.log(Logged::DeviceEnrolled { key: key.public(), owner: owner.clone(), at });
        self.devices.push(Device { key, owner, next: 1, accepted: 0 });
        self.devices.len() - 1
    }

    pub(crate) fn id(&self, device: usize) -> DeviceId {
        device_id(&self.devices[device].key.public())
    }

    pub(crate) fn certify(&mut self, issued: Timestamp, signers: &[u8]) {
        let mut event = certification(WORKLOAD, issued, signers);
        let now = self.at();
        if let Logged::WorkloadCertified { at, .. } = &mut event.logged {
            *at = now;
        }
        self.events.push(event);
    }

    pub(crate) fn secret(&self, number: u64) -> Secret {
        Secret(Digest::of(&number.to_le_bytes()).0)
    }

    pub(crate) fn commit(&mut self) {
        self.secrets += 1;
        let (period, at) = (self.secrets, self.at());
        let commitment = self.secret(period).commitment();
        self.log(Logged::SecretCommitted { period, commitment, at });
    }

    pub(crate) fn reveal(&mut self, period: u64) {
        let (secret, at) = (self.secret(period).0, self.at());
        self.log(Logged::SecretRevealed { period, secret, at });
    }

    pub(crate) fn grant(&mut self, to: &str, credits: i64) {
        let at = self.at();
        let key = GrantKey(*Digest::of(&at.0.to_le_bytes()).0.first_chunk().expect("a digest is longer"));
        self.entry(events::granted(key, &account(to), MicroCredits(credits * 1_000_000), at));
    }

    pub(crate) fn reserve(&mut self, job: u64, requester: &str, credits: i64) {
        self.reserve_exactly(job, requester, MicroCredits(credits * 1_000_000));
    }

    pub(crate) fn reserve_exactly(&mut self, job: u64, requester: &str, amount: MicroCredits) {
        let at = self.at();
        self.requesters.insert(JobId(job), account(requester));
        self.entry(events::job_reserved(JobId(job), &account(requester), amount, at));
    }

    pub(crate) fn give_back(&mut self, job: u64) {
        let (rest, at) = (self.ledger.balance(&LedgerAccount::Escrow(JobId(job))), self.at());
        let requester = self.requesters[&JobId(job)].clone();
        self.entry(events::job_returned(JobId(job), &requester, rest, at));
        self.ledger.close(JobId(job)).expect("it is empty");
    }

    fn claim(&mut self, work: Work) -> (Claim, [u8; 64]) {
        let device = &mut self.devices[work.device];
        let sequence = device.next;
        device.next += 1;
        let claim = Claim {
            pool: pool_file().pool(),
            device: device_id(&device.key.public()),
            sequence,
            task: TaskId { job: JobId(work.job), index: TaskIndex(work.task) },
            workload: WORKLOAD,
            meter: MeterId(Digest([3; 32])),
            input: Digest::of(&[work.job.to_le_bytes(), u64::from(work.task).to_le_bytes()].concat()),
            root: Digest::of(&[work.job.to_le_bytes(), u64::from(work.task).to_le_bytes(), [9; 8]].concat()),
            items: work.items,
            items_failed: 0,
            fuel: Fuel(1_000_000_000 + 1_000 * sequence),
            cpu: Millis(900 + sequence % 7),
            wall: Millis(1_000 + sequence % 13),
            energy: Energy { used: Millijoules(20_000 + sequence % 100), method: EnergyMethod::Rapl },
            jail: Digest([5; 32]),
        };
        let signature = device.key.sign(Claim::SIGNED_FOR, &claim.digest());
        (claim, signature)
    }

    fn settlement(&self, work: Work, claim: &Claim) -> (Accepted, Settlement) {
        let before = self.devices[work.device].accepted;
        let record = TrackRecord::new(before, before).expect("they are equal");
        let copy = matches!(work.policy, VerificationPolicy::Quorum { .. });
        let audit_fuel = if work.audit && !copy { claim.fuel } else { Fuel(0) };
        let probation = work.probation && work.policy != VerificationPolicy::Spot;
        let facts =
            WorkFacts { fuel: Fuel(claim.fuel.0 - audit_fuel.0), audit_fuel, record, energy: claim.energy, probation };
        let settlement = settle(&self.tariff_now(), &facts, work.policy).expect("it fits");
        let charge = settlement.price.total;
        (Accepted { record, probation, audit_fuel, reward: settlement.reward, charge }, settlement)
    }

    /// A claim that is accepted and drawn from, and paid if it is final at once; its number comes back.
    pub(crate) fn work(&mut self, work: Work) -> u64 {
        let (claim, claim_signature) = self.claim(work);
        let (tariff, at) = (self.tariff_now(), self.at());
        let owner = self.devices[work.device].owner.clone();
        let (accepted, settlement) = self.settlement(work, &claim);
        let (task, sequence, root, items) = (claim.task, claim.sequence, claim.root, claim.items);
        self.log(Logged::Receipt(Box::new(Receipt {
            claim,
            claim_signature,
            owner,
            policy: work.policy,
            tariff: tariff.digest(),
            at,
            verdict: Verdict::Accepted(accepted),
        })));
        self.devices[work.device].accepted += 1;
        self.owed.insert((work.device, sequence), Owed { task, settlement, own: !work.audit, paid: false });
        if work.audit {
            return sequence;
        }
        let standing = self.standings.entry(work.device).or_default();
        let (period, mark) = (self.secrets, standing.drawn);
        let depth = if work.policy == VerificationPolicy::Audit { DEPTH } else { 0 };
        let drawn: Vec<u32> = match work.policy {
            VerificationPolicy::Quorum { .. } => (0..items).collect(),
            VerificationPolicy::Audit | VerificationPolicy::Spot => {
                let secret = Secret(Digest::of(&period.to_le_bytes()).0);
                let count = audits_due(*standing, items, Depth(depth), draw_chance(&secret, task, &root));
                draw_items(&secret, task, &root, items, count)
            }
        };
        standing.drawn += drawn.len() as u64;
        let record = Record { items, mark, drawn: drawn.len() as u32, survived: 0 };
        let (policy, waits) = (work.policy, drawn.clone());
        let open = Open { sequence, drawn: drawn.clone(), waits, task, policy, depth, record, copies: 0 };
        let claim = ClaimRef { device: self.id(work.device), sequence };
        let at = self.at();
        self.log(Logged::AuditDrawn(AuditDrawn { claim, period, depth, drawn_before: mark, items: drawn, at }));
        self.open.entry((task.job, work.device)).or_default().push(open);
        self.pay_final(work.device);
        sequence
    }

    /// What the next claim of this work would cost its requester.
    pub(crate) fn cost(&mut self, work: Work) -> MicroCredits {
        let (claim, _) = self.claim(work);
        self.devices[work.device].next -= 1;
        self.settlement(work, &claim).1.price.total
    }

    fn pay_claim(&mut self, device: usize, sequence: u64) {
        let (id, owner, at) = (self.id(device), self.devices[device].owner.clone(), self.at());
        let owed = self.owed.get_mut(&(device, sequence)).expect("it was accepted");
        owed.paid = true;
        let held = self.held.entry(device).or_default();
        *held = held.checked_add(owed.settlement.reward.held).expect("it fits");
        let entry = events::task_accepted(owed.task, id, &owner, &owed.settlement, at).expect("it splits");
        self.entry(entry);
    }

    /// Pays what is final of a device, whatever the job.
    fn pay_final(&mut self, device: usize) {
        let standing = self.standings.get(&device).copied().unwrap_or_default();
        let mut ready = Vec::new();
        for ((_, of), open) in &mut self.open {
            if *of == device {
                open.retain(|open| {
                    let waits = !open.is_final(standing);
                    ready.extend((!waits).then_some(open.sequence));
                    waits
                });
            }
        }
        ready.into_iter().for_each(|sequence| self.pay_claim(device, sequence));
        self.open.retain(|_, open| !open.is_empty());
    }

    pub(crate) fn void(&mut self, work: Work, reason: VoidReason) {
        let (claim, claim_signature) = self.claim(work);
        let (tariff, at, owner) = (self.tariff_now().digest(), self.at(), self.devices[work.device].owner.clone());
        let verdict = Verdict::Void(reason);
        let receipt = Receipt { claim, claim_signature, owner, policy: work.policy, tariff, at, verdict };
        self.log(Logged::Receipt(Box::new(receipt)));
    }

    /// What of a device still has to be drawn for its claims to be final, as at the end of a job.
    pub(crate) fn draw_more(&mut self, job: u64, device: usize) {
        let standing = self.standings[&device];
        let (secret, id, period, at) = (self.secret(self.secrets), self.id(device), self.secrets, self.at());
        let Some(open) = self.open.get_mut(&(JobId(job), device)) else { return };
        let count = open.iter().map(|open| open.record.undrawn(standing, Depth(open.depth))).max().unwrap_or(0);
        if count == 0 {
            return;
        }
        open.sort_by_key(|open| open.task);
        let fresh = |open: &Open| {
            let drawn = open.drawn.clone();
            let sequence = open.sequence;
            (0..open.record.items).filter(move |item| !drawn.contains(item)).map(move |item| (sequence, item))
        };
        let undrawn: Vec<(u64, u32)> = open.iter().flat_map(fresh).collect();
        let places = draw_more(&secret, JobId(job), id, standing.drawn, undrawn.len() as u64, count);
        let items: Vec<(u64, u32)> = places.into_iter().map(|place| undrawn[place as usize]).collect();
        for (sequence, item) in &items {
            let open = open.iter_mut().find(|open| open.sequence == *sequence).expect("it is open");
            open.drawn.push(*item);
            open.waits.push(*item);
            open.record.drawn += 1;
        }
        let numbers = open.iter().map(|open| open.sequence).collect();
        self.standings.get_mut(&device).expect("it was read above").drawn += items.len() as u64;
        self.log(Logged::AuditDrawnMore(AuditDrawnMore {
            job: JobId(job),
            device: id,
            period,
            drawn_before: standing.drawn,
            open: numbers,
            items,
            at,
        }));
    }

    /// Runs again everything that was drawn of a device in a job and has no outcome; all of it agrees.
    pub(crate) fn audit(&mut self, job: u64, of: usize, auditor: usize, task: u32) {
        self.audit_some(job, of, auditor, task, usize::MAX, |_, _| Finding::Agreed);
    }

    /// Runs again the first of what was drawn of a device in a job, and finds this. The auditor is paid unless it was
    /// wrong; the number of its claim comes back.
    pub(crate) fn audit_some(
        &mut self,
        job: u64,
        of: usize,
        auditor: usize,
        task: u32,
        most: usize,
        found: impl Fn(u64, u32) -> Finding,
    ) -> u64 {
        let open = self.open.get(&(JobId(job), of)).map(Vec::as_slice).unwrap_or_default();
        let policy = open.first().map_or(VerificationPolicy::Audit, |open| open.policy);
        let waits = open.iter().flat_map(|open| open.waits.iter().map(|item| (open.sequence, *item)));
        let items: Vec<AuditedItem> = waits
            .take(most)
            .map(|(sequence, item)| AuditedItem { sequence, item, finding: found(sequence, item) })
            .collect();
        let work = Work { device: auditor, job, task, items: 50, policy, probation: false, audit: true };
        let sequence = self.work(work);
        let lied = items.iter().any(|item| item.finding == Finding::AuditorWrong);
        self.outcome(job, of, Some((auditor, sequence)), items);
        if !lied {
            self.pay_claim(auditor, sequence);
        }
        sequence
    }

    /// Other devices do all of a quorum's task once more, and agree.
    pub(crate) fn copy(&mut self, work: Work, sequence: u64, copiers: &[(usize, u32)]) {
        for (copier, task) in copiers {
            let copy = self.work(Work { device: *copier, task: *task, audit: true, ..work });
            let finding = Finding::Agreed;
            let items = (0..work.items).map(|item| AuditedItem { sequence, item, finding }).collect();
            self.outcome(work.job, work.device, Some((*copier, copy)), items);
            self.pay_claim(*copier, copy);
        }
    }

    fn outcome(&mut self, job: u64, of: usize, auditor: Option<(usize, u64)>, items: Vec<AuditedItem>) {
        let standing = self.standings.get_mut(&of).expect("it was drawn from");
        let open = self.open.get_mut(&(JobId(job), of)).expect("it is open");
        for found in &items {
            let open = open.iter_mut().find(|open| open.sequence == found.sequence).expect("it is open");
            let first = open.waits.contains(&found.item);
            open.waits.retain(|item| *item != found.item);
            match found.finding {
                Finding::Agreed | Finding::AuditorWrong => {
                    open.record.survived += u32::from(first);
                    standing.survived += u64::from(first);
                }
                Finding::ClaimWrong | Finding::BothWrong => {}
                Finding::Waived => panic!("items are waived with their claim"),
            }
        }
        let whole: BTreeSet<u64> = items.iter().map(|item| item.sequence).collect();
        open.iter_mut().filter(|open| whole.contains(&open.sequence)).for_each(|open| open.copies += 1);
        let (id, at) = (self.id(of), self.at());
        let auditor = auditor.map(|(device, sequence)| ClaimRef { device: self.id(device), sequence });
        self.log(Logged::AuditOutcome(AuditOutcome { of: id, auditor, items, at }));
        self.pay_final(of);
    }

    /// An accepted claim that is not paid counts no more: what was drawn of it is waived first.
    pub(crate) fn void_claim(&mut self, device: usize, sequence: u64, reason: VoidReason) {
        let owed = self.owed.remove(&(device, sequence)).expect("it was accepted");
        assert!(!owed.paid, "the pool is honest");
        let key = (owed.task.job, device);
        let open = self.open.entry(key).or_default();
        let place = open.iter().position(|open| open.sequence == sequence);
        let waits = place.map(|place| open.remove(place).waits).unwrap_or_default();
        if !waits.is_empty() {
            self.standings.get_mut(&device).expect("it was drawn from").drawn -= waits.len() as u64;
            let waived = |item| AuditedItem { sequence, item, finding: Finding::Waived };
            let (items, of, at) = (waits.into_iter().map(waived).collect(), self.id(device), self.at());
            self.log(Logged::AuditOutcome(AuditOutcome { of, auditor: None, items, at }));
        }
        let (claim, at) = (ClaimRef { device: self.id(device), sequence }, self.at());
        self.log(Logged::ClaimVoided { claim, reason, at });
    }

    /// A job is cancelled: what is not paid of it is void.
    pub(crate) fn cancel(&mut self, job: u64) {
        let open = self.owed.iter().filter(|(_, owed)| owed.task.job == JobId(job) && !owed.paid);
        let open: Vec<(usize, u64)> = open.map(|(claim, _)| *claim).collect();
        open.into_iter().for_each(|(device, sequence)| self.void_claim(device, sequence, VoidReason::JobEnded));
    }

    /// A device is caught by this item: what is not final of it is void, what is held back is lost, and of what was paid
    /// these claims are taken back. The tasks are done again by another.
    pub(crate) fn convict(
        &mut self,
        device: usize,
        (evidence, item, as_auditor): (ClaimRef, u32, bool),
        wrong: u64,
        taken_back: &[u64],
        again: usize,
    ) {
        let (id, at) = (self.id(device), self.at());
        self.log(Logged::DeviceConvicted(DeviceConvicted { device: id, evidence, item, as_auditor, at }));
        let own = self.owed.range((device, 0)..=(device, u64::MAX));
        let unpaid: Vec<(u64, Option<TaskId>)> = own
            .filter(|(_, owed)| !owed.paid)
            .map(|((_, sequence), owed)| (*sequence, owed.own.then_some(owed.task)))
            .collect();
        let mut tasks: Vec<TaskId> = unpaid.iter().filter_map(|(_, task)| *task).collect();
        for (sequence, _) in unpaid {
            let reason = if sequence == wrong { VoidReason::Wrong } else { VoidReason::Distrusted };
            self.void_claim(device, sequence, reason);
        }
        let mut paid_for_void = MicroCredits::ZERO;
        for sequence in taken_back {
            let (Owed { task, settlement, .. }, at) =
                (self.owed.remove(&(device, *sequence)).expect("paid"), self.at());
            let requester = self.requesters[&task.job].clone();
            self.entry(events::task_voided(task, id, &requester, true, &settlement.price, at));
            let paid = settlement.reward.total.checked_sub(settlement.reward.held).expect("a part");
            paid_for_void = paid_for_void.checked_add(paid).expect("it fits");
            tasks.push(task);
        }
        let (owner, through) = (self.devices[device].owner.clone(), self.devices[device].next - 1);
        let has = self.ledger.balance(&LedgerAccount::Member(owner.clone()));
        let held = self.held.remove(&device).unwrap_or_default();
        let forfeiture = events::Forfeiture { device: id, through, owner, held, paid_for_void };
        let at = self.at();
        self.entry(events::device_forfeited(&forfeiture, has, at));
        for TaskId { job, index } in tasks {
            let (items, policy) = (60, VerificationPolicy::Audit);
            let work = Work { device: again, job: job.0, task: index.0, items, policy, probation: false, audit: false };
            self.work(work);
        }
    }

    pub(crate) fn release(&mut self, device: usize) {
        let (id, through, owner) = (self.id(device), self.devices[device].next - 1, self.devices[device].owner.clone());
        let held = self.held.remove(&device).unwrap_or_default();
        let at = self.at();
        self.entry(events::holdback_released(id, through, &owner, held, at));
    }

    pub(crate) fn presence(&mut self, device: usize, hours: u64) {
        let earned = availability(&self.tariff_now(), Millis(hours * 3_600_000)).expect("it fits").amount;
        let (id, owner, at) = (self.id(device), self.devices[device].owner.clone(), self.at());
        self.entry(events::availability_paid(id, (at.0 / 86_400_000) as u32, &owner, earned, at));
    }

    pub(crate) fn request(&mut self, member: &str, number: u64) {
        let has = self.ledger.balance(&LedgerAccount::Member(account(member)));
        let at = self.at();
        self.entry(events::payout_requested(&account(member), number, has, at));
    }

    /// Everything payable in one file; the bank pays the first member and not the second.
    pub(crate) fn pay(&mut self, run: u64, members: [&str; 2]) {
        let text = |text| SepaText::new(text, 70).expect("a text");
        let payee =
            |name| Payee { name: text(name), iban: "DE89370400440532013000".parse().expect("an IBAN"), bic: None };
        let payables = members.map(|member| Payable {
            account: account(member),
            amount: self.ledger.balance(&LedgerAccount::Payable(account(member))),
            payee: payee(member),
        });
        let at = self.at();
        let rate = Rate(1_000.try_into().expect("it is not zero"));
        let spec = BatchSpec {
            pool: pool_file().pool(),
            run: PayoutRun(run),
            debtor: payee("Pool"),
            currency: Currency::Eur,
            rate,
            created: at,
            execution: at,
            remittance: text("Rewards"),
        };
        let batch = Batch::new(spec, &payables, &BTreeSet::new()).expect("there is something to pay");
        let (xml, csv) = (pain001::write(&batch).expect("it is as it should be"), csv(&batch).into_bytes());
        self.log(Logged::PayoutSent(PayoutSent {
            run: PayoutRun(run),
            currency: Currency::Eur,
            rate,
            pain001: Digest::of(&xml),
            csv: Digest::of(&csv),
            payments: batch.payments.iter().map(|payment| (payment.account.clone(), payment.amount)).collect(),
            at,
        }));
        let [xml_path, csv_path] = payout_paths(run);
        self.payouts.extend([(xml_path, xml), (csv_path, csv)]);
        for (payment, settle) in batch.payments.iter().zip([events::payout_done, events::payout_failed]) {
            let at = self.at();
            self.entry(settle(PayoutRun(run), &payment.account, payment.credits, at));
        }
    }
}

pub(crate) fn account(name: &str) -> Account {
    Account::new(name).expect("a name")
}

/// A pool with everything: three honest devices, a cheat and a lying auditor, seven jobs under three policies, two
/// tariffs, two convictions, claims void from the start and voided later, three secrets of which two are revealed, a
/// release, presence and a payout.
pub(crate) fn small() -> Sample {
    use VerificationPolicy::{Audit, Quorum, Spot};
    let mut pool = Sample::new();
    pool.tariff(1, 0);
    pool.certify(Timestamp(START - 86_400_000), &[150, 152]);
    let [ann, bob, cat, mal, eve] = ["ann", "bob", "cat", "mal", "eve"].map(|owner| pool.enrol(owner));
    pool.grant("req", 10_000);
    pool.grant("lab", 5_000);
    pool.commit();
    let work = |device, job, task, policy| Work { device, job, task, items: 60, policy, probation: true, audit: false };

    // A job in which mal falsifies the first item that is drawn of its later tasks. One of its tasks is final by then.
    pool.reserve(1, "req", 500);
    for task in 0..40 {
        pool.work(work([ann, bob, cat, mal][task as usize % 4], 1, task, Audit));
    }
    pool.void(work(bob, 1, 3, Audit), VoidReason::Late);
    // Nobody can say who is right about a task of bob's.
    let doubted = pool.open[&(JobId(1), bob)][1..].iter().find(|open| !open.waits.is_empty()).expect("one is").clone();
    pool.void_claim(bob, doubted.sequence, VoidReason::Undecided);
    pool.work(work(cat, 1, doubted.task.index.0, Audit));
    for (of, auditor) in [(ann, bob), (bob, cat), (cat, ann)] {
        pool.audit(1, of, auditor, 1_000 + of as u32);
    }
    let first = pool.open[&(JobId(1), mal)][0].clone();
    pool.audit_some(1, mal, ann, 1_100, first.waits.len(), |_, _| Finding::Agreed);
    let waits: Vec<(u64, u32)> = pool.open[&(JobId(1), mal)]
        .iter()
        .flat_map(|open| open.waits.iter().map(|item| (open.sequence, *item)))
        .collect();
    let (wrong, item) = waits[0];
    pool.audit_some(1, mal, ann, 1_101, waits.len() - 1, |sequence, of| match (sequence, of) == (wrong, item) {
        true => Finding::ClaimWrong,
        false => Finding::Agreed,
    });
    let evidence = ClaimRef { device: pool.id(mal), sequence: wrong };
    pool.convict(mal, (evidence, item, false), wrong, &[first.sequence], bob);
    pool.void(work(mal, 1, 7, Audit), VoidReason::Distrusted);
    for (of, auditor) in [(ann, bob), (bob, cat), (cat, ann)] {
        pool.draw_more(1, of);
        pool.audit(1, of, auditor, 1_200 + of as u32);
    }
    pool.give_back(1);
    pool.release(ann);
    // The first secret is over, and nothing is drawn until the next job.
    pool.reveal(1);

    // Under the second tariff once its date has come; a job that began before keeps the first. Eve lies about bob.
    pool.reserve(2, "lab", 500);
    pool.tariff(2, 60_000);
    pool.wait(120_000);
    pool.commit();
    for task in 0..60 {
        pool.work(work([ann, bob][task as usize % 2], 2, task, Audit));
    }
    pool.draw_more(2, ann);
    pool.draw_more(2, bob);
    pool.audit_some(2, ann, eve, 1_000, 5, |_, _| Finding::Agreed);
    let open = &pool.open[&(JobId(2), bob)];
    let open = open.iter().find(|open| !open.waits.is_empty()).expect("more was drawn just now");
    let (evidence, item) = (ClaimRef { device: pool.id(bob), sequence: open.sequence }, open.waits[0]);
    let lie =
        pool.audit_some(2, bob, eve, 1_001, 2, |sequence, of| match (sequence, of) == (evidence.sequence, item) {
            true => Finding::AuditorWrong,
            false => Finding::Agreed,
        });
    pool.convict(eve, (evidence, item, true), lie, &[], bob);
    pool.audit(2, ann, cat, 1_002);
    pool.audit(2, bob, cat, 1_003);
    pool.give_back(2);

    pool.reserve(3, "req", 500);
    for task in 0..40 {
        pool.work(work([ann, cat][task as usize % 2], 3, task, Spot));
    }
    pool.audit(3, ann, bob, 1_000);
    pool.audit(3, cat, bob, 1_001);
    pool.commit();
    pool.reserve(4, "req", 500);
    for task in 0..20 {
        let work = Work { items: 3, ..work(ann, 4, task, Quorum { copies: 2 }) };
        let sequence = pool.work(work);
        pool.copy(work, sequence, &[(bob, 1_000 + task)]);
    }
    pool.give_back(3);
    pool.give_back(4);
    pool.reveal(2);

    // Three must agree, and the job is cancelled before the last has.
    pool.reserve(6, "req", 500);
    let three = |task| Work { items: 2, ..work(cat, 6, task, Quorum { copies: 3 }) };
    for task in 0..3 {
        let sequence = pool.work(three(task));
        pool.copy(three(task), sequence, &[(ann, 1_000 + task), (bob, 1_100 + task)]);
    }
    let sequence = pool.work(three(3));
    pool.copy(three(3), sequence, &[(ann, 1_003)]);
    pool.work(three(4));
    pool.cancel(6);
    pool.give_back(6);

    // Of this job nothing is left to be returned.
    let last = work(bob, 7, 0, Spot);
    let cost = pool.cost(last);
    pool.reserve_exactly(7, "req", cost);
    pool.work(last);
    if pool.open.contains_key(&(JobId(7), bob)) {
        pool.audit(7, bob, cat, 1_000);
    }

    pool.presence(bob, 5);
    pool.request("ann", 1);
    pool.request("bob", 1);
    pool.pay(1, ["ann", "bob"]);
    pool.request("bob", 2);
    // And this one goes on.
    pool.reserve(5, "lab", 100);
    for task in 0..8 {
        pool.work(work([ann, bob][task as usize % 2], 5, task, Audit));
    }
    pool.work(Work { audit: true, ..work(cat, 5, 1_000, Audit) });
    pool
}

/// Published files and who is asked to sign, as a pool does it: some events at a time.
pub(crate) struct Published {
    pub(crate) files: MemoryFiles,
    pub(crate) publisher: Publisher,
}

/// Publishes in batches of this many events; the last checkpoint is cosigned.
pub(crate) fn publish(events: &[Event], payouts: &BTreeMap<String, Vec<u8>>, batch: usize) -> Published {
    let mut files = MemoryFiles(payouts.clone());
    let mut publisher = Publisher::new(pool_file());
    let (log, pool) = (log_signer(), pool_key());
    let signers = Signers { log: &[&log], pool: &pool };
    for (number, events) in (0u64..).zip(events.chunks(batch)) {
        let entropy = Digest::of(&number.to_le_bytes()).0;
        let published = publisher.append(events, &entropy, signers).expect("they can be published");
        publisher = published.publisher;
        files.0.extend(published.files.into_iter().map(|file| (file.path, file.bytes)));
    }
    cosign(&mut files, &WITNESSES);
    Published { files, publisher }
}

/// Adds the cosignatures of these witnesses to the checkpoint.
pub(crate) fn cosign(files: &mut MemoryFiles, seeds: &[u8]) {
    let checkpoint = files.0.get(CHECKPOINT).expect("it is published").clone();
    let mut note = Note::parse(&checkpoint).expect("a note");
    for seed in seeds {
        let mut witness = Witness::new(cosigner(*seed));
        witness.know(pool_file().origin, pool_file().log, None).expect("nothing is stored");
        let request = AddCheckpoint { old_size: 0, proof: vec![], note: note.clone() };
        let cosigned = witness.add_checkpoint(&request, Timestamp(START)).expect("it is the first");
        let lines = parse_cosignatures(cosigned.answer().as_bytes()).expect("they were written just now");
        lines.into_iter().for_each(|signature| note.add(signature));
    }
    files.0.insert(CHECKPOINT.into(), note.to_string().into_bytes());
}
