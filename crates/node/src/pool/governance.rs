//! What the pool keeps of its governance: the charter's files, the certificates of workloads, and the key that keeps the
//! files fresh. Everything here is verified again by each device; the pool only delivers it, and refuses at the door
//! what no device would run.

use super::actor::Handle;
use crate::agent::runtime_version;
use crate::clock;
use caii_coordinator::Input;
use caii_governance::{
    Expiry, Files, Founding, GovernanceError, KeyFileError, ONLINE_KEY, Repository, Signer, SoftwareKey, verify_files,
};
use caii_model::{DataTier, Digest, Manifest, Millis, PoolId, Region, RuntimeVersion, Timestamp, UseCategory};
use caii_trust::{
    Body, Certification, Certified, Charter, Envelope, EnvelopeError, Facts, LocalPolicy, Mandate, PAYLOAD_TYPE,
    Rejection, Revocation, RevocationRefused, Revocations, Revoked, Statement, StatementError, Steward, Trusted,
    Uncertified, decide,
};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const DAY: u64 = 24 * 3_600_000;
/// So long the pool vouches that its files are the newest: what holds newer ones back for longer stops every device.
const FRESH_FOR: Millis = Millis(DAY);
/// How often it does so again.
pub(super) const REFRESH_EVERY: Duration = Duration::from_secs(3_600);
/// The steward of a pool that nobody wrote a charter for, the key's file, and how long its signatures hold.
const OPERATOR: &str = "operator";
const OPERATOR_KEY: &str = "steward.key";
const OWN_CHARTER_VALID: Millis = Millis(3_650 * DAY);
const OWN_CERTIFICATE_VALID: Millis = Millis(365 * DAY);
/// Certificates of one workload that are kept.
const CERTIFICATES_MAX: usize = 64;
/// Verdicts that are remembered.
const VERDICTS_MAX: usize = 1_024;

/// Why the pool's governance cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PoolGovernanceError {
    /// The charter's files do not work.
    #[error(transparent)]
    Charter(#[from] GovernanceError),
    /// A key does not work.
    #[error("cannot use {}", path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyFileError,
    },
    /// A file does not work.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The pool has another charter than the one given.
    #[error(
        "{} is another charter than the one that this pool's devices trust ({}); start a new pool for it, with another \
         --dir", given.display(), known.short()
    )]
    OtherCharter {
        /// The directory given.
        given: PathBuf,
        /// The pool's charter.
        known: Digest,
    },
}

