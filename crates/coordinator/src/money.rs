//! What is reserved, decided and paid: the coordinator's side of the pool's books. Everything is logged first and follows
//! from the log.

use crate::books::Claimed;
use crate::draft::Draft;
use crate::{Change, Coordinator, Reply};
use caii_audit::{
    AuditDrawn, AuditDrawnMore, AuditOutcome, AuditedItem, ClaimRef, DeviceConvicted, Event, Logged, PoolOpened,
};
use caii_ledger::events::{self, Forfeiture};
use caii_ledger::{Entry, GrantKey, LedgerAccount, Refusal as LedgerRefusal};
use caii_model::*;
use caii_verify::AUDITS_FINAL;

/// What a pool is, as its shell says it at every start. What is logged already stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The pool's public key.
    pub key: [u8; 32],
    /// The charter under which workloads are certified.
    pub charter: Option<Digest>,
    /// How far members may go below zero by reserving for jobs.
    pub credit_limit: caii_ledger::CreditLimit,
    /// The first tariff; its number and date are the coordinator's.
    pub terms: TariffTerms,
}

/// What a job costs at most, and what that follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// The most that all its tasks cost together: what is reserved.
    pub total: MicroCredits,
    /// How many tasks.
    pub tasks: u32,
    /// How many accepted results of each the requester pays for.
    pub copies: u32,
    /// The most fuel that all copies of all tasks may use.
    pub fuel: Fuel,
    /// The tariff.
    pub tariff: Digest,
}

impl Coordinator {
    /// What a job with tasks of so many records costs at most by the tariff in force.
    ///
    /// # Errors
    /// If the workload is not known, no tariff is in force, or the price is too large to be counted.
    pub fn quote(
        &self,
        workload: Digest,
        verification: Verification,
        records: impl IntoIterator<Item = u32>,
        at: Timestamp,
    ) -> Result<Quote, Refusal> {
        let manifest = self.catalog.workloads.get(&workload).ok_or(Refusal::WorkloadUnknown(workload))?;
        let too_large = |step: String| crate::registry::field("price", step);
        let tariff = self.catalog.books.tariff_at(at);
        let tariff = tariff.ok_or_else(|| too_large("no tariff is in force yet".into()))?;
        let policy = policy(self.verification_of(workload, verification));
        let (mut tasks, mut fuel) = (0_u32, 0_u64);
        let mut fuels = Vec::new();
        for records in records {
            let most =
                most_fuel(manifest, records).ok_or_else(|| too_large("its fuel is too much to be counted".into()))?;
            fuel = fuel
                .checked_add(most.0.saturating_mul(u64::from(policy.copies())))
                .ok_or_else(|| too_large("its fuel is too much to be counted".into()))?;
            tasks += 1;
            fuels.push(most);
        }
        let total = quote(tariff, fuels, policy).map_err(|overflow| too_large(overflow.to_string()))?;
        Ok(Quote { total, tasks, copies: policy.copies(), fuel: Fuel(fuel), tariff: tariff.digest() })
    }
}

/// The most fuel that a task of so many records may use.
pub(crate) fn most_fuel(manifest: &Manifest, records: u32) -> Option<Fuel> {
    let items = crate::checks::items_in(records, manifest.scope);
    // What a trapped item is charged does not depend on its limit.
    let each = manifest.limits.fuel_per_item.0.max(ItemError::TRAP_CHARGE.0);
    each.checked_mul(u64::from(items)).map(Fuel)
}

/// How receipts name a way to check results.
pub(crate) fn policy(verification: Verification) -> VerificationPolicy {
    match verification {
        Verification::Off | Verification::Spot => VerificationPolicy::Spot,
        Verification::Audit { .. } => VerificationPolicy::Audit,
        Verification::Quorum { results } => VerificationPolicy::Quorum { copies: u32::from(results) },
    }
}

