//! The device's gate: nothing is fetched, compiled or run here that stewards did not certify, whatever the pool says.
//!
//! The pool delivers the charter's files and the certificates; what they say is verified here, against the charter that
//! the join ticket pinned, and what was ever revoked is remembered. A pool that holds back what is newer lets everything
//! here stop when the metadata ends.

use super::cache::is_full;
use super::choices::Choices;
use super::client::{CallError, PoolClient};
use super::home::Membership;
use super::jails::JailView;
use super::notes::{Noted, Notes};
use super::workshop::Because as _;
use crate::clock;
use caii_governance::{DeviceTrust, Files, GovernanceError};
use caii_model::{AttemptFailure, AttemptFailureKind, Digest, Manifest, Timestamp};
use caii_trust::{Certified, Envelope, Facts, LocalPolicy, Uncertified, decide, format_time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Workloads whose admission is remembered for the owner.
const LET_IN_MAX: usize = 1_000;
/// Workloads whose refusal is remembered for the owner.
const REFUSED_MAX: usize = 100;

/// Why the charter's files are not the newest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    #[error("cannot fetch the charter's files: {0}")]
    Call(#[from] CallError),
    #[error("refused the charter's files that the pool sent: {0}")]
    Refused(#[from] GovernanceError),
}

impl From<RefreshError> for AttemptFailure {
    /// What is this device's or the line's trouble says nothing about the workload.
    fn from(error: RefreshError) -> Self {
        match &error {
            RefreshError::Call(_) => AttemptFailureKind::BlobUnavailable.because(error.to_string()),
            RefreshError::Refused(GovernanceError::File { path, source, .. }) if is_full(source) => {
                AttemptFailureKind::DiskFull
                    .because(format!("the disk is full: the charter's files do not fit in {}", path.display()))
            }
            RefreshError::Refused(_) => AttemptFailureKind::Uncertified.because(error.to_string()),
        }
    }
}

/// A workload that was admitted before and is not any more.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) workload: Digest,
    pub(crate) name: String,
    pub(crate) failure: AttemptFailure,
}

/// What newer files changed.
#[derive(Debug, Default)]
pub(crate) struct Refreshed {
    /// The charter in words, if it is another one than before.
    pub(crate) charter: Option<String>,
    pub(crate) stopped: Vec<Stopped>,
}

/// What a device trusts, for its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustView {
    /// The pool that it belongs to.
    pub pool: String,
    /// The charter that it pinned when it joined.
    pub charter: String,
    /// Who decides what may run here, in a sentence; nothing before the pool has shown its charter.
    pub rules: Option<String>,
    /// Until when that may be relied on without newer files, in Unix milliseconds.
    pub fresh_until_ms: Option<u64>,
    /// What was ever revoked, in sentences.
    pub revoked: Vec<String>,
    /// What its owner chose: with the agent's last start, or before that in `agent.toml`.
    pub choices: Choices,
    /// What was let in so far.
    pub certified: Vec<CertifiedView>,
    /// What this device would not run when it was asked to last.
    pub refused: Vec<RefusedView>,
    /// What confined what ran here, layer by layer.
    pub jails: Vec<JailView>,
}

/// A workload that was let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedView {
    /// Its digest.
    pub workload: String,
    /// Its name.
    pub name: String,
    /// The stewards whose certifications counted.
    pub by: Vec<String>,
    /// Until when, in Unix milliseconds.
    pub until_ms: u64,
}

/// A workload that this device would not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusedView {
    /// Its digest.
    pub workload: String,
    /// Its name.
    pub name: String,
    /// Why, said to the owner.
    pub why: String,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

impl TrustView {
    /// The same in sentences.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![match &self.rules {
            Some(rules) => format!("What may run here: {rules}."),
            None => format!("Nothing may run here yet: {} has not shown the charter {}.", self.pool, self.charter),
        }];
        if let Some(until) = self.fresh_until_ms {
            let until = format_time(Timestamp(until));
            lines.push(format!(
                "Known to be the newest until {until}; without newer word from the pool nothing runs after that."
            ));
        }
        lines.extend(self.choices.lines());
        lines.extend(self.revoked.iter().map(|revoked| format!("Revoked: {revoked}.")));
        lines.extend(self.certified.iter().map(|entry| {
            let until = format_time(Timestamp(entry.until_ms));
            format!("Let in: {} ({}), certified by {} until {until}.", entry.name, entry.workload, entry.by.join(", "))
        }));
        lines.extend(self.refused.iter().map(|entry| {
            let at = format_time(Timestamp(entry.at_ms));
            format!("Refused on {at}: {} ({}): {}.", entry.name, entry.workload, entry.why)
        }));
        lines.extend(self.jails.iter().flat_map(JailView::lines));
        lines
    }
}

