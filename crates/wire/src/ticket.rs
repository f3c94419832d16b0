//! The join ticket: one string to paste, all that a machine needs in order to join a pool.

use crate::convert::{digest, fixed};
use crate::open::Frame;
use crate::{DecodeError, TicketSecret, limits, proto};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use caii_model::{Digest, PoolId};
use prost::Message as _;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// All that a machine needs in order to join a pool. Written `caii1-` and unpadded base64url of the protobuf message
/// `JoinTicket` and 4 bytes of its SHA-256, by which a mistyped ticket is told from a foreign one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTicket {
    /// Where the pool may be reached, `host:port` (`[…]:port` for IPv6), tried in this order; 1 to 8.
    pub addresses: Vec<String>,
    /// SHA-256 of the DER of the certificate that the pool shows. It is all the trust there is: no authority is asked.
    pub certificate: Digest,
    /// The pool that will be found there.
    pub pool: PoolId,
    /// What entitles to join. Whoever sees the ticket can join.
    pub secret: TicketSecret,
    /// The charter by which alone programs may run on the device, whatever the pool says: the digest of its first root.
    pub charter: Digest,
}

/// Why a text is no usable ticket.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TicketError {
    /// It is something else.
    #[error(
        "this is not a join ticket: one begins with `caii1-`; copy the whole line that `caii pool up` or \
         `caii ticket create` printed"
    )]
    NotATicket,
    /// It is of another version.
    #[error("this join ticket is of version {found} and this release reads version 1; use the pool's release of caii")]
    Version {
        /// Its version.
        found: u32,
    },
    /// Characters are missing, added or changed.
    #[error("the join ticket was damaged on its way: copy it again, from `caii1-` to its last character")]
    Damaged,
    /// It arrived as it was made, but was made wrongly.
    #[error("the join ticket arrived whole but cannot be used; ask the pool's operator for a new one")]
    Content(#[source] DecodeError),
}

const PREFIX: &str = "caii1-";
const CHECK_BYTES: usize = 4;

const FRAME: Frame = Frame {
    message: "JoinTicket",
    size_max: limits::TICKET_MAX,
    lists: &[(1, "JoinTicket.addresses", limits::TICKET_ADDRESSES_MAX)],
};

impl JoinTicket {
    /// The ticket's text, some 170 characters for one address. Refused if an address is no `host:port`, or if there is
    /// none or more than 8.
    pub fn encode(&self) -> Result<String, DecodeError> {
        check_addresses(&self.addresses)?;
        let message = proto::JoinTicket {
            addresses: self.addresses.clone(),
            certificate: self.certificate.0.to_vec(),
            pool: self.pool.0.to_vec(),
            secret: self.secret.0.to_vec(),
            charter: self.charter.0.to_vec(),
        };
        let mut bytes = message.encode_to_vec();
        let check = check_of(&bytes);
        bytes.extend_from_slice(&check);
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The ticket of this text. White space anywhere is ignored: terminals and mail break long lines.
    pub fn decode(text: &str) -> Result<Self, TicketError> {
        if text.len() > 2 * limits::TICKET_MAX {
            return Err(TicketError::NotATicket);
        }
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let rest = text.strip_prefix("caii").ok_or(TicketError::NotATicket)?;
        let (version, encoded) = rest.split_once('-').ok_or(TicketError::NotATicket)?;
        if version.is_empty() || !version.bytes().all(|b| b.is_ascii_digit()) {
            return Err(TicketError::NotATicket);
        }
        match version.parse() {
            Ok(1) => {}
            Ok(found) => return Err(TicketError::Version { found }),
            Err(_) => return Err(TicketError::NotATicket),
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TicketError::Damaged)?;
        let (message, check) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(TicketError::Damaged)?;
        if *check != check_of(message) {
            return Err(TicketError::Damaged);
        }
        Self::from_message(message).map_err(TicketError::Content)
    }

    fn from_message(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message: proto::JoinTicket = FRAME.open_unversioned(bytes)?;
        check_addresses(&message.addresses)?;
        Ok(Self {
            addresses: message.addresses,
            certificate: digest("JoinTicket.certificate", &message.certificate)?,
            pool: PoolId(fixed("JoinTicket.pool", &message.pool)?),
            secret: TicketSecret(fixed("JoinTicket.secret", &message.secret)?),
            charter: digest("JoinTicket.charter", &message.charter)?,
        })
    }
}

impl FromStr for JoinTicket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        Self::decode(text)
    }
}