/// Why a certificate or a revocation was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvelopeRefused {
    #[error("this is no certificate: {0}")]
    Envelope(#[from] EnvelopeError),
    #[error("the payload is `{0}`, not an in-toto statement")]
    PayloadType(String),
    #[error("this certifies nothing: {0}")]
    Statement(#[from] StatementError),
    #[error("this is a revocation; send it with `caii workload revoke`")]
    NotCertification,
    #[error("no steward of the charter in force signed this")]
    NoSteward,
    #[error("{} certificates of this workload are kept already", CERTIFICATES_MAX)]
    TooMany,
    #[error("this revokes nothing: {0}")]
    Revocation(#[from] RevocationRefused),
    #[error(transparent)]
    Store(#[from] PoolGovernanceError),
}

/// What was signed about a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Which.
    pub(crate) workload: Digest,
    /// By which charter.
    pub(crate) charter: Digest,
    /// The signed envelope, as it is kept and published.
    pub(crate) envelope: Vec<u8>,
}

impl Certificate {
    fn of(certification: &Certification, envelope: &Envelope) -> Self {
        let Certification { workload, charter, .. } = certification;
        Self { workload: *workload, charter: *charter, envelope: envelope.to_json() }
    }

    /// Tells the coordinator, which logs it. The answer must be there before the certificate counts.
    pub(crate) fn input(&self) -> Input {
        let Self { workload, charter, envelope } = self.clone();
        Input::WorkloadCertified { workload, charter, envelope }
    }
}

/// The governance of a running pool.
pub(crate) struct Governance {
    repository: Repository,
    online: SoftwareKey,
    /// The only steward's key, in a pool whose operator wrote no charter.
    operator: Option<SoftwareKey>,
    certificates: PathBuf,
    /// Held while files are written.
    published: Mutex<Published>,
    verdicts: Mutex<Verdicts>,
    /// Held while the coordinator is told what is in force, so that it hears of the newest last.
    enforcing: Mutex<()>,
}

/// Whether some region's devices would run a workload now; if not, why, for each mandate of the charter.
type Verdict = Result<Certified, Vec<Uncertified>>;

/// Verdicts that hold still, so that submitting a job reads and verifies nothing.
#[derive(Default)]
struct Verdicts {
    /// Changes whenever a certificate is added: who decided meanwhile may not have seen it.
    certificates: u64,
    known: BTreeMap<Digest, Known>,
}

struct Known {
    verdict: Verdict,
    /// Of which version of the charter's files.
    version: u64,
    /// Before when: then a certification or the files have expired.
    until: Timestamp,
}

/// What is in force, as delivered.
#[derive(Clone)]
struct Published {
    files: Arc<Vec<u8>>,
    version: u64,
    trusted: Arc<Trusted>,
}

impl Governance {
    /// The governance of the pool in this directory. Without a charter it gets one: 1 of 1, the operator's.
    pub(super) async fn open(
        pool_dir: &Path,
        pool: PoolId,
        charter: Option<&Path>,
    ) -> Result<Self, PoolGovernanceError> {
        let (dir, certificates) = (pool_dir.join("charter"), pool_dir.join("certificates"));
        fs::create_dir_all(&certificates).map_err(io_error("make", &certificates))?;
        let operator_key = dir.join(OPERATOR_KEY);
        match charter {
            Some(given) => adopt(given, &dir)?,
            None if dir.exists() => {}
            None => found(&dir, pool)?,
        }
        let repository = Repository::open(&dir)?;
        let online = read_key(&dir.join(ONLINE_KEY))?;
        let operator = operator_key.exists().then(|| read_key(&operator_key)).transpose()?;
        repository.refresh(&online, clock::now(), FRESH_FOR)?;
        let published = Mutex::new(publish(&repository).await?);
        Ok(Self {
            repository,
            online,
            operator,
            certificates,
            published,
            verdicts: Mutex::default(),
            enforcing: Mutex::default(),
        })
    }

    /// What devices pin.
    pub(crate) fn pin(&self) -> Digest {
        self.repository.pin()
    }

    /// The charter's files as one JSON.
    pub(crate) fn files(&self) -> Arc<Vec<u8>> {
        self.published().files.clone()
    }

    /// Who decides, in a sentence.
    pub(crate) fn describe(&self) -> String {
        self.trusted().charter.describe()
    }

    /// Whether the operator alone certifies, with the key in the pool's directory.
    pub(crate) fn is_operators_own(&self) -> bool {
        self.operator.is_some()
    }

    /// Vouches anew that the files are the newest, which also takes up what stewards signed meanwhile.
    pub(crate) async fn refresh(&self) -> Result<(), PoolGovernanceError> {
        self.repository.refresh(&self.online, clock::now(), FRESH_FOR)?;
        let published = publish(&self.repository).await?;
        *self.published() = published;
        Ok(())
    }

    /// Whether some region's devices would run the workload now. Reads and verifies files unless it is known.
    pub(crate) fn verdict(&self, manifest: &Manifest) -> Result<Certified, Uncertified> {
        first(self.decide(manifest, clock::now()))
    }

    /// The same, if it is known.
    pub(crate) fn known_verdict(&self, manifest: &Manifest) -> Option<Result<Certified, Uncertified>> {
        self.known(manifest.digest(), self.published().version, clock::now()).map(first)
    }

    /// What devices of this region would decide, with what that is decided by.
    pub(crate) fn look(&self, manifest: &Manifest, region: &Region) -> (Arc<Trusted>, Result<Certified, Uncertified>) {
        let trusted = self.trusted();
        let decision =
            decide_for(&trusted, clock::now(), &Facts::of(manifest), &self.envelopes(manifest.digest()), region);
        (trusted, decision)
    }

    fn decide(&self, manifest: &Manifest, now: Timestamp) -> Verdict {
        let workload = manifest.digest();
        let Published { version, trusted, .. } = self.published().clone();
        if let Some(known) = self.known(workload, version, now) {
            return known;
        }
        let certificates = self.verdicts().certificates;
        let (facts, envelopes) = (Facts::of(manifest), self.envelopes(workload));
        let mut refused = Vec::new();
        let certified = trusted.charter.certify.iter().find_map(|mandate| {
            decide_for(&trusted, now, &facts, &envelopes, &mandate.region).map_err(|error| refused.push(error)).ok()
        });
        let verdict = certified.ok_or(refused);
        let until = match &verdict {
            Ok(certified) => Some(certified.until),
            // What holds from tomorrow on is to be found tomorrow.
            Err(refused) if refused.iter().any(is_early) => None,
            Err(_) => Some(trusted.fresh_until),
        };
        let mut verdicts = self.verdicts();
        if let Some(until) = until.filter(|_| verdicts.certificates == certificates) {
            if verdicts.known.len() >= VERDICTS_MAX {
                verdicts.known.clear();
            }
            verdicts.known.insert(workload, Known { verdict: verdict.clone(), version, until });
        }
        verdict
    }

    fn known(&self, workload: Digest, version: u64, now: Timestamp) -> Option<Verdict> {
        let verdicts = self.verdicts();
        let known = verdicts.known.get(&workload).filter(|known| known.version == version && now < known.until);
        known.map(|known| known.verdict.clone())
    }

    fn verdicts(&self) -> MutexGuard<'_, Verdicts> {
        // A verdict is put in as a whole.
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything kept that was signed about a workload; what cannot be read certifies nothing.
    fn envelopes(&self, workload: Digest) -> Vec<Envelope> {
        self.certificates_of(workload).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read certificates");
            Vec::new()
        })
    }

    /// Everything kept that was signed about a workload, unverified.
    pub(crate) fn certificates_of(&self, workload: Digest) -> Result<Vec<Envelope>, PoolGovernanceError> {
        let dir = self.certificates.join(workload.hex());
        let files = match fs::read_dir(&dir) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(io_error("read", &dir)(source)),
        };
        let mut found = Vec::new();
        for file in files {
            let path = file.map_err(io_error("read", &dir))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let bytes = fs::read(&path).map_err(io_error("read", &path))?;
                match Envelope::from_json(&bytes) {
                    Ok(envelope) => found.push((path, envelope)),
                    Err(error) => tracing::warn!(path = %path.display(), %error, "a kept certificate cannot be read"),
                }
            }
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found.into_iter().map(|(_, envelope)| envelope).collect())
    }

    /// What a steward of the charter signed about a workload, which need not be in the pool yet. Nothing is kept: see
    /// [`Governance::keep`].
    pub(crate) fn check_certificate(&self, bytes: &[u8]) -> Result<Certificate, EnvelopeRefused> {
        let envelope = Envelope::from_json(bytes)?;
        let certification = certification(&envelope)?;
        let trusted = self.trusted();
        let signed = envelope.signed_bytes();
        let by_steward = |steward: &Steward| {
            let signatures = envelope.signatures.iter();
            let ours = signatures.filter(|signature| signature.key == Some(steward.key.id()));
            ours.into_iter().any(|signature| steward.key.verify(&signed, &signature.bytes).is_ok())
        };
        if certification.charter != trusted.charter.id || !trusted.charter.stewards.iter().any(by_steward) {
            return Err(EnvelopeRefused::NoSteward);
        }
        let certificate = Certificate::of(&certification, &envelope);
        self.has_room(&certificate)?;
        Ok(certificate)
    }

    /// Takes a revocation that a steward signed and publishes it.
    pub(crate) async fn add_revocation(&self, bytes: &[u8]) -> Result<Revocation, EnvelopeRefused> {
        let envelope = Envelope::from_json(bytes)?;
        let revocation = Revocation::read(&self.trusted().charter, &envelope)?;
        self.repository.add_revocation(&envelope).map_err(PoolGovernanceError::from)?;
        self.refresh().await?;
        Ok(revocation)
    }

    /// Certifies a workload with the operator's key, where the operator alone decides; nothing if that is not needed.
    /// Nothing is kept: see [`Governance::keep`].
    pub(crate) fn sign_as_operator(&self, manifest: &Manifest) -> Result<Option<Certificate>, EnvelopeRefused> {
        let Some(key) = &self.operator else { return Ok(None) };
        if self.verdict(manifest).is_ok() {
            return Ok(None);
        }
        let now = clock::now();
        let certification = Certification {
            workload: manifest.digest(),
            name: manifest.name.clone(),
            charter: self.pin(),
            runtime: manifest.runtime,
            meter: manifest.meter,
            limits: manifest.limits,
            uses: UseCategory::ALL.iter().copied().collect(),
            data_tiers: [DataTier::Public, DataTier::Internal].into(),
            regions: [Region::any()].into(),
            issued: now,
            expires: now + OWN_CERTIFICATE_VALID,
            build: None,
        };
        let mut envelope = Envelope::unsigned(PAYLOAD_TYPE, certification.to_json());
        let signature =
            key.sign(&envelope.signed_bytes()).map_err(GovernanceError::from).map_err(PoolGovernanceError::from)?;
        envelope.add(key.public().id(), signature);
        let certificate = Certificate::of(&certification, &envelope);
        self.has_room(&certificate)?;
        Ok(Some(certificate))
    }

    /// Every certificate that is kept. What cannot be read certifies nothing.
    pub(super) fn certificates(&self) -> Result<Vec<Certificate>, PoolGovernanceError> {
        let dir = &self.certificates;
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).map_err(io_error("read", dir))? {
            let entry = entry.map_err(io_error("read", dir))?;
            let Some(workload) = entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok()) else {
                continue;
            };
            for envelope in self.certificates_of(workload)? {
                match certification(&envelope) {
                    Ok(certification) => found.push(Certificate::of(&certification, &envelope)),
                    Err(error) => tracing::warn!(%workload, %error, "a kept certificate cannot be read"),
                }
            }
        }
        found.sort_by(|one, other| (one.workload, &one.envelope).cmp(&(other.workload, &other.envelope)));
        Ok(found)
    }

    /// Tells the coordinator which version is in force and which of its workloads may not run any more, by a
    /// revocation of theirs or of a key that certified them.
    pub(crate) fn enforce(&self, handle: &Handle, workloads: &BTreeMap<Digest, Manifest>) {
        let _one_at_a_time = self.enforcing.lock().unwrap_or_else(PoisonError::into_inner);
        handle.tell(Input::GovernanceChanged { version: self.published().version });
        for (digest, manifest) in workloads {
            let revoked = self.trusted().revoked(Revoked::Workload(*digest)).cloned();
            if let Some(revocation) = revoked {
                let reason = format!("{}: {}", revocation.by, revocation.why);
                handle.tell(Input::WorkloadRevoked { workload: *digest, reason });
            } else if let Err(refusals) = self.decide(manifest, clock::now()) {
                match refusals.iter().find(|refusal| is_of_revoked_key(refusal)) {
                    Some(refusal) => {
                        handle.tell(Input::WorkloadUncertified { workload: *digest, reason: refusal.to_string() });
                    }
                    // It may be certified again before anybody misses it: devices keep it waiting.
                    None => {
                        let refusal = first(Err(refusals)).expect_err("it is refused");
                        tracing::info!(workload = %digest, %refusal, "no device may run it now");
                    }
                }
            }
        }
    }

    /// Keeps a certificate; from here on it counts. The pool's log must have it before.
    pub(crate) fn keep(&self, certificate: &Certificate) -> Result<(), EnvelopeRefused> {
        let Certificate { workload, envelope, .. } = certificate;
        if self.has_room(certificate)? {
            return Ok(());
        }
        let path = self.path_of(certificate);
        write_whole(&path, envelope).map_err(io_error("write", &path))?;
        let mut verdicts = self.verdicts();
        verdicts.certificates += 1;
        verdicts.known.remove(workload);
        Ok(())
    }

    fn path_of(&self, Certificate { workload, envelope, .. }: &Certificate) -> PathBuf {
        self.certificates.join(workload.hex()).join(format!("{}.json", Digest::of(envelope).hex()))
    }

    /// Makes sure that a certificate can be kept; whether it is already.
    fn has_room(&self, certificate: &Certificate) -> Result<bool, EnvelopeRefused> {
        let path = self.path_of(certificate);
        let dir = path.parent().expect("it is in a directory");
        fs::create_dir_all(dir).map_err(io_error("make", dir))?;
        if path.exists() {
            return Ok(true);
        }
        if fs::read_dir(dir).map_err(io_error("read", dir))?.count() >= CERTIFICATES_MAX {
            return Err(EnvelopeRefused::TooMany);
        }
        Ok(false)
    }

    fn trusted(&self) -> Arc<Trusted> {
        self.published().trusted.clone()
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        // It is replaced as a whole.
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn decide_for(
    trusted: &Trusted,
    now: Timestamp,
    facts: &Facts,
    envelopes: &[Envelope],
    region: &Region,
) -> Result<Certified, Uncertified> {
    decide(trusted, now, facts, envelopes, &LocalPolicy::open(region.clone(), runtime_version()))
}

/// A charter without a mandate refuses, too.
fn first(verdict: Verdict) -> Result<Certified, Uncertified> {
    verdict.map_err(|refused| {
        refused.into_iter().next().unwrap_or_else(|| Uncertified::NoMandate { region: Region::any() })
    })
}

fn rejections(refusal: &Uncertified) -> impl Iterator<Item = &Rejection> {
    let rejected = match refusal {
        Uncertified::Missing { rejected, .. } => rejected.as_slice(),
        _ => &[],
    };
    rejected.iter().map(|rejected| &rejected.why)
}

fn is_early(refusal: &Uncertified) -> bool {
    rejections(refusal).any(|why| matches!(why, Rejection::NotYet { .. }))
}

/// Whether keys are missing and one that signed was revoked.
fn is_of_revoked_key(refusal: &Uncertified) -> bool {
    rejections(refusal).any(|why| matches!(why, Rejection::KeyRevoked(_)))
}

fn certification(envelope: &Envelope) -> Result<Certification, EnvelopeRefused> {
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(EnvelopeRefused::PayloadType(envelope.payload_type.clone()));
    }
    match Statement::from_json(&envelope.payload)? {
        Statement::Certification(certification) => Ok(*certification),
        Statement::Revocation(_) => Err(EnvelopeRefused::NotCertification),
    }
}

