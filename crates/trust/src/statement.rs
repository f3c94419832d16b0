//! What a steward says by signing: in-toto statements (<https://in-toto.io/Statement/v1>) that certify or revoke.
//!
//! The subject's digest is [`Manifest::digest`](caii_model::Manifest::digest), which covers the program, its files, its
//! arguments, limits and meter; the predicate repeats what people decide by, and the gate compares it.

use crate::keys::KeyId;
use crate::revocation::Revoked;
use crate::time::{format_time, parse_time};
use caii_model::{
    Bytes, DataTier, Digest, Fuel, Limits, MeterId, Millis, Region, RuntimeClass, Timestamp, UseCategory, WordUnknown,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// The payload type of every statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The predicate of a certification.
pub const CERTIFICATION: &str = "https://caii.dev/certification/v1";
/// The predicate of a revocation.
pub const REVOCATION: &str = "https://caii.dev/revocation/v1";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// Characters of a reason and of a build command.
const TEXT_MAX: usize = 2_000;

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// That a workload may run.
    Certification(Box<Certification>),
    /// That something may not any more.
    Revocation(RevocationStatement),
}

/// That a workload may run, for what, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certification {
    /// The workload's digest.
    pub workload: Digest,
    /// Its name, for people.
    pub name: String,
    /// By which charter.
    pub charter: Digest,
    /// How it is run.
    pub runtime: RuntimeClass,
    /// How it is metered.
    pub meter: MeterId,
    /// What devices enforce.
    pub limits: Limits,
    /// What it may be used for.
    pub uses: BTreeSet<UseCategory>,
    /// On which data.
    pub data_tiers: BTreeSet<DataTier>,
    /// Where; [`Region::ANY`] is everywhere.
    pub regions: BTreeSet<Region>,
    /// From when.
    pub issued: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// How anybody can make the same program again; nothing if the steward cannot say.
    pub build: Option<Build>,
}

/// How to make a program again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// SHA-256 of the source archive.
    pub source: Digest,
    /// The command that makes the program out of it.
    pub command: String,
}

/// That something may not run any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationStatement {
    /// What.
    pub what: Revoked,
    /// By which charter.
    pub charter: Digest,
    /// When.
    pub issued: Timestamp,
    /// Why; 1 to 2,000 characters.
    pub why: String,
}

