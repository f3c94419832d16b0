//! The metadata of TUF's roles as CAII fills them in, and reading back what is needed of them.
//!
//! Root and targets are signed by the stewards. The pool's online key signs snapshot, timestamp and the delegated role
//! that lists revocations; it can hold things back until the timestamp expires, and it can make nothing up.

use crate::canonical::{hex, unsigned};
use crate::error::GovernanceError;
use crate::{CHARTER, REVOCATION_PATHS, REVOCATIONS};
use caii_model::{Digest, Timestamp};
use caii_trust::{PublicKey, format_time, parse_time};
use serde_json::{Map, Value, json};

const SPEC: &str = "1.0.0";

fn key(key: &PublicKey) -> Value {
    json!({ "keytype": key.algorithm(), "scheme": key.algorithm(), "keyval": { "public": key.hex() } })
}

fn keys<'a>(all: impl IntoIterator<Item = &'a PublicKey>) -> Value {
    all.into_iter().map(|public| (public.id().to_string(), key(public))).collect::<Map<_, _>>().into()
}

/// A root: who signs what. Stewards of an algorithm that TUF's library does not know sign no metadata yet.
pub(crate) fn root(
    version: u64,
    expires: Timestamp,
    stewards: &[PublicKey],
    threshold: u32,
    online: &PublicKey,
) -> Value {
    let of_stewards: Vec<String> = stewards.iter().map(|key| key.id().to_string()).collect();
    let of_stewards = json!({ "keyids": of_stewards, "threshold": threshold });
    let of_pool = json!({ "keyids": [online.id().to_string()], "threshold": 1 });
    unsigned(json!({
        "_type": "root",
        "spec_version": SPEC,
        "consistent_snapshot": true,
        "version": version,
        "expires": format_time(expires),
        "keys": keys(stewards.iter().chain([online])),
        "roles": { "root": of_stewards, "targets": of_stewards, "snapshot": of_pool, "timestamp": of_pool },
    }))
}

/// The targets: the charter, and that the online key lists revocations.
pub(crate) fn targets(version: u64, expires: Timestamp, charter: &[u8], online: &PublicKey) -> Value {
    unsigned(json!({
        "_type": "targets",
        "spec_version": SPEC,
        "version": version,
        "expires": format_time(expires),
        "targets": { CHARTER: target(charter) },
        "delegations": {
            "keys": keys([online]),
            "roles": [{
                "name": REVOCATIONS,
                "keyids": [online.id().to_string()],
                "threshold": 1,
                "paths": [REVOCATION_PATHS],
                "terminating": true,
            }],
        },
    }))
}

/// The list of revocations, by their files' names.
pub(crate) fn revocations(version: u64, expires: Timestamp, envelopes: &[(String, String)]) -> Value {
    let targets: Map<String, Value> =
        envelopes.iter().map(|(name, text)| (name.clone(), target(text.as_bytes()))).collect();
    unsigned(json!({
        "_type": "targets",
        "spec_version": SPEC,
        "version": version,
        "expires": format_time(expires),
        "targets": targets,
    }))
}

/// The snapshot: which versions belong together, each with its bytes' digest.
pub(crate) fn snapshot(version: u64, expires: Timestamp, parts: &[(&str, u64, &str)]) -> Value {
    let meta: Map<String, Value> =
        parts.iter().map(|(name, version, text)| ((*name).to_owned(), meta(*version, text))).collect();
    unsigned(json!({
        "_type": "snapshot",
        "spec_version": SPEC,
        "version": version,
        "expires": format_time(expires),
        "meta": meta,
    }))
}

/// The timestamp: that this snapshot is the newest.
pub(crate) fn timestamp(version: u64, expires: Timestamp, snapshot_version: u64, snapshot: &str) -> Value {
    unsigned(json!({
        "_type": "timestamp",
        "spec_version": SPEC,
        "version": version,
        "expires": format_time(expires),
        "meta": { "snapshot.json": meta(snapshot_version, snapshot) },
    }))
}

fn target(bytes: &[u8]) -> Value {
    json!({ "length": bytes.len(), "hashes": { "sha256": hex(&Digest::of(bytes).0) } })
}

fn meta(version: u64, text: &str) -> Value {
    json!({ "version": version, "length": text.len(), "hashes": { "sha256": hex(&Digest::of(text.as_bytes()).0) } })
}

/// The name of a target's file: with its digest, so that no two versions share one.
pub(crate) fn target_file(name: &str, bytes: &[u8]) -> String {
    format!("{}.{name}", hex(&Digest::of(bytes).0))
}

/// A metadata file, read without believing anything in it.
pub(crate) fn parse(name: &str, text: &str) -> Result<Value, GovernanceError> {
    let file: Value = serde_json::from_str(text).map_err(|error| GovernanceError::strange(name, error))?;
    if file["signed"]["version"].as_u64().is_none() || !file["signatures"].is_array() {
        return Err(GovernanceError::strange(name, "it is no signed metadata"));
    }
    Ok(file)
}

pub(crate) fn version(file: &Value) -> u64 {
    file["signed"]["version"].as_u64().unwrap_or(0)
}

pub(crate) fn expires(name: &str, file: &Value) -> Result<Timestamp, GovernanceError> {
    let time = file["signed"]["expires"].as_str().and_then(parse_time);
    time.ok_or_else(|| GovernanceError::strange(name, "it does not say when it expires"))
}

/// The keys and the threshold of a role of a root.
pub(crate) fn role(name: &str, root: &Value, role: &str) -> Result<(Vec<PublicKey>, u32), GovernanceError> {
    let strange = || GovernanceError::strange(name, format!("its role `{role}` is not as it should be"));
    let described = &root["signed"]["roles"][role];
    let key = |id: &Value| {
        let key = &root["signed"]["keys"][id.as_str()?];
        PublicKey::parse(key["keytype"].as_str()?, key["keyval"]["public"].as_str()?).ok()
    };
    let ids = described["keyids"].as_array().ok_or_else(strange)?;
    let keys: Option<Vec<PublicKey>> = ids.iter().map(key).collect();
    let threshold = described["threshold"].as_u64().and_then(|threshold| u32::try_from(threshold).ok());
    keys.zip(threshold).filter(|(_, threshold)| *threshold > 0).ok_or_else(strange)
}
