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
use caii_verify::{Depth, Secret, Standing, audits_due, draw_chance, draw_items, draw_more};
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
    drawn: BTreeMap<(usize, Digest), u64>,
    secrets: u64,
    requesters: BTreeMap<JobId, Account>,
    pub(crate) open: BTreeMap<(JobId, usize), Vec<Open>>,
}

/// An accepted claim that can be drawn from.
#[derive(Clone)]
pub(crate) struct Open {
    pub(crate) sequence: u64,
    pub(crate) items: u32,
    pub(crate) drawn: Vec<u32>,
    task: TaskId,
    settlement: Settlement,
}

pub(crate) const WORKLOAD: Digest = Digest([0x77; 32]);

/// What a device is given.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) device: usize,
    pub(crate) job: u64,
    pub(crate) task: u32,
    pub(crate) items: u32,
    pub(crate) policy: VerificationPolicy,
    pub(crate) probation: bool,
    /// Nothing of it is the requester's.
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
            drawn: BTreeMap::new(),
            secrets: 0,
            requesters: BTreeMap::new(),
            open: BTreeMap::new(),
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
        let at = self.at();
        self.requesters.insert(JobId(job), account(requester));
        self.entry(events::job_reserved(JobId(job), &account(requester), MicroCredits(credits * 1_000_000), at));
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

    /// A claim that is accepted, paid and drawn from; where it is kept its number comes back.
    pub(crate) fn work(&mut self, work: Work) -> u64 {
        let (claim, claim_signature) = self.claim(work);
        let (tariff, at) = (self.tariff_now(), self.at());
        let device = &self.devices[work.device];
        let (owner, before) = (device.owner.clone(), device.accepted);
        let record = TrackRecord::new(before, before).expect("they are equal");
        let audit_fuel = if work.audit { claim.fuel } else { Fuel(0) };
        let facts = WorkFacts {
            fuel: Fuel(claim.fuel.0 - audit_fuel.0),
            audit_fuel,
            record,
            energy: claim.energy,
            probation: work.probation,
        };
        let settlement = settle(&tariff, &facts, work.policy).expect("it fits");
        let accepted = Accepted {
            record,
            probation: work.probation,
            audit_fuel,
            reward: settlement.reward,
            charge: settlement.price.total,
        };
        let (task, sequence, root, items) = (claim.task, claim.sequence, claim.root, claim.items);
        self.log(Logged::Receipt(Box::new(Receipt {
            claim,
            claim_signature,
            owner: owner.clone(),
            policy: work.policy,
            tariff: tariff.digest(),
            at,
            verdict: Verdict::Accepted(accepted),
        })));
        self.devices[work.device].accepted += 1;
        let id = self.id(work.device);
        self.entry(events::task_accepted(task, id, &owner, &settlement, at).expect("it splits"));
        let mut open = Open { sequence, items, drawn: vec![], task, settlement };
        if work.audit {
            return sequence;
        }
        let drawn_before = self.drawn.entry((work.device, WORKLOAD)).or_default();
        let (period, before) = (self.secrets, *drawn_before);
        let depth = if work.policy == VerificationPolicy::Audit { 30 } else { 0 };
        let drawn = match work.policy {
            VerificationPolicy::Quorum { .. } => (0..items).collect(),
            VerificationPolicy::Audit | VerificationPolicy::Spot => {
                let secret = Secret(Digest::of(&period.to_le_bytes()).0);
                let standing = Standing { drawn: before, survived: 0 };
                let count = audits_due(standing, items, Depth(depth), draw_chance(&secret, task, &root));
                draw_items(&secret, task, &root, items, count)
            }
        };
        *drawn_before += drawn.len() as u64;
        open.drawn.clone_from(&drawn);
        let claim = ClaimRef { device: id, sequence };
        let at = self.at();
        self.log(Logged::AuditDrawn(AuditDrawn { claim, period, depth, drawn_before: before, items: drawn, at }));
        self.open.entry((task.job, work.device)).or_default().push(open);
        sequence
    }

    pub(crate) fn void(&mut self, work: Work, reason: VoidReason) {
        let (claim, claim_signature) = self.claim(work);
        let (tariff, at, owner) = (self.tariff_now().digest(), self.at(), self.devices[work.device].owner.clone());
        let verdict = Verdict::Void(reason);
        let receipt = Receipt { claim, claim_signature, owner, policy: work.policy, tariff, at, verdict };
        self.log(Logged::Receipt(Box::new(receipt)));
    }

    /// More items of a device, as at the end of a job.
    pub(crate) fn draw_more(&mut self, job: u64, device: usize, count: u64) {
        let before = self.drawn[&(device, WORKLOAD)];
        let secret = self.secret(self.secrets);
        let (id, period, at) = (self.id(device), self.secrets, self.at());
        let open = self.open.get_mut(&(JobId(job), device)).expect("it has claims");
        open.sort_by_key(|open| open.task);
        let fresh = |open: &Open| {
            let drawn = open.drawn.clone();
            let sequence = open.sequence;
            (0..open.items).filter(move |item| !drawn.contains(item)).map(move |item| (sequence, item))
        };
        let undrawn: Vec<(u64, u32)> = open.iter().flat_map(fresh).collect();
        let places = draw_more(&secret, JobId(job), id, before, undrawn.len() as u64, count);
        let items: Vec<(u64, u32)> = places.into_iter().map(|place| undrawn[place as usize]).collect();
        for (sequence, item) in &items {
            open.iter_mut().find(|open| open.sequence == *sequence).expect("it is open").drawn.push(*item);
        }
        let numbers = open.iter().map(|open| open.sequence).collect();
        *self.drawn.get_mut(&(device, WORKLOAD)).expect("it was read above") += items.len() as u64;
        self.log(Logged::AuditDrawnMore(AuditDrawnMore {
            job: JobId(job),
            device: id,
            period,
            drawn_before: before,
            open: numbers,
            items,
            at,
        }));
    }

    /// Runs again everything that was drawn of a device in a job; `wrong` says which items were falsified.
    pub(crate) fn audit(&mut self, job: u64, of: usize, auditor: usize, task: u32, wrong: impl Fn(u64, u32) -> bool) {
        let mut open = self.open.get(&(JobId(job), of)).cloned().unwrap_or_default();
        open.retain(|open| open.items > 0);
        let policy = VerificationPolicy::Audit;
        let work = Work { device: auditor, job, task, items: 50, policy, probation: false, audit: true };
        let sequence = self.work(work);
        let outcome = |open: &Open| {
            let sequence = open.sequence;
            open.drawn
                .iter()
                .map(|item| AuditedItem {
                    sequence,
                    item: *item,
                    finding: if wrong(sequence, *item) { Finding::ClaimWrong } else { Finding::Agreed },
                })
                .collect::<Vec<_>>()
        };
        let items: Vec<AuditedItem> = open.iter().flat_map(outcome).collect();
        if let Some(mine) = self.open.get_mut(&(JobId(job), of)) {
            mine.iter_mut().for_each(|open| open.items = 0);
        }
        let (of, auditor, at) = (self.id(of), Some(ClaimRef { device: self.id(auditor), sequence }), self.at());
        self.log(Logged::AuditOutcome(AuditOutcome { of, auditor, items, at }));
    }

    /// A device is caught by this item: what it did in the job is void and done again by another.
    pub(crate) fn convict(&mut self, job: u64, device: usize, item: u32, again: usize) {
        let open = self.open.remove(&(JobId(job), device)).unwrap_or_default();
        let (id, at) = (self.id(device), self.at());
        let evidence = ClaimRef { device: id, sequence: open[0].sequence };
        self.log(Logged::DeviceConvicted(DeviceConvicted { device: id, evidence, item, as_auditor: false, at }));
        let (mut held, mut paid) = (MicroCredits::ZERO, MicroCredits::ZERO);
        let requester = self.requesters[&JobId(job)].clone();
        for open in &open {
            let at = self.at();
            self.entry(events::task_voided(open.task, id, &requester, true, &open.settlement.price, at));
            let reward = open.settlement.reward;
            held = held.checked_add(reward.held).expect("it fits");
            paid = paid.checked_add(reward.total.checked_sub(reward.held).expect("a part")).expect("it fits");
        }
        let (owner, through) = (self.devices[device].owner.clone(), self.devices[device].next - 1);
        let has = self.ledger.balance(&LedgerAccount::Member(owner.clone()));
        let forfeiture = events::Forfeiture { device: id, through, owner, held, paid_for_void: paid };
        let at = self.at();
        self.entry(events::device_forfeited(&forfeiture, has, at));
        for open in open {
            let items = 60;
            let policy = VerificationPolicy::Audit;
            let (job, task) = (open.task.job.0, open.task.index.0);
            self.work(Work { device: again, job, task, items, policy, probation: false, audit: false });
        }
    }

    pub(crate) fn release(&mut self, device: usize) {
        let (id, through, owner) = (self.id(device), self.devices[device].next - 1, self.devices[device].owner.clone());
        let held = self.ledger.balance(&LedgerAccount::Held(owner.clone()));
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

/// A pool with everything: three honest devices and a cheat, four jobs under three policies, two tariffs, a conviction,
/// void claims, three secrets of which two are revealed, a release, presence and a payout.
pub(crate) fn small() -> Sample {
    use VerificationPolicy::{Audit, Quorum, Spot};
    let mut pool = Sample::new();
    pool.tariff(1, 0);
    pool.certify(Timestamp(START - 86_400_000), &[150, 152]);
    let [ann, bob, cat, mal] = ["ann", "bob", "cat", "mal"].map(|owner| pool.enrol(owner));
    pool.grant("req", 10_000);
    pool.grant("lab", 5_000);
    pool.commit();
    let work = |device, job, task, policy| Work { device, job, task, items: 60, policy, probation: true, audit: false };

    // A job in which mal falsifies item 0 of its first task, if it was drawn.
    pool.reserve(1, "req", 500);
    for task in 0..40 {
        pool.work(work([ann, bob, cat, mal][task as usize % 4], 1, task, Audit));
    }
    pool.void(work(bob, 1, 3, Audit), VoidReason::Late);
    for (of, auditor) in [(ann, bob), (bob, cat), (cat, ann)] {
        pool.audit(1, of, auditor, 1_000 + of as u32, |_, _| false);
    }
    let first = pool.open[&(JobId(1), mal)][0].clone();
    let item = first.drawn[0];
    pool.audit(1, mal, ann, 1_100, |sequence, of| (sequence, of) == (first.sequence, item));
    pool.convict(1, mal, item, bob);
    pool.void(work(mal, 1, 7, Audit), VoidReason::Distrusted);
    pool.audit(1, bob, cat, 1_200, |_, _| false);
    pool.give_back(1);
    pool.release(ann);

    // Under the second tariff once its date has come; a job that began before keeps the first.
    pool.reserve(2, "lab", 500);
    pool.tariff(2, 60_000);
    pool.wait(120_000);
    pool.commit();
    for task in 0..60 {
        pool.work(work([ann, bob][task as usize % 2], 2, task, Audit));
    }
    pool.draw_more(2, ann, 7);
    pool.audit(2, ann, cat, 1_000, |_, _| false);
    pool.audit(2, bob, cat, 1_001, |_, _| false);
    pool.reveal(1);
    pool.give_back(2);

    pool.reserve(3, "req", 500);
    for task in 0..40 {
        pool.work(work([ann, cat][task as usize % 2], 3, task, Spot));
    }
    pool.audit(3, ann, bob, 1_000, |_, _| false);
    pool.audit(3, cat, bob, 1_001, |_, _| false);
    pool.commit();
    pool.reserve(4, "req", 500);
    for task in 0..20 {
        pool.work(Work { items: 3, ..work(ann, 4, task, Quorum { copies: 2 }) });
        pool.work(Work { items: 3, ..work(bob, 4, task, Quorum { copies: 2 }) });
    }
    pool.audit(4, ann, bob, 1_000, |_, _| false);
    pool.audit(4, bob, cat, 1_001, |_, _| false);
    pool.give_back(3);
    pool.give_back(4);
    pool.reveal(2);

    pool.presence(bob, 5);
    pool.request("ann", 1);
    pool.request("bob", 1);
    pool.pay(1, ["ann", "bob"]);
    pool.request("bob", 2);
    pool.reserve(5, "lab", 100);
    for task in 0..8 {
        pool.work(work([ann, bob][task as usize % 2], 5, task, Audit));
    }
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
