//! The walk through the entries: who is enrolled, what is certified, what each receipt says.

use crate::audit::{Options, ready};
use crate::claims::{Audits, Claimed, Told};
use crate::draws::Draws;
use crate::files::{Files, PoolFile, tariff_path};
use crate::logged::{ClaimRef, Kind, Logged, PoolOpened};
use crate::money::Money;
use crate::opening::{OPENINGS_WIDTH, openings_path};
use crate::report::{Check, Contributor, Outcome, Report, Wrong};
use caii_ledger::{CreditLimit, tariff_json};
use caii_model::{
    Accepted, Account, DeviceId, Digest, JobId, MicroCredits, Overflow, Receipt, Settlement, Tariff, TaskId, Timestamp,
    Verdict,
};
use caii_tlog::Tree;
use caii_trust::dsse::Envelope;
use caii_trust::{Certification, PAYLOAD_TYPE, ReadyKey, Signed, Statement, device_id, verify_all};
use std::collections::{BTreeMap, BTreeSet};

/// Signatures that are checked at once: beyond this a batch gains little.
const BATCH: usize = 1_024;

/// What is known so far.
pub(crate) struct Walk<'a> {
    pub(crate) files: &'a dyn Files,
    size: u64,
    options: &'a Options<'a>,
    pool: &'a PoolFile,
    pub(crate) pool_key: Option<ReadyKey>,
    outcomes: BTreeMap<Check, Outcome>,
    /// The entry that is looked at, and the file with its opening.
    pub(crate) index: u64,
    pub(crate) file: String,
    pub(crate) erased_kinds: BTreeMap<Kind, u64>,
    kinds: BTreeMap<Kind, u64>,
    last: Timestamp,
    opened: bool,
    pub(crate) credit_limit: CreditLimit,
    queue: Vec<Signed>,
    queued: Vec<(Check, u64, String)>,
    pub(crate) devices: BTreeMap<DeviceId, Device>,
    /// Missing receipts that erased ones may be.
    gaps: u64,
    pub(crate) tariffs: Vec<(Digest, Tariff)>,
    certificates: BTreeMap<Digest, Vec<Certificate>>,
    /// The accepted claims of each task that count.
    pub(crate) accepted: BTreeMap<TaskId, Vec<ClaimRef>>,
    /// Accepted claims to which something is owed, until they are paid or voided.
    pub(crate) waiting: BTreeMap<JobId, BTreeSet<ClaimRef>>,
    pub(crate) told: Told,
    pub(crate) money: Money,
    pub(crate) draws: Draws,
}

/// An enrolled device.
pub(crate) struct Device {
    /// Nothing if its enrolment was erased.
    key: Option<ReadyKey>,
    pub(crate) owner: Account,
    /// The number of its next claim.
    next: u64,
    pub(crate) claims: BTreeMap<u64, Claimed>,
    accepted: u64,
    pub(crate) convicted: bool,
    /// What payments held back since it was released or forfeited last.
    pub(crate) held: MicroCredits,
    /// What was paid, beyond what is held back, for claims that were voided since the last forfeit.
    pub(crate) paid_for_void: MicroCredits,
    /// How often what was held back was released.
    pub(crate) releases: u64,
    /// The number of claims that the last release or forfeit names.
    pub(crate) released: u64,
}

struct Certificate {
    certification: Box<Certification>,
    /// The stewards whose signatures hold; nothing if there is no charter to ask.
    stewards: Option<BTreeSet<String>>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(files: &'a dyn Files, options: &'a Options<'a>, pool: &'a PoolFile, size: u64) -> Self {
        let mut outcomes: BTreeMap<Check, Outcome> =
            Check::ALL.iter().map(|check| (*check, Outcome::default())).collect();
        if options.last.is_none() {
            outcomes.remove(&Check::Consistency);
        }
        if options.device.is_none() {
            outcomes.remove(&Check::Inclusion);
        }
        Self {
            files,
            size,
            options,
            pool,
            pool_key: ready(&pool.key),
            outcomes,
            index: 0,
            file: String::new(),
            erased_kinds: BTreeMap::new(),
            kinds: BTreeMap::new(),
            last: Timestamp(0),
            opened: false,
            credit_limit: CreditLimit::Below(MicroCredits::ZERO),
            queue: vec![],
            queued: vec![],
            devices: BTreeMap::new(),
            gaps: 0,
            tariffs: vec![],
            certificates: BTreeMap::new(),
            accepted: BTreeMap::new(),
            waiting: BTreeMap::new(),
            told: Told::default(),
            money: Money::default(),
            draws: Draws::default(),
        }
    }