/// Why a payload says nothing that this release understands.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StatementError {
    /// It is not the JSON of a statement.
    #[error("not a statement that this release understands: {0}")]
    Json(String),
    /// It is of another kind.
    #[error("the statement's type or predicate is `{0}`, which this release does not know")]
    Kind(String),
    /// A word is unknown.
    #[error(transparent)]
    Word(#[from] WordUnknown),
    /// A field is out of its range.
    #[error("the statement's `{field}` is wrong: {reason}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is expected.
        reason: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Json<P> {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<JsonSubject>,
    predicate_type: String,
    predicate: P,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonSubject {
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JsonCertification {
    charter: String,
    runtime_class: String,
    meter: String,
    limits: JsonLimits,
    uses: Vec<String>,
    data_tiers: Vec<String>,
    regions: Vec<String>,
    issued: String,
    expires: String,
    build: Option<JsonBuild>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JsonLimits {
    fuel_per_item: u64,
    fuel_init: u64,
    memory: u64,
    output_per_item: u64,
    stderr_per_item: u64,
    wall_per_item_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonBuild {
    source: String,
    command: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRevocation {
    charter: String,
    what: String,
    issued: String,
    why: String,
}

impl Statement {
    /// Reads a payload. Everything in it must be understood: an unknown word could be a condition.
    ///
    /// # Errors
    /// If anything is not.
    pub fn from_json(bytes: &[u8]) -> Result<Self, StatementError> {
        let json: Json<serde_json::Value> =
            serde_json::from_slice(bytes).map_err(|error| StatementError::Json(error.to_string()))?;
        if json.kind != STATEMENT {
            return Err(StatementError::Kind(json.kind.chars().take(200).collect()));
        }
        match json.predicate_type.as_str() {
            CERTIFICATION => Ok(Self::Certification(Box::new(Certification::read(read(bytes)?)?))),
            REVOCATION => Ok(Self::Revocation(RevocationStatement::read(read(bytes)?)?)),
            other => Err(StatementError::Kind(other.chars().take(200).collect())),
        }
    }
}

/// From the bytes again: a JSON value in between would hide a field that is there twice.
fn read<P: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<Json<P>, StatementError> {
    serde_json::from_slice(bytes).map_err(|error| StatementError::Json(error.to_string()))
}

impl Certification {
    /// The payload that the steward signs.
    pub fn to_json(&self) -> Vec<u8> {
        let words = |words: Vec<String>| words;
        let limits = &self.limits;
        write(
            CERTIFICATION,
            &self.name,
            self.workload,
            JsonCertification {
                charter: self.charter.to_string(),
                runtime_class: self.runtime.as_str().to_owned(),
                meter: self.meter.0.to_string(),
                limits: JsonLimits {
                    fuel_per_item: limits.fuel_per_item.0,
                    fuel_init: limits.fuel_init.0,
                    memory: limits.memory.0,
                    output_per_item: limits.output_per_item.0,
                    stderr_per_item: limits.stderr_per_item.0,
                    wall_per_item_ms: limits.wall_per_item.0,
                },
                uses: words(self.uses.iter().map(ToString::to_string).collect()),
                data_tiers: words(self.data_tiers.iter().map(ToString::to_string).collect()),
                regions: words(self.regions.iter().map(ToString::to_string).collect()),
                issued: format_time(self.issued),
                expires: format_time(self.expires),
                build: self
                    .build
                    .as_ref()
                    .map(|build| JsonBuild { source: build.source.to_string(), command: build.command.clone() }),
            },
        )
    }

    fn read(json: Json<JsonCertification>) -> Result<Self, StatementError> {
        let (name, workload) = subject(json.subject)?;
        let predicate = json.predicate;
        let runtime = RuntimeClass::Wasm;
        if predicate.runtime_class != runtime.as_str() {
            let (found, known) = (predicate.runtime_class, runtime.as_str().to_owned());
            return Err(WordUnknown { what: "runtime class", found, known }.into());
        }
        let limits = predicate.limits;
        let (issued, expires) = (time("issued", &predicate.issued)?, time("expires", &predicate.expires)?);
        if expires <= issued {
            return Err(StatementError::Field { field: "expires", reason: "it must be later than `issued`" });
        }
        let build = |build: JsonBuild| {
            let command = text("build.command", build.command)?;
            Ok::<_, StatementError>(Build { source: digest("build.source", &build.source)?, command })
        };
        Ok(Self {
            workload,
            name,
            charter: digest("charter", &predicate.charter)?,
            runtime,
            meter: MeterId(digest("meter", &predicate.meter)?),
            limits: Limits {
                fuel_per_item: Fuel(limits.fuel_per_item),
                fuel_init: Fuel(limits.fuel_init),
                memory: Bytes(limits.memory),
                output_per_item: Bytes(limits.output_per_item),
                stderr_per_item: Bytes(limits.stderr_per_item),
                wall_per_item: Millis(limits.wall_per_item_ms),
            },
            uses: set("uses", &predicate.uses)?,
            data_tiers: set("dataTiers", &predicate.data_tiers)?,
            regions: set("regions", &predicate.regions)?,
            issued,
            expires,
            build: predicate.build.map(build).transpose()?,
        })
    }
}

impl RevocationStatement {
    /// The payload that the steward signs.
    pub fn to_json(&self) -> Vec<u8> {
        let (what, digest) = match self.what {
            Revoked::Workload(digest) => ("workload", digest),
            Revoked::Key(key) => ("key", key.0),
        };
        write(
            REVOCATION,
            what,
            digest,
            JsonRevocation {
                charter: self.charter.to_string(),
                what: what.to_owned(),
                issued: format_time(self.issued),
                why: self.why.clone(),
            },
        )
    }

    fn read(json: Json<JsonRevocation>) -> Result<Self, StatementError> {
        let (_, digest_of) = subject(json.subject)?;
        let predicate = json.predicate;
        Ok(Self {
            what: match predicate.what.as_str() {
                "workload" => Revoked::Workload(digest_of),
                "key" => Revoked::Key(KeyId(digest_of)),
                _ => return Err(StatementError::Field { field: "what", reason: "expected `workload` or `key`" }),
            },
            charter: digest("charter", &predicate.charter)?,
            issued: time("issued", &predicate.issued)?,
            why: text("why", predicate.why)?,
        })
    }
}

fn write<P: Serialize>(predicate_type: &str, name: &str, digest: Digest, predicate: P) -> Vec<u8> {
    let digest = BTreeMap::from([("sha256".to_owned(), digest.hex())]);
    let json = Json {
        kind: STATEMENT.to_owned(),
        subject: vec![JsonSubject { name: name.to_owned(), digest }],
        predicate_type: predicate_type.to_owned(),
        predicate,
    };
    serde_json::to_vec(&json).expect("strings and numbers become JSON")
}

/// Exactly one subject with exactly one digest: a statement about two things could be read as one about either.
fn subject(subjects: Vec<JsonSubject>) -> Result<(String, Digest), StatementError> {
    let wrong = StatementError::Field { field: "subject", reason: "one subject with one SHA-256 digest is expected" };
    let [subject] = <[JsonSubject; 1]>::try_from(subjects).map_err(|_| wrong.clone())?;
    let hex = subject.digest.get("sha256").filter(|_| subject.digest.len() == 1).ok_or(wrong)?;
    Ok((subject.name, digest("subject", hex)?))
}

/// Lower case, with or without the algorithm's name: what the other fields' writers use.
fn digest(field: &'static str, text: &str) -> Result<Digest, StatementError> {
    let key: Result<KeyId, _> = text.strip_prefix("sha256:").unwrap_or(text).parse();
    key.map(|key| key.0).map_err(|_| StatementError::Field { field, reason: "a SHA-256 digest is expected" })
}

fn time(field: &'static str, text: &str) -> Result<Timestamp, StatementError> {
    parse_time(text).ok_or(StatementError::Field { field, reason: "a time as `2026-11-24T21:07:26Z` is expected" })
}

fn text(field: &'static str, text: String) -> Result<String, StatementError> {
    if text.trim().is_empty() || text.chars().count() > TEXT_MAX {
        return Err(StatementError::Field { field, reason: "1 to 2,000 characters are expected" });
    }
    Ok(text)
}

fn set<T: std::str::FromStr<Err = WordUnknown> + Ord>(
    field: &'static str,
    words: &[String],
) -> Result<BTreeSet<T>, StatementError> {
    let set: BTreeSet<T> = words.iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
    if set.is_empty() || set.len() != words.len() {
        return Err(StatementError::Field { field, reason: "at least one word, each once, is expected" });
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{certification, charter};

    /// What is signed never changes unseen: signatures outlive releases.
    #[test]
    fn the_signed_bytes_are_these() {
        let mut certification = certification(&charter());
        certification.build = Some(Build { source: Digest([8; 32]), command: "make".into() });
        let text = String::from_utf8(certification.to_json()).unwrap();
        let workload = certification.workload.hex();
        let [charter, meter, source] =
            [0xc4, 3, 8].map(|byte: u8| format!("sha256:{}", format!("{byte:02x}").repeat(32)));
        let expected = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"echo","digest":{{"sha256":"{workload}"}}}}],"predicateType":"https://caii.dev/certification/v1","predicate":{{"charter":"{charter}","runtimeClass":"wasm","meter":"{meter}","limits":{{"fuelPerItem":200000000000,"fuelInit":200000000000,"memory":536870912,"outputPerItem":4194304,"stderrPerItem":4096,"wallPerItemMs":120000}},"uses":["embedding"],"dataTiers":["t0","t1"],"regions":["any"],"issued":"2026-01-01T00:00:00Z","expires":"2026-07-01T00:00:00Z","build":{{"source":"{source}","command":"make"}}}}}}"#
        );
        assert_eq!(text, expected);
        assert_eq!(Statement::from_json(text.as_bytes()), Ok(Statement::Certification(Box::new(certification))));
    }

    #[test]
    fn revocations_are_read_as_they_are_written() {
        for what in [Revoked::Workload(Digest([1; 32])), Revoked::Key(KeyId(Digest([2; 32])))] {
            let statement = RevocationStatement {
                what,
                charter: Digest([3; 32]),
                issued: Timestamp(5_000),
                why: "it leaks".into(),
            };
            assert_eq!(Statement::from_json(&statement.to_json()), Ok(Statement::Revocation(statement)));
        }
    }

    #[test]
    fn what_is_not_understood_whole_says_nothing() {
        let good = String::from_utf8(certification(&charter()).to_json()).unwrap();
        for (from, to) in [
            ("Statement/v1", "Statement/v0.1"),
            ("certification/v1", "certification/v2"),
            ("certification/v1", "revocation/v1"),
            ("\"subject\":[", "\"subject\":[],\"x\":["),
            ("\"charter\"", "\"unless\":\"raining\",\"charter\""),
            ("\"charter\"", "\"build\":null,\"charter\""),
            ("\"wasm\"", "\"native\""),
            ("\"embedding\"", "\"mining\""),
            ("[\"embedding\"]", "[]"),
            ("[\"embedding\"]", "[\"embedding\",\"embedding\"]"),
            ("\"t1\"", "\"t4\""),
            ("[\"any\"]", "[]"),
            ("2026-07-01", "2025-07-01"),
            ("2026-07-01T", "2026-07-01 "),
            ("\"memory\":536870912", "\"memory\":-1"),
            ("\"memory\":536870912,", ""),
            ("\"sha256\":\"", "\"sha512\":\"aa\",\"sha256\":\""),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            assert!(Statement::from_json(bad.as_bytes()).is_err(), "{to}");
        }
        let subject = &good[good.find("{\"name\"").unwrap()..good.find("],\"predicateType\"").unwrap()];
        let two = good.replacen(subject, &format!("{subject},{subject}"), 1);
        assert!(Statement::from_json(two.as_bytes()).is_err());
        assert!(Statement::from_json(format!("{good} {good}").as_bytes()).is_err());
    }
}