/// What the device that keeps its trust in this directory believes, with what else its owner may want to know.
pub(crate) fn view(
    dir: &Path,
    membership: &Membership,
    choices: Choices,
    jails: Vec<JailView>,
) -> Result<TrustView, GovernanceError> {
    let trust = DeviceTrust::open(dir, membership.charter)?;
    let trusted = trust.trusted();
    let revoked = trusted.into_iter().flat_map(|trusted| trusted.revocations.iter());
    let revoked = revoked.map(|revocation| {
        format!("{} by {} on {}: {}", revocation.what, revocation.by, format_time(revocation.issued), revocation.why)
    });
    Ok(TrustView {
        pool: membership.pool.to_string(),
        charter: membership.charter.to_string(),
        rules: trusted.map(|trusted| trusted.charter.describe()),
        fresh_until_ms: trusted.map(|trusted| trusted.fresh_until.0),
        revoked: revoked.collect(),
        choices,
        certified: let_in(dir).into_entries(),
        refused: refusals(dir).into_entries(),
        jails,
    })
}

impl Noted for CertifiedView {
    fn workload(&self) -> &str {
        &self.workload
    }
}

impl Noted for RefusedView {
    fn workload(&self) -> &str {
        &self.workload
    }
}

fn let_in(dir: &Path) -> Notes<CertifiedView> {
    Notes::open(dir.join("let-in.json"), LET_IN_MAX)
}

fn refusals(dir: &Path) -> Notes<RefusedView> {
    Notes::open(dir.join("refused.json"), REFUSED_MAX)
}

pub(crate) struct Gate {
    client: Arc<PoolClient>,
    policy: LocalPolicy,
    /// Held over a whole refresh: two at a time would undo each other.
    trust: tokio::sync::Mutex<DeviceTrust>,
    admitted: Mutex<BTreeMap<Digest, Admitted>>,
    let_in: Mutex<Notes<CertifiedView>>,
    refused: Mutex<Notes<RefusedView>>,
}

/// A workload that may run, and what to decide it from again.
struct Admitted {
    name: String,
    facts: Facts,
    envelopes: Vec<Envelope>,
    until: Timestamp,
}

impl Gate {
    /// The gate of the charter with this id, with what this directory remembers of it.
    pub(crate) fn open(
        dir: &Path,
        charter: Digest,
        policy: LocalPolicy,
        client: Arc<PoolClient>,
    ) -> Result<Self, GovernanceError> {
        let trust = tokio::sync::Mutex::new(DeviceTrust::open(dir, charter)?);
        let (let_in, refused) = (Mutex::new(let_in(dir)), Mutex::new(refusals(dir)));
        Ok(Self { client, policy, trust, admitted: Mutex::default(), let_in, refused })
    }

    /// Fetches the charter's files, and decides anew what was admitted if they changed anything.
    pub(crate) async fn refresh(&self) -> Result<Refreshed, RefreshError> {
        let files = Files::from_json(&self.client.governance().await?)?;
        let mut trust = self.trust.lock().await;
        let before = trust.trusted().map(|trusted| trusted.charter.clone());
        let update = trust.update(&files).await?;
        for reason in update.ignored {
            tracing::warn!(%reason, "ignored a file of the charter's");
        }
        let Some(trusted) = trust.trusted() else { return Ok(Refreshed::default()) };
        let charter = (before.as_ref() != Some(&trusted.charter)).then(|| trusted.charter.describe());
        // The end of what is admitted may have moved even when nothing else did.
        let mut stopped = Vec::new();
        self.admitted().retain(|workload, admitted| {
            match decide(trusted, clock::now(), &admitted.facts, &admitted.envelopes, &self.policy) {
                Ok(certified) => {
                    admitted.until = certified.until;
                    true
                }
                Err(refusal) => {
                    let (name, failure) = (std::mem::take(&mut admitted.name), refused(&refusal));
                    stopped.push(Stopped { workload: *workload, name, failure });
                    false
                }
            }
        });
        Ok(Refreshed { charter, stopped })
    }