    /// The file with the opening of an entry.
    pub(crate) fn path_of(&self, index: u64) -> String {
        let width = OPENINGS_WIDTH as u64;
        openings_path(index / width, (self.size - index / width * width).min(width) as usize)
    }

    fn outcome(&mut self, check: Check) -> &mut Outcome {
        self.outcomes.entry(check).or_default()
    }

    pub(crate) fn good(&mut self, check: Check) {
        self.good_many(check, 1);
    }

    pub(crate) fn good_many(&mut self, check: Check, count: u64) {
        self.outcome(check).good += count;
    }

    pub(crate) fn uncheckable(&mut self, check: Check) {
        self.outcome(check).uncheckable += 1;
    }

    pub(crate) fn note(&mut self, check: Check, note: impl Into<String>) {
        let note = note.into();
        let notes = &mut self.outcome(check).notes;
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// The entry that is looked at is wrong.
    pub(crate) fn wrong(&mut self, check: Check, why: String) {
        let (index, file) = (self.index, self.file.clone());
        self.wrong_at(check, Some(index), file, why);
    }

    pub(crate) fn wrong_file(&mut self, check: Check, file: &str, why: String) {
        self.wrong_at(check, None, file.to_owned(), why);
    }

    pub(crate) fn wrong_at(&mut self, check: Check, index: Option<u64>, file: String, why: String) {
        let outcome = self.outcome(check);
        outcome.wrong += 1;
        // Signatures are checked in batches, so an earlier one may come later.
        let earlier = outcome.first.as_ref().is_none_or(|first| index.is_some() && index < first.index);
        if earlier {
            outcome.first = Some(Wrong { index, file, why });
        }
    }

    pub(crate) fn is_erased(&self, kinds: &[Kind]) -> bool {
        kinds.iter().any(|kind| self.erased_kinds.contains_key(kind))
    }

    /// Something that should be in the log is not. If entries of these kinds were erased it may be one of them.
    pub(crate) fn missing(&mut self, check: Check, kinds: &[Kind], why: String) {
        if self.is_erased(kinds) { self.uncheckable(check) } else { self.wrong(check, why) }
    }

    /// The same of an earlier entry.
    pub(crate) fn missing_at(&mut self, check: Check, kinds: &[Kind], index: u64, why: String) {
        if self.is_erased(kinds) {
            return self.uncheckable(check);
        }
        let file = self.path_of(index);
        self.wrong_at(check, Some(index), file, why);
    }

    pub(crate) fn queue(&mut self, check: Check, index: u64, signed: Signed) {
        self.queue.push(signed);
        self.queued.push((check, index, self.file.clone()));
    }

    pub(crate) fn flush_if_large(&mut self) {
        if self.queue.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let (queue, queued) = (std::mem::take(&mut self.queue), std::mem::take(&mut self.queued));
        let wrong: BTreeSet<usize> = if self.options.strict {
            queue.iter().enumerate().filter(|(_, signed)| signed.verify().is_err()).map(|(place, _)| place).collect()
        } else {
            verify_all(&queue).into_iter().collect()
        };
        for (place, (check, index, file)) in queued.into_iter().enumerate() {
            match wrong.contains(&place) {
                false => self.good(check),
                true => self.wrong_at(check, Some(index), file, "the signature does not hold".into()),
            }
        }
    }

    /// The entry that is looked at, which opens to this.
    pub(crate) fn entry(&mut self, logged: &Logged, attachment: &[u8]) {
        *self.kinds.entry(logged.kind()).or_default() += 1;
        if !attachment.is_empty() && logged.kind() != Kind::WorkloadCertified {
            self.wrong(Check::Openings, format!("something stands beside a {}", logged.kind()));
        }
        let at = logged.at();
        if at < self.last {
            let before = caii_trust::format_time(self.last);
            let at = caii_trust::format_time(at);
            self.wrong(Check::Order, format!("it is of {at} and stands after what is of {before}"));
        } else {
            self.last = at;
            self.good(Check::Order);
        }
        if self.index == 0 && logged.kind() != Kind::PoolOpened {
            self.wrong(Check::Pool, format!("the log begins with a {}", logged.kind()));
        }
        match logged {
            Logged::PoolOpened(opened) => self.pool_opened(opened),
            Logged::TariffEnacted { tariff, at } => self.tariff_enacted(tariff, *at),
            Logged::DeviceEnrolled { key, owner, .. } => self.device_enrolled(key, owner),
            Logged::WorkloadCertified { workload, charter, envelope, .. } => {
                self.workload_certified(workload, charter, envelope, attachment);
            }
            Logged::Receipt(receipt) => self.receipt(receipt),
            Logged::Entry(entry) => self.ledger_entry(entry),
            Logged::SecretCommitted { period, commitment, .. } => self.secret_committed(*period, *commitment),
            Logged::SecretRevealed { period, secret, .. } => self.secret_revealed(*period, secret),
            Logged::AuditDrawn(drawn) => self.audit_drawn(drawn),
            Logged::AuditDrawnMore(drawn) => self.audit_drawn_more(drawn),
            Logged::AuditOutcome(outcome) => self.audit_outcome(outcome),
            Logged::DeviceConvicted(convicted) => self.device_convicted(convicted),
            Logged::PayoutSent(sent) => self.payout_sent(sent),
            Logged::ClaimVoided { claim, reason, .. } => self.claim_voided(*claim, *reason),
        }
    }

    fn pool_opened(&mut self, opened: &PoolOpened) {
        self.credit_limit = opened.credit_limit;
        if self.index != 0 || self.opened {
            return self.wrong(Check::Pool, "the pool opens a second time".into());
        }
        self.opened = true;
        if opened.key != self.pool.key || opened.charter != self.pool.charter {
            return self.wrong(Check::Pool, "it has another key or charter than pool.json".into());
        }
        self.good(Check::Pool);
    }

    fn tariff_enacted(&mut self, tariff: &Tariff, at: Timestamp) {
        let (terms, digest) = (tariff.terms(), tariff.digest());
        let expected = self.tariffs.last().map_or(1, |(_, last)| last.terms().number.saturating_add(1));
        self.tariffs.push((digest, tariff.clone()));
        if terms.number != expected && !self.is_erased(&[Kind::TariffEnacted]) {
            return self.wrong(Check::Tariffs, format!("it is tariff {}; the next one is {expected}", terms.number));
        }
        if terms.effective_from < at {
            let why = format!("tariff {} was published after it had begun to hold", terms.number);
            return self.wrong(Check::Tariffs, why);
        }
        let path = tariff_path(&digest);
        match self.files.read(&path).ok().and_then(|bytes| tariff_json::from_json(&bytes).ok()) {
            Some(found) if found == *tariff => self.good(Check::Tariffs),
            Some(_) => {
                let index = Some(self.index);
                self.wrong_at(Check::Tariffs, index, path, "it says something else than the log".into());
            }
            None => {
                let index = Some(self.index);
                self.wrong_at(Check::Tariffs, index, path, "it is missing or no tariff".into());
            }
        }
    }

    fn device_enrolled(&mut self, key: &[u8; 32], owner: &Account) {
        let id = device_id(key);
        if self.devices.contains_key(&id) {
            return self.wrong(Check::Devices, format!("{id} is enrolled a second time"));
        }
        let Some(key) = ready(key) else {
            return self.wrong(Check::Devices, format!("the key of {id} is none that anything could be signed with"));
        };
        self.good(Check::Devices);
        self.devices.insert(id, Device::new(Some(key), owner.clone()));
    }

    fn workload_certified(&mut self, workload: &Digest, charter: &Digest, envelope: &Digest, attachment: &[u8]) {
        let check = Check::Certificates;
        if Digest::of(attachment) != *envelope {
            return self.wrong(check, "what stands beside it is not the envelope that it names".into());
        }
        let read = || {
            let envelope = Envelope::from_json(attachment).map_err(|error| error.to_string())?;
            if envelope.payload_type != PAYLOAD_TYPE {
                return Err(format!("the envelope is of type `{}`", envelope.payload_type));
            }
            match Statement::from_json(&envelope.payload).map_err(|error| error.to_string())? {
                Statement::Certification(certification) => Ok((envelope, certification)),
                Statement::Revocation(_) => Err("the envelope revokes".into()),
            }
        };
        let (envelope, certification) = match read() {
            Ok(read) => read,
            Err(why) => return self.wrong(check, why),
        };
        if certification.workload != *workload || certification.charter != *charter {
            return self.wrong(check, "the envelope is about another workload or charter".into());
        }
        if self.pool.charter != Some(*charter) {
            return self.wrong(check, "the charter is not the pool's".into());
        }
        let stewards = self.options.charter.map(|charter| {
            let message = envelope.signed_bytes();
            let signed = envelope.signatures.iter().filter_map(|signature| {
                let steward = charter.steward(signature.key?)?;
                steward.key.verify(&message, &signature.bytes).ok().map(|()| steward.name.clone())
            });
            signed.collect::<BTreeSet<String>>()
        });
        if stewards.as_ref().is_some_and(BTreeSet::is_empty) {
            return self.wrong(check, "no steward of the charter signed it".into());
        }
        self.good(check);
        self.certificates.entry(*workload).or_default().push(Certificate { certification, stewards });
    }

    /// Why what is run was not certified at this time, by what the log says up to here.
    fn uncertified(&self, workload: &Digest, at: Timestamp) -> Option<String> {
        let certificates = self.certificates.get(workload).map(Vec::as_slice).unwrap_or_default();
        let hold = |certificate: &&Certificate| {
            certificate.certification.issued <= at && at < certificate.certification.expires
        };
        let held: Vec<&Certificate> = certificates.iter().filter(hold).collect();
        if held.is_empty() {
            return Some(format!("no certification of {} that holds then stands before it", workload.short()));
        }
        let charter = self.options.charter?;
        let stewards: BTreeSet<&String> = held.iter().filter_map(|held| held.stewards.as_ref()).flatten().collect();
        let enough = charter.certify.iter().any(|mandate| {
            let signed = mandate.stewards.iter().filter(|name| stewards.contains(name)).count();
            signed >= mandate.threshold as usize
        });
        (!enough).then(|| format!("{} stewards certified {}: too few", stewards.len(), workload.short()))
    }

    fn receipt(&mut self, receipt: &Receipt) {
        let claim = &receipt.claim;
        let id = ClaimRef { device: claim.device, sequence: claim.sequence };
        if !self.devices.contains_key(&claim.device) {
            if !self.is_erased(&[Kind::DeviceEnrolled]) {
                return self.wrong(Check::Devices, format!("{} is not enrolled", claim.device));
            }
            self.uncheckable(Check::Devices);
            self.devices.insert(claim.device, Device::new(None, receipt.owner.clone()));
        }
        let device = &self.devices[&claim.device];
        let (key, convicted, next) = (device.key, device.convicted, device.next);
        let owned = device.owner == receipt.owner;
        match claim.pool == self.pool.pool() && owned {
            true => self.good(Check::Devices),
            false => self.wrong(Check::Devices, format!("{id} is for another pool, or its owner for another member")),
        }
        match key {
            Some(key) => {
                let (index, signature) = (self.index, receipt.claim_signature);
                let signed = Signed { key, domain: caii_model::Claim::SIGNED_FOR, digest: claim.digest(), signature };
                self.queue(Check::ClaimSignatures, index, signed);
            }
            None => self.uncheckable(Check::ClaimSignatures),
        }
        if claim.sequence < next {
            return self.wrong(Check::Sequences, format!("{id} has a receipt already, or comes after later ones"));
        }
        let left_out = claim.sequence - next;
        let erased = self.erased_kinds.get(&Kind::Receipt).copied().unwrap_or_default();
        match left_out {
            0 => self.good(Check::Sequences),
            _ if left_out <= erased.saturating_sub(self.gaps) => {
                self.gaps += left_out;
                self.outcome(Check::Sequences).uncheckable += left_out;
            }
            _ => self.wrong(Check::Sequences, format!("the next claim of {} is {next}; this is {id}", claim.device)),
        }
        let (accepted, settlement) = match &receipt.verdict {
            Verdict::Void(_) => (false, None),
            Verdict::Accepted(accepted) => {
                self.must_be_drawn(receipt, id);
                (true, self.accepted_receipt(receipt, accepted, id, convicted))
            }
        };
        let claimed = Claimed {
            index: self.index,
            task: claim.task,
            workload: claim.workload,
            root: claim.root,
            items: claim.items,
            policy: receipt.policy,
            own: receipt.work_facts().is_some_and(|facts| facts.fuel.0 > 0),
            accepted,
            settlement,
            paid: None,
            voided: false,
            draw: None,
            wrong: false,
            audits: Audits::default(),
        };
        let device = self.devices.get_mut(&claim.device).expect("it was found or put there above");
        device.next = claim.sequence.saturating_add(1);
        device.accepted += u64::from(accepted);
        device.claims.insert(claim.sequence, claimed);
        self.claim_waits(id);
    }

    /// What it earns and costs, by our own account.
    fn accepted_receipt(
        &mut self,
        receipt: &Receipt,
        accepted: &Accepted,
        id: ClaimRef,
        convicted: bool,
    ) -> Option<Settlement> {
        let claim = &receipt.claim;
        match convicted {
            true => self.wrong(Check::Convictions, format!("{id} is accepted after its device was convicted")),
            false => self.good(Check::Convictions),
        }
        match self.pool.charter {
            None => {}
            Some(_) => match self.uncertified(&claim.workload, receipt.at) {
                None => self.good(Check::Certificates),
                Some(why) => self.missing(Check::Certificates, &[Kind::WorkloadCertified], why),
            },
        }
        self.once(receipt, id);

        let reserved = self.money.reserved_at(claim.task.job);
        let times = [Some(receipt.at), reserved];
        let in_force = times.into_iter().flatten().filter_map(|at| self.tariff_at(at));
        if in_force.into_iter().any(|(digest, _)| *digest == receipt.tariff) {
            self.good(Check::Tariffs);
        } else {
            let why = format!(
                "{id} follows {}, which was in force neither then nor when its job began",
                receipt.tariff.short()
            );
            self.missing(Check::Tariffs, &[Kind::TariffEnacted, Kind::Entry], why);
        }
        let device = &self.devices[&claim.device];
        let record = (device.accepted, device.next - 1);
        let Some((_, tariff)) = self.tariffs.iter().find(|(digest, _)| *digest == receipt.tariff) else {
            self.missing(Check::Rewards, &[Kind::TariffEnacted], format!("the tariff of {id} is not in the log"));
            return None;
        };
        let settlement = match receipt.recompute(tariff) {
            Ok(settlement) => settlement?,
            Err(overflow) => {
                let why = Overflow::to_string(&overflow);
                self.wrong(Check::Rewards, format!("{id}: {why}"));
                return None;
            }
        };
        let erased = self.erased_kinds.get(&Kind::Receipt).copied().unwrap_or_default();
        let found = accepted.record;
        let record_fits =
            (record.0..=record.0 + erased).contains(&found.accepted()) && found.decided() <= record.1 + erased;
        if settlement.reward != accepted.reward || settlement.price.total != accepted.charge {
            let (right, said) = (settlement.reward.total, accepted.reward.total);
            let why = format!(
                "{id} says it earned {said} and cost {} credits; by the tariff it is {right} and {}",
                accepted.charge, settlement.price.total
            );
            self.wrong(Check::Rewards, why);
        } else if !record_fits {
            let why = format!(
                "{id} says {} of {} claims were accepted before; it is {} of at most {}",
                found.accepted(),
                found.decided(),
                record.0,
                record.1
            );
            self.wrong(Check::Rewards, why);
        } else {
            self.good(Check::Rewards);
        }
        Some(settlement)
    }

    fn once(&mut self, receipt: &Receipt, id: ClaimRef) {
        // A quorum's copies are tasks of their own.
        let claims = self.accepted.entry(receipt.claim.task).or_default();
        claims.push(id);
        match claims.len() - 1 {
            0 => self.good(Check::Once),
            others => {
                let why = format!("{id}: {} was accepted {others} times before", receipt.claim.task);
                self.missing(Check::Once, &[Kind::Entry, Kind::ClaimVoided], why);
            }
        }
    }

    /// The tariff in force: of those published before, the last whose date has come.
    pub(crate) fn tariff_at(&self, at: Timestamp) -> Option<&(Digest, Tariff)> {
        self.tariffs.iter().rev().find(|(_, tariff)| tariff.terms().effective_from <= at)
    }

    /// What can be said only when all entries were seen.
    pub(crate) fn finish(&mut self) {
        self.flush();
        if !self.opened && !self.is_erased(&[Kind::PoolOpened]) {
            self.wrong_file(Check::Pool, "opening/000", "the log does not begin by saying which pool it is of".into());
        }
        if self.options.charter.is_none() && !self.certificates.is_empty() {
            self.note(
                Check::Certificates,
                "no charter was given: the stewards' signatures were not checked, only what they say",
            );
        }
        self.finish_draws();
        self.finish_claims();
        self.trial_balance();
        if let Some(asked) = self.options.device {
            let claims = self.devices.get(&asked.device).map(|device| (device.claims.len() as u64, device.next - 1));
            match (claims, asked.claims) {
                (None, _) => {
                    self.wrong_file(Check::Inclusion, "opening", format!("{} is not in the log", asked.device))
                }
                (Some((found, last)), claims) => {
                    self.good_many(Check::Inclusion, found);
                    let expected = claims.unwrap_or(last);
                    if found < expected {
                        let why = format!("{} made {expected} claims and has {found} receipts", asked.device);
                        self.missing(Check::Inclusion, &[Kind::Receipt], why);
                    }
                }
            }
        }
    }

    pub(crate) fn report(self, origin: String, tree: Tree, cosigned: Vec<String>) -> Report {
        let contributor = self.options.device.and_then(|asked| {
            let device = self.devices.get(&asked.device)?;
            let claims = device.claims.values();
            let paid = claims.clone().filter(|claim| claim.paid.is_some());
            let rewards = paid.filter_map(|claim| claim.settlement.map(|settlement| settlement.reward.total));
            Some(Contributor {
                device: asked.device,
                owner: device.owner.clone(),
                receipts: device.claims.len() as u64,
                accepted: device.accepted,
                waiting: claims.clone().filter(|claim| claim.waits() && claim.owes()).count() as u64,
                voided: claims.filter(|claim| claim.voided).count() as u64,
                last: device.next - 1,
                earned: MicroCredits::checked_sum(rewards).unwrap_or(MicroCredits::MAX),
            })
        });
        Report {
            origin,
            tree,
            cosigned,
            entries: self.kinds,
            erased: self.erased_kinds,
            outcomes: self.outcomes,
            contributor,
        }
    }
}

impl Device {
    fn new(key: Option<ReadyKey>, owner: Account) -> Self {
        Self {
            key,
            owner,
            next: 1,
            claims: BTreeMap::new(),
            accepted: 0,
            convicted: false,
            held: MicroCredits::ZERO,
            paid_for_void: MicroCredits::ZERO,
            releases: 0,
            released: 0,
        }
    }
}
