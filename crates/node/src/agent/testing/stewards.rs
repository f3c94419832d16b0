//! Three stewards with a charter, for tests of what devices take from a pool.

use caii_governance::{Founding, Repository, Signer as _, SoftwareKey};
use caii_model::{DataTier, Digest, Manifest, Millis, Region, RuntimeVersion, Timestamp, UseCategory};
use caii_trust::{
    Body, Certification, Charter, Envelope, Mandate, PAYLOAD_TYPE, RevocationStatement, Revocations, Revoked, Steward,
};
use std::time::SystemTime;
use tempfile::TempDir;

const YEAR: Millis = Millis(365 * 24 * 3_600_000);

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64)
}

/// alice, bob and carol.
pub(crate) struct Stewards {
    _dir: TempDir,
    pub(crate) repository: Repository,
    keys: [SoftwareKey; 3],
    pub(crate) online: SoftwareKey,
    manifest: Manifest,
}

impl Stewards {
    /// Two of them certify this.
    pub(crate) fn new(manifest: Manifest) -> Self {
        Self::ruling(manifest, &[("any", 2)])
    }

    /// So many of them certify for these regions.
    pub(crate) fn ruling(manifest: Manifest, mandates: &[(&str, u32)]) -> Self {
        let keys = ["alice", "bob", "carol"].map(|name| SoftwareKey::generate(name).unwrap());
        let online = SoftwareKey::generate("online").unwrap();
        let names: Vec<String> = keys.iter().map(|key| key.name.clone()).collect();
        let steward = |key: &SoftwareKey| Steward { name: key.name.clone(), body: "lab".into(), key: key.public() };
        let mandate = |(region, threshold): &(&str, u32)| Mandate {
            region: region.parse().unwrap(),
            threshold: *threshold,
            stewards: names.clone(),
        };
        let charter = Charter {
            id: Digest([0; 32]),
            name: "a test".into(),
            bodies: vec![Body { name: "lab".into(), about: String::new() }],
            stewards: keys.iter().map(steward).collect(),
            certify: mandates.iter().map(mandate).collect(),
            revoke: names,
            runtime_min: RuntimeVersion([1, 0, 0]),
            certification_valid_max: YEAR,
            revoked: Revocations::new(),
        };
        let dir = tempfile::tempdir().unwrap();
        let expires = now() + YEAR;
        let founding = Founding { charter, threshold: 2, online: online.public(), expires };
        let repository = Repository::init(dir.path(), &founding).unwrap();
        repository.sign(&keys[0]).unwrap();
        repository.sign(&keys[1]).unwrap();
        let stewards = Self { _dir: dir, repository, keys, online, manifest };
        stewards.refresh();
        stewards
    }

    pub(crate) fn refresh(&self) {
        self.repository.refresh(&self.online, now(), Millis(3_600_000)).unwrap();
    }

    pub(crate) fn files(&self) -> Vec<u8> {
        self.repository.files().unwrap().to_json()
    }

    fn signed(&self, payload: Vec<u8>, by: usize) -> Envelope {
        let mut envelope = Envelope::unsigned(PAYLOAD_TYPE, payload);
        let signature = self.keys[by].sign(&envelope.signed_bytes()).unwrap();
        envelope.add(self.keys[by].public().id(), signature);
        envelope
    }

    pub(crate) fn certified(&self, by: usize) -> Envelope {
        let (manifest, now) = (&self.manifest, now());
        let certification = Certification {
            workload: manifest.digest(),
            name: manifest.name.clone(),
            charter: self.repository.pin(),
            runtime: manifest.runtime,
            meter: manifest.meter,
            limits: manifest.limits,
            uses: [UseCategory::Embedding].into(),
            data_tiers: [DataTier::Public].into(),
            regions: [Region::any()].into(),
            issued: now,
            expires: now + Millis(3_600_000),
            build: None,
        };
        self.signed(certification.to_json(), by)
    }

    pub(crate) fn revoke(&self, by: usize) {
        let why = "it leaks".into();
        let what = Revoked::Workload(self.manifest.digest());
        let statement = RevocationStatement { what, charter: self.repository.pin(), issued: now(), why };
        self.repository.add_revocation(&self.signed(statement.to_json(), by)).unwrap();
        self.refresh();
    }
}