    /// Lets a workload in, or says why it may not run here. Before any other byte of it is fetched.
    pub(crate) async fn admit(&self, manifest: &Manifest) -> Result<Certified, AttemptFailure> {
        let facts = Facts::of(manifest);
        let workload = facts.workload();
        // What the owner does not allow is not worth another byte.
        self.policy.takes(&facts).map_err(|refusal| self.refuse(manifest, workload, &refusal))?;
        let unavailable = |what: &str, error: &dyn std::fmt::Display| {
            AttemptFailureKind::BlobUnavailable.because(format!("cannot fetch {what} of {}: {error}", workload.short()))
        };
        let bytes =
            self.client.certificates(workload).await.map_err(|error| unavailable("the certificates", &error))?;
        let envelopes = envelopes(&bytes).map_err(|error| unavailable("usable certificates", &error))?;
        if self.trust.lock().await.trusted().is_none_or(|trusted| trusted.fresh_until <= clock::now()) {
            self.refresh().await?;
        }
        let trust = self.trust.lock().await;
        let trusted = trust.trusted().ok_or_else(|| {
            AttemptFailureKind::Uncertified.because("the pool has not shown its charter to this device yet".into())
        })?;
        let certified = decide(trusted, clock::now(), &facts, &envelopes, &self.policy)
            .map_err(|refusal| self.refuse(manifest, workload, &refusal))?;
        let admitted = Admitted { name: manifest.name.clone(), facts, envelopes, until: certified.until };
        // Under the lock of the trust: a refresh in between would not have seen it.
        self.admitted().insert(workload, admitted);
        let by = certified.by.iter().map(|steward| steward.name.clone()).collect();
        let (name, until_ms) = (manifest.name.clone(), certified.until.0);
        let entry = CertifiedView { workload: workload.to_string(), name, by, until_ms };
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).forget(&entry.workload);
        self.let_in.lock().unwrap_or_else(PoisonError::into_inner).note(entry);
        Ok(certified)
    }

    /// The refusal as it goes to the pool; noted as it is told to the owner.
    fn refuse(&self, manifest: &Manifest, workload: Digest, refusal: &Uncertified) -> AttemptFailure {
        let (workload, name) = (workload.to_string(), manifest.name.clone());
        let entry = RefusedView { workload, name, why: refusal.to_owner(), at_ms: clock::now().0 };
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).note(entry);
        refused(refusal)
    }

    /// Whether an admitted workload may still run at this moment: cheap, for each task.
    pub(crate) fn still(&self, workload: Digest) -> Result<(), AttemptFailure> {
        match self.admitted().get(&workload) {
            Some(admitted) if clock::now() < admitted.until => Ok(()),
            Some(_) => Err(AttemptFailureKind::Uncertified.because(
                "its certification or the charter's metadata has ended; it is decided again in a moment".into(),
            )),
            None => Err(AttemptFailureKind::Uncertified.because("it is not certified any more".into())),
        }
    }

    /// Whether something admitted has come to its end, so that a refresh is due.
    pub(crate) fn due(&self) -> bool {
        let now = clock::now();
        self.admitted().values().any(|admitted| admitted.until <= now)
    }

    /// Stops what has come to its end although no newer files could be had.
    pub(crate) fn expire(&self) -> Vec<Stopped> {
        let now = clock::now();
        let mut stopped = Vec::new();
        self.admitted().retain(|workload, admitted| {
            let ended = admitted.until <= now;
            if ended {
                let detail = "its certification or the charter's metadata has ended".to_owned();
                let failure = AttemptFailureKind::Uncertified.because(detail);
                stopped.push(Stopped { workload: *workload, name: std::mem::take(&mut admitted.name), failure });
            }
            !ended
        });
        stopped
    }

    fn admitted(&self) -> MutexGuard<'_, BTreeMap<Digest, Admitted>> {
        // Nothing that is done under the lock can leave it half-done.
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(refusal: &Uncertified) -> AttemptFailure {
    AttemptFailureKind::Uncertified.because(format!("this device refuses it: {refusal}"))
}

/// The envelopes of a JSON list. What is no envelope is left out: it counts for nothing, and must not keep others from
/// counting.
fn envelopes(bytes: &[u8]) -> Result<Vec<Envelope>, serde_json::Error> {
    let list: Vec<Box<serde_json::value::RawValue>> = serde_json::from_slice(bytes)?;
    let read = |raw: &serde_json::value::RawValue| match Envelope::from_json(raw.get().as_bytes()) {
        Ok(envelope) => Some(envelope),
        Err(error) => {
            tracing::warn!(%error, "ignored a certificate");
            None
        }
    };
    Ok(list.iter().filter_map(|raw| read(raw)).collect())
}
