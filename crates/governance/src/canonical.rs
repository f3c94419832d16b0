//! Canonical JSON (OLPC), which is what TUF signs, and signatures over it.

use crate::key_file::{Signer, SignerError};
use caii_model::Digest;
use caii_trust::{KeyId, PublicKey};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The bytes that are signed.
pub(crate) fn canonical(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let formatter = olpc_cjson::CanonicalFormatter::new();
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
        .expect("what we build has no floats and no broken text");
    bytes
}

/// A metadata file: something, and signatures over it.
pub(crate) fn unsigned(signed: Value) -> Value {
    json!({ "signed": signed, "signatures": [] })
}

/// Adds a signature, in place of an earlier one by the same key.
pub(crate) fn sign(file: &mut Value, signer: &dyn Signer) -> Result<(), SignerError> {
    let signature = signer.sign(&canonical(&file["signed"]))?;
    let (key, hex) = (signer.public().id().to_string(), hex(&signature));
    add(file, json!({ "keyid": key, "sig": hex }));
    Ok(())
}

fn add(file: &mut Value, signature: Value) {
    if let Some(signatures) = file["signatures"].as_array_mut() {
        signatures.retain(|other| other["keyid"] != signature["keyid"]);
        signatures.push(signature);
    }
}

/// Takes over the signatures of a copy of the same content that hold for one of these keys; how many.
pub(crate) fn merge(file: &mut Value, copy: &Value, keys: &[PublicKey]) -> usize {
    let known = signers(file, keys);
    let mut merged = 0;
    if file["signed"] == copy["signed"] {
        for signature in copy["signatures"].as_array().into_iter().flatten() {
            if signer(&canonical(&file["signed"]), signature, keys).is_some_and(|key| !known.contains(&key)) {
                add(file, signature.clone());
                merged += 1;
            }
        }
    }
    merged
}

/// Which of these keys signed the file.
pub(crate) fn signers(file: &Value, keys: &[PublicKey]) -> BTreeSet<KeyId> {
    let message = canonical(&file["signed"]);
    let signatures = file["signatures"].as_array().into_iter().flatten();
    signatures.filter_map(|signature| signer(&message, signature, keys)).collect()
}

fn signer(message: &[u8], signature: &Value, keys: &[PublicKey]) -> Option<KeyId> {
    let id: KeyId = signature["keyid"].as_str()?.parse().ok()?;
    let key = keys.iter().find(|key| key.id() == id)?;
    let bytes = unhex(signature["sig"].as_str()?)?;
    key.verify(message, &bytes).ok().map(|()| id)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| (*byte as char).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some((digit(pair.first()?)? * 16 + digit(pair.get(1)?)?) as u8)).collect()
}

/// The digest of what a file's signatures are over: it does not change when signatures are added.
pub(crate) fn digest(file: &Value) -> Digest {
    Digest::of(&canonical(&file["signed"]))
}
