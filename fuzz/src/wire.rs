//! What travels between device and pool, and what stores keep of it.

use crate::memory::at_most;
use caii_model::{DeviceId, Digest, Refusal};
use caii_wire::{DecodeError, JoinTicket, TicketError, rows};
use std::fmt::Debug;

/// Bytes of heap for an input of this length: an empty message of two bytes in a list takes some hundred bytes as a
/// struct, twice as much while the list grows, and the model's value stands beside it.
fn heap(bytes: &[u8]) -> usize {
    (64 << 10) + 1_024 * bytes.len()
}

/// What can be decoded survives being encoded, and encoding is canonical.
fn codec<T: PartialEq + Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    let Ok(value) = at_most(heap(bytes), || decode(bytes)) else { return };
    let encoded = encode(&value);
    let again = decode(&encoded).expect("what was encoded can be decoded");
    assert_eq!(again, value);
    assert_eq!(encode(&again), encoded);
}

/// The signed frame of a device's request.
pub fn envelope(bytes: &[u8]) {
    codec(bytes, caii_wire::decode_envelope, caii_wire::encode_envelope);
}

/// A device's request.
pub fn exchange_request(bytes: &[u8]) {
    let decode = |bytes: &[u8]| caii_wire::decode_exchange_request(DeviceId([7; 8]), bytes);
    codec(bytes, decode, |(request, attachments)| caii_wire::encode_exchange_request(request, attachments));
}

/// A pool's reply, or its refusal.
pub fn exchange_reply(bytes: &[u8]) {
    codec(bytes, caii_wire::decode_exchange_reply, |reply| match reply {
        Ok((reply, attachments)) => caii_wire::encode_exchange_reply(reply, attachments),
        Err(refusal) => refused(refusal),
    });
}

/// A device asks to join; the pool's answer.
pub fn enrol(bytes: &[u8]) {
    codec(bytes, caii_wire::decode_enrol_request, caii_wire::encode_enrol_request);
    codec(bytes, caii_wire::decode_enrol_reply, |reply| match reply {
        Ok(reply) => caii_wire::encode_enrol_reply(reply),
        Err(refusal) => refused(refusal),
    });
}

/// A refusal that travels alone.
pub fn refusal(bytes: &[u8]) {
    codec(bytes, caii_wire::decode_refusal, refused);
}

fn refused(refusal: &Refusal) -> Vec<u8> {
    caii_wire::encode_refusal(refusal)
}

/// A workload's description. The names of its files must be safe to create in an empty directory.
pub fn manifest(bytes: &[u8]) {
    codec(bytes, caii_wire::decode_manifest, caii_wire::encode_manifest);
    if let Ok(manifest) = caii_wire::decode_manifest(bytes) {
        for blob in &manifest.blobs {
            let mut parts = std::path::Path::new(&blob.name).components();
            assert!(matches!(parts.next(), Some(std::path::Component::Normal(_))), "{:?}", blob.name);
            assert!(parts.next().is_none(), "{:?}", blob.name);
        }
    }
}

/// What came of a task's items.
pub fn task_result(bytes: &[u8]) {
    codec(bytes, caii_wire::decode_task_result, |items| caii_wire::encode_task_result(items));
}

/// What a store keeps: the same bytes as a row of every kind.
pub fn row(bytes: &[u8]) {
    codec(bytes, rows::decode_settled, rows::encode_settled);
    codec(bytes, rows::decode_task_report, rows::encode_task_report);
    codec(bytes, rows::decode_attempt_failure, rows::encode_attempt_failure);
    codec(bytes, rows::decode_manifest, rows::encode_manifest);
    codec(bytes, rows::decode_prepared, rows::encode_prepared);
    codec(bytes, rows::decode_ending, rows::encode_ending);
    codec(bytes, rows::decode_job_kind, rows::encode_job_kind);
}

/// The join ticket, twice: the bytes as what somebody pasted, and as the message of a ticket whose check is right,
/// because no fuzzer guesses a hash.
pub fn ticket(bytes: &[u8]) {
    use base64::Engine as _;
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _answer = ticket_text(text);
    }
    let check = Digest::of(bytes).0;
    let whole = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([bytes, &check[..4]].concat());
    let decoded = ticket_text(&format!("caii1-{whole}"));
    assert!(!matches!(decoded, Err(TicketError::Damaged | TicketError::Version { .. })), "{decoded:?}");
}

fn ticket_text(text: &str) -> Result<JoinTicket, TicketError> {
    let decoded = at_most(heap(text.as_bytes()), || JoinTicket::decode(text));
    if let Ok(ticket) = &decoded {
        let encoded = ticket.encode().expect("what was decoded can be encoded");
        assert_eq!(JoinTicket::decode(&encoded).as_ref(), Ok(ticket));
    }
    decoded
}