async fn publish(repository: &Repository) -> Result<Published, GovernanceError> {
    let files: Files = repository.files()?;
    let trusted = verify_files(repository.pin(), &files, Expiry::Refused).await?;
    let digest = files.digest().0;
    // Any number that changes with the files will do; 0 means that nothing is known.
    let version = u64::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes")).max(1);
    Ok(Published { files: Arc::new(files.to_json()), version, trusted: Arc::new(trusted) })
}

/// A charter of the operator's own.
fn found(dir: &Path, pool: PoolId) -> Result<(), PoolGovernanceError> {
    // Made elsewhere and moved, so that a crash leaves a whole charter or none.
    let parent = dir.parent().expect("it is in the pool's directory");
    let fresh = tempfile::Builder::new().prefix(".charter-").tempdir_in(parent).map_err(io_error("make", dir))?;
    let key = |name: &str, label: &str| {
        let path = fresh.path().join(name);
        SoftwareKey::create(&path, label, None).map_err(|source| PoolGovernanceError::Key { path, source })
    };
    let (steward, online) = (key(OPERATOR_KEY, OPERATOR)?, key(ONLINE_KEY, "online")?);
    let RuntimeVersion([major, ..]) = runtime_version();
    let charter = Charter {
        id: Digest([0; 32]),
        name: format!("{pool}, its operator's own"),
        bodies: vec![Body { name: OPERATOR.into(), about: "Whoever runs the pool".into() }],
        stewards: vec![Steward { name: OPERATOR.into(), body: OPERATOR.into(), key: steward.public() }],
        certify: vec![Mandate { region: Region::any(), threshold: 1, stewards: vec![OPERATOR.into()] }],
        revoke: vec![OPERATOR.into()],
        runtime_min: RuntimeVersion([major, 0, 0]),
        certification_valid_max: Millis(400 * DAY),
        revoked: Revocations::new(),
    };
    let expires = clock::now() + OWN_CHARTER_VALID;
    let repository =
        Repository::init(fresh.path(), &Founding { charter, threshold: 1, online: online.public(), expires })?;
    repository.sign(&steward)?;
    repository.refresh(&online, clock::now(), FRESH_FOR)?;
    let made = fresh.keep();
    fs::rename(&made, dir).map_err(io_error("write", dir))
}