impl fmt::Display for TicketSecret {
    /// Never the secret itself: tickets end up in logs by way of what holds them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

fn check_of(message: &[u8]) -> [u8; CHECK_BYTES] {
    *Digest::of(message).0.first_chunk().expect("a digest has 32 bytes")
}

fn check_addresses(addresses: &[String]) -> Result<(), DecodeError> {
    const FIELD: &str = "JoinTicket.addresses";
    if addresses.is_empty() {
        return Err(DecodeError::Missing { field: FIELD });
    }
    crate::convert::at_most(FIELD, addresses.len(), limits::TICKET_ADDRESSES_MAX)?;
    for address in addresses {
        crate::convert::at_most(FIELD, address.len(), limits::TICKET_ADDRESS_MAX)?;
        if !is_host_and_port(address) {
            return Err(DecodeError::Rule { field: FIELD, reason: "`host:port` or `[IPv6 address]:port` is expected" });
        }
    }
    Ok(())
}

fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let port_fits = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let host_fits = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-'),
    };
    port_fits && host_fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket() -> JoinTicket {
        JoinTicket {
            addresses: vec!["192.168.100.200:7070".into()],
            certificate: Digest::of(b"certificate"),
            pool: PoolId([0xab; 8]),
            secret: TicketSecret([0xcd; 16]),
            charter: Digest::of(b"charter"),
        }
    }

    #[test]
    fn a_ticket_is_one_short_line() {
        let text = ticket().encode().unwrap();
        assert!(text.len() <= 180, "{} characters", text.len());
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{text}");
        // Tickets are kept in files and mails: a new release reads old ones.
        assert_eq!(
            text,
            "caii1-ChQxOTIuMTY4LjEwMC4yMDA6NzA3MBIgA9Zt0Ig1wco_EozOrNHzGslBYwlrIPRFroQoW8CDLXIaCKurq6urq6urIhDNzc3Nzc3Nzc3Nzc3Nzc3NKiCDmeV0BWJzaHIoMMn_Pbgfugr6YSCkOceiVopb4xuClVr9eP4"
        );
        assert_eq!(JoinTicket::decode(&text), Ok(ticket()));
        assert_eq!(format!("{:?}", ticket()).matches("205").count(), 0, "the secret shows");
    }

    #[test]
    fn broken_lines_are_mended() {
        let text = ticket().encode().unwrap();
        let (head, tail) = text.split_at(70);
        assert_eq!(JoinTicket::decode(&format!("  {head}\r\n   {tail}\n")), Ok(ticket()));
    }

    #[test]
    fn other_texts_are_told_apart() {
        let text = ticket().encode().unwrap();
        let newer = text.replacen("caii1-", "caii2-", 1);
        let upper = text.to_uppercase();
        let payload = &text["caii1-".len()..];
        for (case, expected) in [
            ("", TicketError::NotATicket),
            ("caii", TicketError::NotATicket),
            ("caii1", TicketError::NotATicket),
            ("caii-x", TicketError::NotATicket),
            ("caii+1-x", TicketError::NotATicket),
            ("sk-proj-1234", TicketError::NotATicket),
            (payload, TicketError::NotATicket),
            (upper.as_str(), TicketError::NotATicket),
            (&"caii1-".repeat(10_000), TicketError::NotATicket),
            (newer.as_str(), TicketError::Version { found: 2 }),
            ("caii1-", TicketError::Damaged),
            ("caii1-AAAA", TicketError::Damaged),
            (&format!("{text}="), TicketError::Damaged),
            (&format!("{text}{text}"), TicketError::Damaged),
            (&format!("{text}."), TicketError::Damaged),
        ] {
            assert_eq!(JoinTicket::decode(case), Err(expected), "{case}");
        }
    }

    #[test]
    fn any_single_slip_is_noticed() {
        let text = ticket().encode().unwrap();
        for place in PREFIX.len()..text.len() {
            let mut shorter = text.clone();
            shorter.remove(place);
            assert_eq!(JoinTicket::decode(&shorter), Err(TicketError::Damaged), "without character {place}");
            for other in ["A", "z", "0", "_", "-"] {
                let mut changed = text.clone();
                changed.replace_range(place..=place, other);
                if changed != text {
                    assert_eq!(JoinTicket::decode(&changed), Err(TicketError::Damaged), "{other} at {place}");
                }
            }
        }
    }

    #[test]
    fn addresses_are_checked_both_ways() {
        for good in ["pool.example.org:443", "localhost:1", "10.0.0.1:65535", "[::1]:7070", "[fe80::1]:7070"] {
            let ticket = JoinTicket { addresses: vec![good.into()], ..ticket() };
            assert_eq!(JoinTicket::decode(&ticket.encode().unwrap()), Ok(ticket));
        }
        for bad in ["", ":", "host", "host:", ":1", "host:0", "host:65536", "host:+1", "::1:7070", "a b:1", "a/b:1"] {
            let error = JoinTicket { addresses: vec![bad.into()], ..ticket() }.encode().unwrap_err();
            assert!(matches!(error, DecodeError::Rule { .. }), "{bad}: {error}");
        }
        assert!(JoinTicket { addresses: Vec::new(), ..ticket() }.encode().is_err());
        assert!(JoinTicket { addresses: vec!["a:1".into(); 9], ..ticket() }.encode().is_err());
        let long = format!("{}:1", "a".repeat(300));
        assert!(JoinTicket { addresses: vec![long], ..ticket() }.encode().is_err());
    }

    #[test]
    fn a_whole_ticket_with_unusable_content_is_its_makers_fault() {
        let message = proto::JoinTicket { addresses: vec!["a:1".into()], ..Default::default() };
        let mut bytes = message.encode_to_vec();
        let check = check_of(&bytes);
        bytes.extend(check);
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        assert!(matches!(JoinTicket::decode(&text), Err(TicketError::Content(_))));
    }

    proptest! {
        #[test]
        fn decoding_never_panics(text in "(caii1-)?[ -~é]{0,200}") {
            let _ = JoinTicket::decode(&text);
        }

        #[test]
        fn decoding_any_message_never_panics(bytes: Vec<u8>) {
            let _ = JoinTicket::from_message(&bytes);
        }
    }
}
