//! The charter: which bodies hold which keys, and how many of them it takes to certify a workload.
//!
//! It says nothing about how it got here. Who reads one from a stranger verifies first that the threshold of stewards
//! signed it (crate `caii-governance`).

use crate::keys::{KeyId, PublicKey, PublicKeyError};
use crate::revocation::{Revocation, Revocations};
use caii_model::{Digest, Millis, Region, RuntimeVersion};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use thiserror::Error;

/// Bytes of a charter as JSON.
pub const CHARTER_SIZE_MAX: usize = 1 << 20;
/// Stewards, bodies and mandates of a charter, each.
const ENTRIES_MAX: usize = 64;
/// Bytes of a steward's or body's name.
const NAME_MAX: usize = 64;
const DAY: u64 = 86_400_000;

/// Who may certify, and who may stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charter {
    /// What devices pin: the digest of the first root that its stewards signed. It stays when keys and rules change.
    pub id: Digest,
    /// For people.
    pub name: String,
    /// The organisations behind the keys.
    pub bodies: Vec<Body>,
    /// Everybody with a key.
    pub stewards: Vec<Steward>,
    /// Who certifies for which region; a region without a mandate of its own is under that of [`Region::ANY`].
    pub certify: Vec<Mandate>,
    /// The names of those of whom any one can stop a workload or a key.
    pub revoke: Vec<String>,
    /// Runtimes before this one run nothing: how a known hole in the sandbox is shut out of the pool.
    pub runtime_min: RuntimeVersion,
    /// How long a certification may be valid.
    pub certification_valid_max: Millis,
    /// Revocations that the stewards carried over when they changed keys.
    pub revoked: Revocations,
}

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Its short name, which stewards refer to.
    pub name: String,
    /// What it is, for people.
    pub about: String,
}

/// The holder of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steward {
    /// The name that mandates refer to.
    pub name: String,
    /// For which body.
    pub body: String,
    /// The key.
    pub key: PublicKey,
}

/// How many of whom it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mandate {
    /// Where.
    pub region: Region,
    /// How many different keys.
    pub threshold: u32,
    /// Names of stewards.
    pub stewards: Vec<String>,
}