/// Takes over a charter that stewards made, or what they changed since.
fn adopt(given: &Path, dir: &Path) -> Result<(), PoolGovernanceError> {
    let theirs = Repository::open(given)?;
    if dir.exists() {
        let known = Repository::open(dir)?.pin();
        if known != theirs.pin() {
            return Err(PoolGovernanceError::OtherCharter { given: given.to_owned(), known });
        }
    }
    copy(given, dir)
}

/// Copies what is not there yet. The files of a charter are never changed under their name, but for a draft, to which
/// signatures come, and for what the pool itself signs.
fn copy(from: &Path, to: &Path) -> Result<(), PoolGovernanceError> {
    fs::create_dir_all(to).map_err(io_error("make", to))?;
    for entry in fs::read_dir(from).map_err(io_error("read", from))? {
        let entry = entry.map_err(io_error("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            if target.exists() {
                fs::remove_dir_all(&target).map_err(io_error("replace", &target))?;
            }
            copy(&source, &target)?;
        } else if !target.exists() {
            let bytes = fs::read(&source).map_err(io_error("read", &source))?;
            write_whole(&target, &bytes).map_err(io_error("write", &target))?;
        }
    }
    Ok(())
}

fn read_key(path: &Path) -> Result<SoftwareKey, PoolGovernanceError> {
    // A pool starts without anybody at hand who could type one.
    SoftwareKey::read(path, |_| Err(KeyFileError::PassphraseMissing))
        .map_err(|source| PoolGovernanceError::Key { path: path.to_owned(), source })
}

