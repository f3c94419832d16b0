//! Who can give leases and recognise them again without a record of them.

use crate::{SigningKey, domain};
use caii_model::{Digest, Lease, SignedLease};

/// Seals leases and recognises its own. The coordinator keeps no record of a lease: its seal is all there is.
pub trait LeaseAuthority: Send + Sync {
    /// Seals a lease. The same lease always gets the same seal.
    fn seal(&self, lease: &Lease) -> SignedLease;

    /// Whether this authority sealed exactly this lease.
    fn check(&self, lease: &SignedLease) -> bool;
}

/// Seals by Ed25519: devices and auditors can check a lease with the pool's public key.
#[derive(Debug, Clone)]
pub struct Ed25519Authority(SigningKey);

impl Ed25519Authority {
    /// The authority that holds this key.
    pub fn new(key: SigningKey) -> Self {
        Self(key)
    }

    /// What others verify its leases with ([`verify`](crate::verify), [`domain::LEASE`]).
    pub fn public(&self) -> [u8; 32] {
        self.0.public()
    }
}

impl LeaseAuthority for Ed25519Authority {
    fn seal(&self, lease: &Lease) -> SignedLease {
        SignedLease { lease: *lease, signature: self.0.sign(domain::LEASE, &lease.digest()) }
    }

    /// Seals again and compares, which the deterministic signature allows: a third of the cost of verifying, and each
    /// report and each lease held in each exchange is checked.
    fn check(&self, lease: &SignedLease) -> bool {
        equal(&self.seal(&lease.lease).signature, &lease.signature)
    }
}

/// Seals by a keyed hash, far cheaper than [`Ed25519Authority`]. **For the simulator only**: nobody
/// without the key can check such a lease, so a pool that gave them would ask its devices for blind trust.
#[derive(Debug, Clone)]
pub struct SimAuthority {
    key: [u8; 32],
}

impl SimAuthority {
    /// The authority with this key.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }
}

impl LeaseAuthority for SimAuthority {
    fn seal(&self, lease: &Lease) -> SignedLease {
        let seal = Digest::of_fields("caii simulated lease 1", &[&self.key, &lease.digest().0]);
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&seal.0);
        SignedLease { lease: *lease, signature }
    }

    fn check(&self, lease: &SignedLease) -> bool {
        equal(&self.seal(&lease.lease).signature, &lease.signature)
    }
}

/// Compares without stopping at the first difference: the time of an early stop would tell a forger how many bytes of a
/// guessed seal are right. `black_box` keeps the optimiser from putting the early stop back.
fn equal(expected: &[u8; 64], shown: &[u8; 64]) -> bool {
    let difference =
        expected.iter().zip(shown).fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify;
    use caii_model::{DeviceId, JobId, LeaseId, PoolId, TaskId, TaskIndex, TaskInput, Timestamp};

    fn lease() -> Lease {
        Lease {
            id: LeaseId([1; 8]),
            pool: PoolId([2; 8]),
            task: TaskId { job: JobId(3), index: TaskIndex(4) },
            device: DeviceId([5; 8]),
            workload: Digest([6; 32]),
            input: TaskInput { digest: Digest([7; 32]), offset: 8, len: 9, records: 10 },
            blob: Digest([11; 32]),
            issued: Timestamp(12),
            expires: Timestamp(13),
        }
    }

    fn check_authority(ours: &dyn LeaseAuthority, other: &dyn LeaseAuthority) {
        let sealed = ours.seal(&lease());
        assert!(ours.check(&sealed));
        assert!(!other.check(&sealed), "another authority recognises it");
        let changes: Vec<fn(&mut Lease)> = vec![
            |l| l.id.0[0] ^= 1,
            |l| l.pool.0[0] ^= 1,
            |l| l.task.job.0 += 1,
            |l| l.task.index.0 += 1,
            |l| l.device.0[0] ^= 1,
            |l| l.workload.0[0] ^= 1,
            |l| l.input.digest.0[0] ^= 1,
            |l| l.input.offset += 1,
            |l| l.input.len += 1,
            |l| l.input.records += 1,
            |l| l.blob.0[0] ^= 1,
            |l| l.issued.0 += 1,
            |l| l.expires.0 += 1,
        ];
        for (place, change) in changes.iter().enumerate() {
            let mut forged = sealed;
            change(&mut forged.lease);
            assert!(!ours.check(&forged), "change {place} is not covered by the seal");
        }
        for place in 0..64 {
            let mut forged = sealed;
            forged.signature[place] ^= 0x80;
            assert!(!ours.check(&forged), "byte {place} of the seal is not compared");
        }
    }

    #[test]
    fn authorities_recognise_only_their_own_unchanged_leases() {
        let ed25519 = |seed| Ed25519Authority::new(SigningKey::from_seed([seed; 32]));
        check_authority(&ed25519(1), &ed25519(2));
        check_authority(&SimAuthority::new([1; 32]), &SimAuthority::new([2; 32]));
    }

    #[test]
    fn anybody_can_verify_a_lease_with_the_public_key() {
        let authority = Ed25519Authority::new(SigningKey::from_seed([1; 32]));
        let sealed = authority.seal(&lease());
        assert_eq!(verify(&authority.public(), domain::LEASE, &sealed.lease.digest(), &sealed.signature), Ok(()));
    }
}