/// Why something is no charter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CharterError {
    /// It is larger than [`CHARTER_SIZE_MAX`].
    #[error("the charter has {0} bytes; at most {CHARTER_SIZE_MAX} are read")]
    TooLarge(usize),
    /// It is not the JSON of a charter of this version.
    #[error("not a charter that this release understands: {0}")]
    Json(String),
    /// A key is unusable.
    #[error("the key of {steward}: {source}")]
    Key {
        /// Whose.
        steward: String,
        /// Why.
        #[source]
        source: PublicKeyError,
    },
    /// A rule is broken.
    #[error("the charter contradicts itself: {0}")]
    Rule(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Json {
    charter: u32,
    name: String,
    bodies: Vec<JsonBody>,
    stewards: Vec<JsonSteward>,
    certify: Vec<JsonMandate>,
    revoke: Vec<String>,
    runtime_min: String,
    certification_days_max: u32,
    revoked: Vec<crate::revocation::Json>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonBody {
    name: String,
    about: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonSteward {
    name: String,
    body: String,
    algorithm: String,
    public: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonMandate {
    region: String,
    threshold: u32,
    stewards: Vec<String>,
}

impl Charter {
    /// Reads the charter of this id. Nothing vouches for it yet.
    ///
    /// # Errors
    /// If it is none, or contradicts itself.
    pub fn from_json(id: Digest, bytes: &[u8]) -> Result<Self, CharterError> {
        if bytes.len() > CHARTER_SIZE_MAX {
            return Err(CharterError::TooLarge(bytes.len()));
        }
        let json: Json = serde_json::from_slice(bytes).map_err(|error| CharterError::Json(error.to_string()))?;
        if json.charter != 1 {
            return Err(CharterError::Json(format!("version {} of the format", json.charter)));
        }
        let word = |error: caii_model::WordUnknown| CharterError::Json(error.to_string());
        let steward = |steward: JsonSteward| match PublicKey::parse(&steward.algorithm, &steward.public) {
            Ok(key) => Ok(Steward { name: steward.name, body: steward.body, key }),
            Err(source) => Err(CharterError::Key { steward: steward.name, source }),
        };
        let mandate = |mandate: JsonMandate| {
            let region = mandate.region.parse().map_err(word)?;
            Ok(Mandate { region, threshold: mandate.threshold, stewards: mandate.stewards })
        };
        let revoked = |json: crate::revocation::Json| Revocation::try_from(json).map_err(CharterError::Json);
        let charter = Self {
            id,
            name: json.name,
            bodies: json.bodies.into_iter().map(|body| Body { name: body.name, about: body.about }).collect(),
            stewards: json.stewards.into_iter().map(steward).collect::<Result<_, _>>()?,
            certify: json.certify.into_iter().map(mandate).collect::<Result<_, _>>()?,
            revoke: json.revoke,
            runtime_min: json.runtime_min.parse().map_err(word)?,
            certification_valid_max: Millis(u64::from(json.certification_days_max) * DAY),
            revoked: json.revoked.into_iter().map(revoked).collect::<Result<_, _>>()?,
        };
        charter.check()?;
        Ok(charter)
    }

    /// The JSON that stewards sign (through TUF); the id is not in it.
    pub fn to_json(&self) -> Vec<u8> {
        let body = |body: &Body| JsonBody { name: body.name.clone(), about: body.about.clone() };
        let steward = |steward: &Steward| JsonSteward {
            name: steward.name.clone(),
            body: steward.body.clone(),
            algorithm: steward.key.algorithm().to_owned(),
            public: steward.key.hex(),
        };
        let mandate = |mandate: &Mandate| JsonMandate {
            region: mandate.region.to_string(),
            threshold: mandate.threshold,
            stewards: mandate.stewards.clone(),
        };
        let json = Json {
            charter: 1,
            name: self.name.clone(),
            bodies: self.bodies.iter().map(body).collect(),
            stewards: self.stewards.iter().map(steward).collect(),
            certify: self.certify.iter().map(mandate).collect(),
            revoke: self.revoke.clone(),
            runtime_min: self.runtime_min.to_string(),
            certification_days_max: u32::try_from(self.certification_valid_max.0 / DAY).unwrap_or(u32::MAX),
            revoked: self.revoked.iter().map(Into::into).collect(),
        };
        serde_json::to_vec_pretty(&json).expect("strings and numbers become JSON")
    }

    /// Checks that the charter means something: every name is one steward's, every key is one steward's, every
    /// threshold can be reached and is not none.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), CharterError> {
        let rule = |holds: bool, sentence: String| if holds { Ok(()) } else { Err(CharterError::Rule(sentence)) };
        rule(!self.name.is_empty() && self.name.chars().count() <= 100, "its name has 1 to 100 characters".into())?;
        for (what, count) in [
            ("bodies", self.bodies.len()),
            ("stewards", self.stewards.len()),
            ("mandates", self.certify.len()),
            ("names under `revoke`", self.revoke.len()),
        ] {
            rule((1..=ENTRIES_MAX).contains(&count), format!("it needs 1 to {ENTRIES_MAX} {what}"))?;
        }
        let bodies: BTreeSet<&str> = self.bodies.iter().map(|body| body.name.as_str()).collect();
        rule(bodies.len() == self.bodies.len(), "two bodies have one name".into())?;
        let names: BTreeSet<&str> = self.stewards.iter().map(|steward| steward.name.as_str()).collect();
        rule(names.len() == self.stewards.len(), "two stewards have one name".into())?;
        for name in names.iter().chain(&bodies) {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            let fine = !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(plain) && !name.starts_with('.');
            rule(fine, format!("`{name}` is no name: 1 to 64 letters, digits, `.`, `_`, `-`, not beginning with `.`"))?;
        }
        // Two names for one key would let one person be counted twice.
        let keys: BTreeSet<&PublicKey> = self.stewards.iter().map(|steward| &steward.key).collect();
        rule(keys.len() == self.stewards.len(), "two stewards have one key".into())?;
        for steward in &self.stewards {
            let Steward { name, body, .. } = steward;
            rule(bodies.contains(body.as_str()), format!("{name} is of the body `{body}`, which it does not list"))?;
        }
        let named = |list: &[String], what: &str| {
            let distinct: BTreeSet<&str> = list.iter().map(String::as_str).collect();
            rule(distinct.len() == list.len(), format!("a steward is named twice under {what}"))?;
            let stranger = distinct.iter().find(|name| !names.contains(*name));
            rule(stranger.is_none(), format!("`{}`, named under {what}, is no steward", stranger.unwrap_or(&"")))
        };
        let regions: BTreeSet<&Region> = self.certify.iter().map(|mandate| &mandate.region).collect();
        rule(regions.len() == self.certify.len(), "two mandates are for one region".into())?;
        for mandate in &self.certify {
            let (region, k, n) = (&mandate.region, mandate.threshold as usize, mandate.stewards.len());
            named(&mandate.stewards, &format!("the mandate for {region}"))?;
            rule((1..=n).contains(&k), format!("the mandate for {region} wants {k} of {n} keys"))?;
        }
        named(&self.revoke, "`revoke`")?;
        rule(self.certification_valid_max >= Millis(DAY), "certifications must be valid for a day at least".into())
    }

    /// The mandate for a region: its own, or that of [`Region::ANY`].
    pub fn mandate(&self, region: &Region) -> Option<&Mandate> {
        let of = |name: &str| self.certify.iter().find(|mandate| mandate.region.as_str() == name);
        of(region.as_str()).or_else(|| of(Region::ANY))
    }

    /// The steward with this key.
    pub fn steward(&self, key: KeyId) -> Option<&Steward> {
        self.stewards.iter().find(|steward| steward.key.id() == key)
    }

    /// The steward of this name.
    pub fn steward_named(&self, name: &str) -> Option<&Steward> {
        self.stewards.iter().find(|steward| steward.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{charter, key};

    #[test]
    fn charters_are_read_as_they_are_written() {
        let charter = charter();
        assert_eq!(Charter::from_json(charter.id, &charter.to_json()), Ok(charter));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        type Change = fn(&mut Charter);
        let cases: Vec<(Change, &str)> = vec![
            (|c| c.name.clear(), "its name has 1 to 100 characters"),
            (|c| c.bodies.clear(), "it needs 1 to 64 bodies"),
            (|c| c.certify.clear(), "it needs 1 to 64 mandates"),
            (|c| c.revoke.clear(), "it needs 1 to 64 names under `revoke`"),
            (|c| c.stewards[1].name = "alice".into(), "two stewards have one name"),
            (|c| c.stewards[1].name = "b/b".into(), "`b/b` is no name"),
            (|c| c.stewards[1].name = "..".into(), "`..` is no name"),
            (|c| c.stewards[1].key = c.stewards[0].key.clone(), "two stewards have one key"),
            (|c| c.stewards[0].body = "none".into(), "alice is of the body `none`, which it does not list"),
            (|c| c.bodies.push(c.bodies[0].clone()), "two bodies have one name"),
            (|c| c.certify.push(c.certify[0].clone()), "two mandates are for one region"),
            (|c| c.certify[0].threshold = 0, "the mandate for any wants 0 of 3 keys"),
            (|c| c.certify[0].threshold = 4, "the mandate for any wants 4 of 3 keys"),
            (|c| c.certify[0].stewards[1] = "alice".into(), "a steward is named twice under the mandate for any"),
            (
                |c| c.certify[0].stewards[1] = "mallory".into(),
                "`mallory`, named under the mandate for any, is no steward",
            ),
            (|c| c.revoke.push("mallory".into()), "`mallory`, named under `revoke`, is no steward"),
            (|c| c.certification_valid_max = Millis(1), "valid for a day at least"),
        ];
        for (change, sentence) in cases {
            let mut charter = charter();
            change(&mut charter);
            let error = charter.check().unwrap_err().to_string();
            assert!(error.contains(sentence), "{error}");
            assert!(Charter::from_json(charter.id, &charter.to_json()).is_err(), "{sentence}");
        }
    }

    #[test]
    fn unknown_parts_are_refused() {
        let good = String::from_utf8(charter().to_json()).unwrap();
        for (from, to) in [
            ("\"charter\": 1", "\"charter\": 2"),
            ("\"charter\": 1", "\"charter\": 1, \"more\": 1"),
            ("\"ed25519\"", "\"rsa\""),
            ("\"any\"", "\"ANY\""),
            ("\"48.0.0\"", "\"48\""),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert!(Charter::from_json(charter().id, bad.as_bytes()).is_err(), "{to}");
        }
        let error = Charter::from_json(charter().id, &vec![b' '; CHARTER_SIZE_MAX + 1]).unwrap_err();
        assert_eq!(error, CharterError::TooLarge(CHARTER_SIZE_MAX + 1));
    }

    #[test]
    fn regions_without_a_mandate_are_under_the_general_one() {
        let mut charter = charter();
        let eu = Mandate { region: "eu".parse().unwrap(), threshold: 3, stewards: charter.revoke.clone() };
        charter.certify.push(eu);
        let threshold = |charter: &Charter, region: &str| {
            charter.mandate(&region.parse().unwrap()).map(|mandate| mandate.threshold)
        };
        assert_eq!(threshold(&charter, "eu"), Some(3));
        assert_eq!(threshold(&charter, "us"), Some(2));
        charter.certify.remove(0);
        assert_eq!(threshold(&charter, "us"), None);
        assert_eq!(threshold(&charter, "any"), None);
        assert_eq!(charter.steward(PublicKey::Ed25519(key(2).public()).id()).unwrap().name, "bob");
    }
}