/// Writes a file that only its owner can read; whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().expect("it is in a directory");
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()
}

fn io_error(attempt: &'static str, path: &Path) -> impl Fn(io::Error) -> PoolGovernanceError + use<> {
    let path = path.to_owned();
    move |source| PoolGovernanceError::Io { attempt, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caii_model::{Bytes, Limits, MeterId, RuntimeClass, Scope};
    use caii_trust::RevocationStatement;
    use std::time::Instant;
    use tempfile::TempDir;

    struct Pool {
        dir: TempDir,
        governance: Governance,
    }

    impl Pool {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let governance = Governance::open(dir.path(), PoolId([1; 8]), None).await.unwrap();
            Self { dir, governance }
        }

        fn steward(&self) -> &SoftwareKey {
            self.governance.operator.as_ref().unwrap()
        }

        fn certify(&self, manifest: &Manifest) {
            let certificate = self.governance.sign_as_operator(manifest).unwrap().unwrap();
            self.governance.keep(&certificate).unwrap();
        }

        fn signed(&self, payload: Vec<u8>) -> Vec<u8> {
            let mut envelope = Envelope::unsigned(PAYLOAD_TYPE, payload);
            let signature = self.steward().sign(&envelope.signed_bytes()).unwrap();
            envelope.add(self.steward().public().id(), signature);
            envelope.to_json()
        }

        async fn revoke(&self, what: Revoked) {
            let (charter, issued) = (self.governance.pin(), Timestamp(clock::now().0 / 1_000 * 1_000));
            let statement = RevocationStatement { what, charter, issued, why: "a test".into() };
            self.governance.add_revocation(&self.signed(statement.to_json())).await.unwrap();
        }

        /// What was decided is known from now on, and nothing is read.
        fn hide_certificates(&self) {
            fs::rename(self.governance.certificates.clone(), self.dir.path().join("hidden")).unwrap();
        }

        fn show_certificates(&self) {
            fs::rename(self.dir.path().join("hidden"), self.governance.certificates.clone()).unwrap();
        }
    }

    fn manifest(name: &str) -> Manifest {
        Manifest {
            name: name.into(),
            program: Digest([1; 32]),
            program_size: Bytes(10),
            runtime: RuntimeClass::Wasm,
            scope: Scope::Task,
            blobs: vec![],
            args: vec![],
            limits: Limits::default(),
            meter: MeterId(Digest([3; 32])),
        }
    }

    #[tokio::test]
    async fn a_verdict_is_remembered_until_it_expires() {
        let (pool, echo) = (Pool::new().await, manifest("echo"));
        let governance = &pool.governance;
        assert!(governance.known_verdict(&echo).is_none());
        assert_eq!(governance.verdict(&echo).unwrap_err().code(), "signatures-missing");
        assert_eq!(governance.known_verdict(&echo).unwrap().unwrap_err().code(), "signatures-missing");
        // A certificate takes effect at once, on this workload alone.
        governance.verdict(&manifest("other")).unwrap_err();
        pool.certify(&echo);
        assert!(governance.known_verdict(&echo).is_none());
        let certified = governance.verdict(&echo).unwrap();
        pool.hide_certificates();
        assert_eq!(governance.verdict(&echo), Ok(certified.clone()));
        assert_eq!(governance.known_verdict(&echo), Some(Ok(certified.clone())));
        assert!(governance.known_verdict(&manifest("other")).unwrap().is_err());
        // And it ends when it must be decided again.
        let last = Timestamp(certified.until.0 - 1);
        assert_eq!(governance.decide(&echo, last), Ok(certified.clone()));
        pool.show_certificates();
        let stale = first(governance.decide(&echo, certified.until + Millis(1))).unwrap_err();
        assert_eq!(stale.code(), "metadata-stale");
        // Fresh files are other files.
        governance.refresh().await.unwrap();
        assert!(governance.known_verdict(&echo).is_none());
        assert!(governance.verdict(&echo).is_ok());
    }

    #[tokio::test]
    async fn a_revocation_ends_what_is_remembered() {
        let (pool, echo, other) = (Pool::new().await, manifest("echo"), manifest("other"));
        let governance = &pool.governance;
        for workload in [&echo, &other] {
            pool.certify(workload);
            governance.verdict(workload).unwrap();
        }
        pool.revoke(Revoked::Workload(echo.digest())).await;
        assert_eq!(governance.verdict(&echo).unwrap_err().code(), "revoked");
        assert!(governance.verdict(&other).is_ok());
        pool.revoke(Revoked::Key(pool.steward().public().id())).await;
        let refusal = governance.verdict(&other).unwrap_err();
        assert!(is_of_revoked_key(&refusal) && refusal.to_string().contains("the key was revoked by operator"));
    }

    #[tokio::test]
    async fn what_holds_from_tomorrow_on_is_not_remembered() {
        let (pool, echo) = (Pool::new().await, manifest("echo"));
        let governance = &pool.governance;
        pool.certify(&echo);
        let early = Timestamp(clock::now().0 - 2 * DAY);
        assert!(is_early(&first(governance.decide(&echo, early)).unwrap_err()));
        assert!(governance.decide(&echo, clock::now()).is_ok());
    }

    /// What a submission costs where as much was signed as is kept.
    #[tokio::test]
    async fn many_certificates_are_read_once() {
        let (pool, echo) = (Pool::new().await, manifest("echo"));
        let governance = &pool.governance;
        for number in 0..CERTIFICATES_MAX as u64 {
            let certification = Certification {
                workload: echo.digest(),
                name: echo.name.clone(),
                charter: governance.pin(),
                runtime: echo.runtime,
                meter: echo.meter,
                limits: echo.limits,
                uses: [UseCategory::Embedding].into(),
                data_tiers: [DataTier::Public].into(),
                regions: [Region::any()].into(),
                issued: Timestamp(clock::now().0 / 1_000 * 1_000),
                expires: Timestamp(clock::now().0 / 1_000 * 1_000 + (number + 1) * DAY),
                build: None,
            };
            let certificate = governance.check_certificate(&pool.signed(certification.to_json())).unwrap();
            governance.keep(&certificate).unwrap();
        }
        assert_eq!(governance.certificates().unwrap().len(), CERTIFICATES_MAX);
        let one_more = governance.certificates().unwrap().pop().unwrap();
        governance.keep(&one_more).unwrap();
        let one_more = Certificate { envelope: [one_more.envelope, b" ".to_vec()].concat(), ..one_more };
        assert!(matches!(governance.keep(&one_more), Err(EnvelopeRefused::TooMany)));
        let begun = Instant::now();
        governance.verdict(&echo).unwrap();
        let first = begun.elapsed();
        pool.hide_certificates();
        let begun = Instant::now();
        (0..1_000).for_each(|_| drop(governance.known_verdict(&echo).unwrap().unwrap()));
        let known = begun.elapsed() / 1_000;
        println!("{CERTIFICATES_MAX} certificates: {first:?} to decide, {known:?} once it is known");
        assert!(known < first, "{known:?} {first:?}");
    }
}