impl Draft<'_> {
    /// Puts an entry into the pool's log.
    pub(crate) fn log(&mut self, logged: Logged) {
        self.record(Change::Logged(Box::new(Event::from(logged))));
    }

    /// Whether the log was opened.
    pub(crate) fn is_open(&self) -> bool {
        self.catalog().books.opened.is_some()
    }

    pub(crate) fn open(&mut self, opening: Opening) {
        if !self.is_open() {
            let at = self.now();
            let Opening { key, charter, credit_limit, terms } = opening;
            let terms = TariffTerms { number: 1, effective_from: at, ..terms };
            let tariff = match Tariff::new(terms) {
                Ok(tariff) => tariff,
                Err(invalid) => return self.reply(Err(crate::registry::field("tariff", invalid.to_string()))),
            };
            self.log(Logged::PoolOpened(PoolOpened { key, charter, credit_limit, at }));
            self.log(Logged::TariffEnacted { tariff, at });
            let devices: Vec<Device> = self.catalog().devices.values().cloned().collect();
            devices.into_iter().for_each(|device| self.log_device(&device));
            self.reserve_what_is_open();
        }
        self.reply(Ok(Reply::Done));
    }

    /// Jobs of a pool that kept no books until now go on at what they may cost from here.
    fn reserve_what_is_open(&mut self) {
        let open = self.catalog().jobs.values().filter(|job| job.ending.is_none());
        let open = open.filter_map(|job| Some((job.id, job.spec.clone(), job.work.as_ref()?.prepared.clone())));
        for (id, spec, prepared) in open.collect::<Vec<_>>() {
            if let Err(refusal) = self.reserve(id, &spec, &prepared) {
                let (code, message) = (refusal.code().to_owned(), refusal.to_string());
                let error = InputError { code, message, line: None, param: None };
                self.begin_ending(id, Ending::Failed { errors: vec![error] });
            }
        }
    }

    pub(crate) fn log_device(&mut self, device: &Device) {
        let (key, owner, at) = (device.public_key, device.owner.clone(), self.now());
        self.log(Logged::DeviceEnrolled { key, owner, at });
    }

    /// The shell holds an envelope by which a workload is certified.
    pub(crate) fn workload_certified(&mut self, workload: Digest, charter: Digest, envelope: Vec<u8>) {
        let digest = Digest::of(&envelope);
        if self.is_open() && !self.catalog().books.certificates.contains(&digest) {
            let logged = Logged::WorkloadCertified { workload, charter, envelope: digest, at: self.now() };
            self.record(Change::Logged(Box::new(Event { logged, attachment: envelope })));
        }
        self.reply(Ok(Reply::Done));
    }

    /// Publishes a tariff that holds from its own date.
    pub(crate) fn tariff_enact(&mut self, terms: TariffTerms) {
        let answer = self.try_tariff_enact(terms);
        self.reply(answer.map(|()| Reply::Done));
    }

    fn try_tariff_enact(&mut self, terms: TariffTerms) -> Result<(), Refusal> {
        let wrong = |reason: String| Err(crate::registry::field("tariff", reason));
        let tariff = Tariff::new(terms).map_err(|invalid| crate::registry::field("tariff", invalid.to_string()))?;
        let tariffs = &self.catalog().books.tariffs;
        let (number, effective_from) = (tariff.terms().number, tariff.terms().effective_from);
        if tariffs.contains(&tariff) {
            return Ok(());
        }
        let Some(last) = tariffs.last().map(Tariff::terms) else { return wrong("the pool is not open yet".into()) };
        if number != last.number + 1 {
            return wrong(format!("it is number {number}; the next one is {}", last.number + 1));
        }
        if effective_from < self.now() || effective_from < last.effective_from {
            return wrong("it must begin after now, and not before the one that was published last".into());
        }
        self.log(Logged::TariffEnacted { tariff, at: self.now() });
        Ok(())
    }

    /// Records an entry if the ledger takes it. What was recorded before is done.
    pub(crate) fn post(&mut self, entry: Option<Entry>) -> Result<(), LedgerRefusal> {
        let Some(entry) = entry else { return Ok(()) };
        let books = &self.catalog().books;
        match books.ledger.consider(&entry, books.credit_limit())? {
            caii_ledger::Outcome::Applied => self.log(Logged::Entry(entry)),
            caii_ledger::Outcome::Exists => {}
        }
        Ok(())
    }

    /// Records an entry that the books must have room for.
    fn must_post(&mut self, entry: Option<Entry>) {
        if let Err(refusal) = self.post(entry) {
            panic!("the books contradict themselves: {refusal}");
        }
    }

    /// The operator gives credits, or records a payment.
    pub(crate) fn credit(&mut self, key: GrantKey, to: &Account, amount: MicroCredits, paid: bool) {
        let event = if paid { events::payment_recorded } else { events::granted };
        let answer = match amount > MicroCredits::ZERO {
            true => self.post(event(key, to, amount, self.now())).map_err(|refusal| ledger_refused(&refusal)),
            false => Err(crate::registry::field("amount", "give more than nothing".into())),
        };
        self.reply(answer.map(|()| Reply::Done));
    }

    /// Sets a job's highest price aside. The job is being prepared.
    pub(crate) fn reserve(&mut self, job: JobId, spec: &JobSpec, prepared: &Prepared) -> Result<(), Refusal> {
        if !self.is_open() {
            return Ok(());
        }
        let records = prepared.tasks.iter().map(|task| task.records);
        let quote = self.coordinator().quote(spec.workload, spec.verification, records, self.now())?;
        if let Some(limit) = spec.max_price.filter(|limit| quote.total > *limit) {
            return Err(Refusal::PriceAboveLimit { price: quote.total, limit });
        }
        let entry = events::job_reserved(job, &spec.owner, quote.total, self.now());
        self.post(entry).map_err(|refusal| match refusal {
            LedgerRefusal::Insufficient { balance, .. } => {
                Refusal::CreditsInsufficient { needed: quote.total, balance }
            }
            other => ledger_refused(&other),
        })
    }

    /// Gives back what is left of a job's reservation. The job is ending.
    pub(crate) fn return_rest(&mut self, job: JobId) {
        let owner = self.catalog().jobs[&job].spec.owner.clone();
        let rest = self.catalog().books.ledger.balance(&LedgerAccount::Escrow(job));
        self.must_post(events::job_returned(job, &owner, rest, self.now()));
    }

    /// Decides a claim: the result was accepted.
    pub(crate) fn accept_claim(&mut self, lease: &Lease, report: &TaskReport, signed: &SignedClaim) {
        let (task, device) = (lease.task, lease.device);
        if !self.is_open() {
            return;
        }
        let job = &self.catalog().jobs[&task.job];
        let manifest = &self.catalog().workloads[&job.spec.workload];
        let verification = self.coordinator().verification(&job.spec);
        let work = job.work.as_ref().expect("a job with results is prepared");
        let books = &self.catalog().books;
        let opened = books.opened.as_ref().map_or(work.prepared_at, |opened| opened.at);
        let reserved = work.prepared_at.max(opened);
        let tariff = books.tariff_at(reserved).expect("the log begins with a tariff").clone();
        let account = books.account(device);
        let record = TrackRecord::new(account.accepted, account.decided).expect("no more are accepted than decided");
        let audit = work.checks.audits.get(&task.index).map(|state| &state.audit.subject);
        let own = match audit {
            None => true,
            Some(AuditSubject::Items(_)) => false,
            Some(AuditSubject::Task(of)) => self.charged(task.job, *of) < policy(verification).copies(),
        };
        let probation = match verification {
            Verification::Off | Verification::Spot => false,
            Verification::Audit { .. } | Verification::Quorum { .. } => {
                self.catalog().standing(device, job.spec.workload).survived < u64::from(AUDITS_FINAL)
            }
        };
        let facts = WorkFacts {
            fuel: if own { report.fuel } else { Fuel(0) },
            audit_fuel: if own { Fuel(0) } else { report.fuel },
            record,
            energy: signed.energy,
            probation,
        };
        let policy = policy(verification);
        let settlement = settle(&tariff, &facts, policy).expect("as much fuel was priced when the job was admitted");
        let accepted = Accepted {
            record,
            probation,
            audit_fuel: facts.audit_fuel,
            reward: settlement.reward,
            charge: settlement.price.total,
        };
        let claim = Claim::of(lease, manifest.meter, report, signed.sequence, signed.energy);
        let receipt = Receipt {
            claim,
            claim_signature: signed.signature,
            owner: self.catalog().devices[&device].owner.clone(),
            policy,
            tariff: tariff.digest(),
            at: self.now(),
            verdict: Verdict::Accepted(accepted),
        };
        self.log(Logged::Receipt(Box::new(receipt)));
    }

    /// Decides a claim: the result was not accepted.
    pub(crate) fn refuse_claim(
        &mut self,
        lease: &Lease,
        report: &TaskReport,
        signed: &SignedClaim,
        reason: VoidReason,
    ) {
        // A claim that contradicts itself has no form in the log: it is not decided, and its number is free.
        if report.items_failed > report.items {
            return;
        }
        let known = (self.catalog().workloads.get(&lease.workload), self.catalog().devices.get(&lease.device));
        let (true, (Some(manifest), Some(device))) = (self.is_open(), known) else { return };
        let job = self.catalog().jobs.get(&lease.task.job);
        let policy = job.map_or(VerificationPolicy::Spot, |job| policy(self.coordinator().verification(&job.spec)));
        let tariff = self.catalog().books.tariff_at(self.now()).expect("the log begins with a tariff").digest();
        let receipt = Receipt {
            claim: Claim::of(lease, manifest.meter, report, signed.sequence, signed.energy),
            claim_signature: signed.signature,
            owner: device.owner.clone(),
            policy,
            tariff,
            at: self.now(),
            verdict: Verdict::Void(reason),
        };
        self.log(Logged::Receipt(Box::new(receipt)));
    }

    /// How many accepted results of a task its requester pays for so far.
    fn charged(&self, job: JobId, index: TaskIndex) -> u32 {
        let work = self.work(job);
        let copies = work.checks.copies.get(&index).into_iter().flatten().chain([&index]);
        let claims = &self.catalog().books.claims;
        let charged = copies.filter_map(|index| claims.get(&TaskId { job, index: *index }));
        charged.filter(|claimed| claimed.settlement.price.total > MicroCredits::ZERO).count() as u32
    }

    fn claimed(&self, task: TaskId) -> Option<Claimed> {
        self.catalog().books.claims.get(&task).copied()
    }

    /// Pays a claim. Its result is final.
    pub(crate) fn pay(&mut self, task: TaskId) {
        let Some(Claimed { claim, settlement }) = self.claimed(task) else { return };
        let owner = self.catalog().devices[&claim.device].owner.clone();
        let entry = events::task_accepted(task, claim.device, &owner, &settlement, self.now());
        self.must_post(entry.expect("settlements split"));
        self.release_held(claim.device, self.catalog().jobs[&task.job].spec.workload);
    }

    /// A claim that was accepted does not count. It was not paid.
    pub(crate) fn void_claim(&mut self, task: TaskId, reason: VoidReason) {
        if let Some(Claimed { claim, .. }) = self.claimed(task) {
            self.log(Logged::ClaimVoided { claim, reason, at: self.now() });
        }
    }

    /// A device has survived enough: what was held back is free. What of its work becomes final later is paid with
    /// something held back, if it was accepted on probation, so there can be several releases.
    pub(crate) fn release_held(&mut self, device: DeviceId, workload: Digest) {
        let trusted = self.catalog().standing(device, workload).survived >= u64::from(AUDITS_FINAL);
        if !trusted || !self.is_open() {
            return;
        }
        let account = self.catalog().books.account(device);
        let owner = self.catalog().devices[&device].owner.clone();
        self.must_post(events::holdback_released(device, account.releases + 1, &owner, account.held, self.now()));
    }

    /// A device was caught: what was held back is lost.
    pub(crate) fn forfeit(&mut self, device: DeviceId) {
        let account = self.catalog().books.account(device);
        let owner = self.catalog().devices[&device].owner.clone();
        let forfeiture = Forfeiture {
            device,
            through: account.decided,
            owner,
            held: account.held,
            // What is paid is final; what was not final was not paid.
            paid_for_void: MicroCredits::ZERO,
        };
        self.must_post(events::device_forfeited(&forfeiture, MicroCredits::ZERO, self.now()));
    }

    /// Items were drawn of a claim.
    pub(crate) fn log_drawn(&mut self, task: TaskId, depth: u32, drawn_before: u64, items: &[u32]) {
        let Some(Claimed { claim, .. }) = self.claimed(task) else { return };
        let period = self.catalog().audit_secret.map_or(0, |(period, _, _)| period);
        let (items, at) = (items.to_vec(), self.now());
        self.log(Logged::AuditDrawn(AuditDrawn { claim, period, depth, drawn_before, items, at }));
    }

    /// Items were drawn of a device's claims so that a job can end.
    pub(crate) fn log_drawn_more(&mut self, job: JobId, device: DeviceId, drawn_before: u64, items: &[ItemId]) {
        let sequence = |index: TaskIndex| self.claimed(TaskId { job, index }).map(|claimed| claimed.claim.sequence);
        let open = &self.work(job).checks.open;
        let open =
            open.iter().filter(|(_, checked)| checked.device == device).filter_map(|(index, _)| sequence(*index));
        let open: Vec<u64> = open.collect();
        let items: Vec<(u64, u32)> =
            items.iter().filter_map(|item| sequence(item.task).map(|sequence| (sequence, item.item))).collect();
        if !self.is_open() || items.is_empty() {
            return;
        }
        let period = self.catalog().audit_secret.map_or(0, |(period, _, _)| period);
        let at = self.now();
        self.log(Logged::AuditDrawnMore(AuditDrawnMore { job, device, period, drawn_before, open, items, at }));
    }

    /// What came of items of a device's claims. `auditor` is the task of the audit, if a device did it.
    pub(crate) fn log_outcome(
        &mut self,
        job: JobId,
        of: DeviceId,
        auditor: Option<TaskId>,
        items: &[(ItemId, caii_audit::Finding)],
    ) {
        let of_device = |item: &ItemId| self.claimed(TaskId { job, index: item.task }).filter(|c| c.claim.device == of);
        let found = items.iter().filter_map(|(item, finding)| {
            let sequence = of_device(item)?.claim.sequence;
            Some(AuditedItem { sequence, item: item.item, finding: *finding })
        });
        let items: Vec<AuditedItem> = found.collect();
        if items.is_empty() {
            return;
        }
        let auditor: Option<ClaimRef> = auditor.and_then(|task| self.claimed(task)).map(|claimed| claimed.claim);
        self.log(Logged::AuditOutcome(AuditOutcome { of, auditor, items, at: self.now() }));
    }
}

impl Draft<'_> {
    /// The claim that an item belongs to.
    pub(crate) fn evidence(&self, job: JobId, item: ItemId) -> Option<ClaimRef> {
        self.claimed(TaskId { job, index: item.task }).map(|claimed| claimed.claim)
    }

    /// A device is caught by an item of a claim, its own or the one that it audited.
    pub(crate) fn log_conviction(
        &mut self,
        device: DeviceId,
        evidence: Option<ClaimRef>,
        item: ItemId,
        as_auditor: bool,
    ) {
        let Some(evidence) = evidence else { return };
        let (item, at) = (item.item, self.now());
        self.log(Logged::DeviceConvicted(DeviceConvicted { device, evidence, item, as_auditor, at }));
    }
}

fn ledger_refused(refusal: &LedgerRefusal) -> Refusal {
    crate::registry::field("amount", refusal.to_string())
}
