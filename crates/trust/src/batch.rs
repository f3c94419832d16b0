//! Many signatures at once: half the work of one by one, for those who check a whole log.
//!
//! **What a batch proves.** All signatures that hold strictly ([`verify`](crate::verify)) pass. What passes was signed by
//! the holder of its key, but for a chance of 2^-128 that nobody can steer: the random factors are a hash of everything in
//! the batch. Keys and signatures of small order, second encodings of a signature and keys outside of the prime-order
//! group are told apart one by one, as strictly as ever. One thing is not: a holder can sign so that the equation only
//! holds up to a point of order 8 (by an R of mixed order); the batch may let that pass where the strict check refuses. It
//! is still its holder's signature of exactly this digest, so nobody is spoken for who did not speak. Who needs the strict
//! answer (a pool, before it accepts a claim) uses [`verify`](crate::verify).

use crate::signature::{Algorithm, SignatureError, signed_message};
use caii_model::Digest;
use ed25519_dalek::{Signature, VerifyingKey, verify_batch};

/// A public key that was found usable, ready for many signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyKey {
    key: VerifyingKey,
    /// Whether it is in the group of prime order, as every key is that was made as it should be.
    prime_order: bool,
}

impl ReadyKey {
    /// Of these bytes.
    ///
    /// # Errors
    /// If anybody could sign for it, or nobody.
    pub fn new(public: &[u8; 32]) -> Result<Self, SignatureError> {
        let key = VerifyingKey::from_bytes(public).map_err(|_| SignatureError::KeyInvalid)?;
        if key.is_weak() {
            return Err(SignatureError::KeyInvalid);
        }
        Ok(Self { key, prime_order: key.to_edwards().is_torsion_free() })
    }
}

/// A signature that is to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// By whom.
    pub key: ReadyKey,
    /// For what (one of [`domain`](crate::domain)).
    pub domain: &'static str,
    /// Of what.
    pub digest: Digest,
    /// The signature.
    pub signature: [u8; 64],
}

impl Signed {
    /// One by one, strictly.
    ///
    /// # Errors
    /// If it does not hold.
    pub fn verify(&self) -> Result<(), SignatureError> {
        let message = signed_message(Algorithm::Ed25519, self.domain, &self.digest);
        let signature = Signature::from_bytes(&self.signature);
        self.key.key.verify_strict(&message, &signature).map_err(|_| SignatureError::Mismatch)
    }
}

/// Checks all of them; the places of those that do not hold come back.
pub fn verify_all(signed: &[Signed]) -> Vec<usize> {
    let fit = |signed: &Signed| signed.key.prime_order && is_ordinary(&signed.signature);
    if signed.len() > 1 && signed.iter().all(fit) {
        let messages: Vec<Vec<u8>> =
            signed.iter().map(|one| signed_message(Algorithm::Ed25519, one.domain, &one.digest)).collect();
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let signatures: Vec<Signature> = signed.iter().map(|one| Signature::from_bytes(&one.signature)).collect();
        let keys: Vec<VerifyingKey> = signed.iter().map(|one| one.key.key).collect();
        if verify_batch(&messages, &signatures, &keys).is_ok() {
            return vec![];
        }
    }
    signed.iter().enumerate().filter(|(_, one)| one.verify().is_err()).map(|(place, _)| place).collect()
}

/// Of the eight points of small order: their y, little endian. Those of order 1, 2, 4 and (two) 8.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [0; 32],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Whether R is written the one way there is and not of small order: what a strict check looks at besides the equation.
fn is_ordinary(signature: &[u8; 64]) -> bool {
    let mut y: [u8; 32] = *signature.first_chunk().expect("a signature has 64 bytes");
    y[31] &= 0x7f;
    // The prime is 2^255 - 19: what is not below it ends (begins, little endian) in 0xed or more, and is 0xff otherwise.
    let below_prime = y[0] < 0xed || y[31] != 0x7f || y[1..31].iter().any(|byte| *byte != 0xff);
    below_prime && !SMALL_ORDER.contains(&y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

    fn signed(seed: u8, text: &str) -> Signed {
        let (key, digest) = (SigningKey::from_seed([seed; 32]), Digest::of(text.as_bytes()));
        let signature = key.sign("claim", &digest);
        Signed { key: ReadyKey::new(&key.public()).unwrap(), domain: "claim", digest, signature }
    }

    #[test]
    fn the_places_of_what_does_not_hold_come_back() {
        let mut all: Vec<Signed> = (0..40).map(|n| signed(n % 7, &n.to_string())).collect();
        assert_eq!(verify_all(&all), Vec::<usize>::new());
        all[3].digest = Digest::of(b"other");
        all[17].signature[40] ^= 1;
        all[20].domain = "receipt";
        all[39].key = ReadyKey::new(&SigningKey::from_seed([99; 32]).public()).unwrap();
        assert_eq!(verify_all(&all), [3, 17, 20, 39]);
        assert_eq!(verify_all(&[]), Vec::<usize>::new());
        for (place, bit) in (0..64).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
            let mut pair = [signed(1, "a"), signed(2, "b")];
            pair[1].signature[place] ^= 1 << bit;
            assert_eq!(verify_all(&pair), [1], "byte {place}, bit {bit}");
        }
    }

    /// With a key of small order anybody could sign everything; such keys are not ready, and such R are not ordinary.
    #[test]
    fn points_of_small_order_are_told_apart() {
        for y in SMALL_ORDER {
            assert!(VerifyingKey::from_bytes(&y).is_ok_and(|key| key.is_weak()), "{y:?}");
            assert_eq!(ReadyKey::new(&y), Err(SignatureError::KeyInvalid));
            for sign in [0, 0x80] {
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(&y);
                signature[31] |= sign;
                assert!(!is_ordinary(&signature));
            }
        }
        // The prime itself is another way to write 0, the prime and one another for 1.
        for first in [0xed, 0xee, 0xff] {
            let mut signature = [0xff; 64];
            signature[0] = first;
            assert!(!is_ordinary(&signature));
        }
        assert!(is_ordinary(&signed(1, "a").signature));
    }
}
