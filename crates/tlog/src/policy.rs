//! Whose signatures make a checkpoint believable (`tlog-policy`): logs, witnesses, groups of them, and the quorum.

use crate::checkpoint::{Checkpoint, CheckpointError, Origin, Unbelievable};
use crate::key::{KeyType, UnixSeconds, VerifierKey, VerifierKeyError};
use crate::note::{Note, Unverified};
use crate::text::{excerpt, parse_decimal};
use std::collections::BTreeMap;
use thiserror::Error;

/// Bytes of a policy.
pub const POLICY_SIZE_MAX: usize = 256 << 10;
/// Logs, witnesses and groups together.
pub const POLICY_LINES_MAX: usize = 256;

/// Whose signatures make a checkpoint believable. Made by [`Policy::parse`] alone, so it always makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    quorum: Quorum,
}

/// A log: one key of it. Its name is the log's origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLog {
    /// The key.
    pub key: VerifierKey,
    /// Where it is, if the policy says so.
    pub url: Option<Vec<u8>>,
}

/// A witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWitness {
    /// What the policy calls it: any bytes.
    pub name: Vec<u8>,
    /// The key.
    pub key: VerifierKey,
    /// Where it is, if the policy says so.
    pub url: Option<Vec<u8>>,
}

/// Witnesses and groups of which so many must have cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What the policy calls it: any bytes.
    pub name: Vec<u8>,
    /// How many.
    pub threshold: usize,
    /// Of whom.
    pub members: Vec<Member>,
}

/// What counts towards a group or the quorum: the place in the policy's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// A witness.
    Witness(usize),
    /// A group, defined earlier than where it is named.
    Group(usize),
}

/// What it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quorum {
    /// No witness.
    None,
    /// This witness or group.
    Of(Member),
}

/// Why bytes are no policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// It is larger than [`POLICY_SIZE_MAX`].
    #[error("the policy has {found} bytes; at most {POLICY_SIZE_MAX} are read")]
    TooLarge {
        /// How many.
        found: usize,
    },
    /// It has more lines than [`POLICY_LINES_MAX`] that define something.
    #[error("the policy defines more than {POLICY_LINES_MAX} logs, witnesses and groups")]
    TooMany,
    /// A control character other than tab and line feed.
    #[error("line {line}: the byte 0x{byte:02x} is not allowed")]
    Byte {
        /// The line, from 1.
        line: usize,
        /// The byte.
        byte: u8,
    },
    /// The line is none of the four.
    #[error(
        "line {line}: expected `log KEY [URL]`, `witness NAME KEY [URL]`, `group NAME all|any|NUMBER MEMBER…` or `quorum NAME`"
    )]
    Line {
        /// The line, from 1.
        line: usize,
    },
    /// A key is none.
    #[error("line {line}: {why}")]
    Key {
        /// The line, from 1.
        line: usize,
        /// Why.
        why: VerifierKeyError,
    },
    /// A log has a witness's key, or a witness a log's.
    #[error("line {line}: logs have keys of type 0x01, witnesses keys of type 0x04")]
    KeyType {
        /// The line, from 1.
        line: usize,
    },
    /// A key stands there twice: one holder must not count as two.
    #[error("line {line}: the same public key stands on an earlier line")]
    KeyTwice {
        /// The line, from 1.
        line: usize,
    },
    /// The name means something already.
    #[error("line {line}: the name `{name}` is taken")]
    NameTaken {
        /// The line, from 1.
        line: usize,
        /// The name.
        name: String,
    },
    /// The name means nothing yet.
    #[error("line {line}: no earlier line defines `{name}`")]
    NameUnknown {
        /// The line, from 1.
        line: usize,
        /// The name.
        name: String,
    },
    /// A witness or group is in a second group, or twice in one: it would count in two ways.
    #[error("line {line}: `{name}` is a member of a group already")]
    MemberTwice {
        /// The line, from 1.
        line: usize,
        /// The name.
        name: String,
    },
    /// A group that nobody or everybody would satisfy.
    #[error("line {line}: a group of {members} needs a threshold of 1 to {members}")]
    Threshold {
        /// The line, from 1.
        line: usize,
        /// How many members it has.
        members: usize,
    },
    /// There is a second quorum.
    #[error("line {line}: there is a quorum already")]
    QuorumTwice {
        /// The line, from 1.
        line: usize,
    },
    /// There is no quorum.
    #[error("the policy has no quorum; `quorum none` asks for no witness")]
    NoQuorum,
}

/// Why a policy does not accept a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyRefused {
    /// It is none.
    #[error(transparent)]
    Form(CheckpointError),
    /// The policy has no such log.
    #[error("the log `{0}` is not in the policy")]
    LogUnknown(Origin),
    /// It is not a checkpoint that the log signed.
    #[error(transparent)]
    Log(Unbelievable),
    /// A cosignature by a witness of the policy does not hold.
    #[error("a cosignature is wrong, so the checkpoint is refused: {0}")]
    Cosignature(#[source] Unverified),
    /// Too few witnesses cosigned.
    #[error("the quorum `{quorum}` is not reached: {}", if cosigned.is_empty() { "no witness cosigned".into() } else { format!("only {} cosigned", cosigned.join(", ")) })]
    Quorum {
        /// What is asked for.
        quorum: String,
        /// The policy's names of those who cosigned.
        cosigned: Vec<String>,
    },
}

/// A checkpoint that a policy accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted<'p> {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The witnesses of the policy that cosigned it, and when. Whether that is recent enough is for the caller to say.
    pub cosigned: Vec<(&'p PolicyWitness, UnixSeconds)>,
}

impl Policy {
    /// The logs.
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The witnesses.
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// The groups; each has members of earlier ones alone.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The quorum.
    pub fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// If it is none, or too large; with the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > POLICY_SIZE_MAX {
            return Err(PolicyError::TooLarge { found: bytes.len() });
        }
        let mut draft = Draft::default();
        for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            if let Some(byte) = text.iter().find(|byte| matches!(byte, 0..=8 | 11..=31 | 127)) {
                return Err(PolicyError::Byte { line, byte: *byte });
            }
            let words: Vec<&[u8]> =
                text.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty()).collect();
            draft.line(line, &words)?;
            if draft.logs.len() + draft.witnesses.len() + draft.groups.len() > POLICY_LINES_MAX {
                return Err(PolicyError::TooMany);
            }
        }
        let Draft { logs, witnesses, groups, quorum, .. } = draft;
        Ok(Self { logs, witnesses, groups, quorum: quorum.ok_or(PolicyError::NoQuorum)? })
    }

    /// The policy as a file, without the comments of the one it was read from.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let with_url = |words: Vec<&[u8]>, url: &Option<Vec<u8>>| {
            let url = url.iter().map(Vec::as_slice);
            words.into_iter().chain(url).collect::<Vec<_>>().join(&b' ')
        };
        for PolicyLog { key, url } in &self.logs {
            lines.push(with_url(vec![b"log", key.to_string().as_bytes()], url));
        }
        for PolicyWitness { name, key, url } in &self.witnesses {
            lines.push(with_url(vec![b"witness", name, key.to_string().as_bytes()], url));
        }
        for Group { name, threshold, members } in &self.groups {
            let threshold = threshold.to_string();
            let members = members.iter().map(|member| self.name(*member));
            let words: Vec<&[u8]> =
                [b"group".as_slice(), name, threshold.as_bytes()].into_iter().chain(members).collect();
            lines.push(words.join(&b' '));
        }
        lines.push([b"quorum ", self.quorum_name()].concat());
        lines.push(Vec::new());
        lines.join(&b'\n')
    }

    fn name(&self, member: Member) -> &[u8] {
        match member {
            Member::Witness(place) => &self.witnesses[place].name,
            Member::Group(place) => &self.groups[place].name,
        }
    }

    fn quorum_name(&self) -> &[u8] {
        match self.quorum {
            Quorum::None => NONE,
            Quorum::Of(member) => self.name(member),
        }
    }

    /// Whether the policy accepts a checkpoint: signed by one of its logs, cosigned by its quorum.
    ///
    /// # Errors
    /// If not.
    pub fn accept(&self, note: &Note) -> Result<Accepted<'_>, PolicyRefused> {
        let Checkpoint { origin, .. } = Checkpoint::parse(note.text()).map_err(PolicyRefused::Form)?;
        let keys: Vec<&VerifierKey> =
            self.logs.iter().map(|log| &log.key).filter(|key| key.name().as_str() == origin.as_str()).collect();
        if keys.is_empty() {
            return Err(PolicyRefused::LogUnknown(origin));
        }
        self.accept_of(note, &origin, keys)
    }

    /// As [`Policy::accept`], for a log that is known from elsewhere.
    ///
    /// # Errors
    /// If it does not accept it.
    pub fn accept_of<'k>(
        &self,
        note: &Note,
        origin: &Origin,
        keys: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<Accepted<'_>, PolicyRefused> {
        let (checkpoint, _) = Checkpoint::open(note, origin, keys).map_err(PolicyRefused::Log)?;
        let cosigned = match note.signers(self.witnesses.iter().map(|witness| &witness.key)) {
            Ok(signers) => signers,
            Err(Unverified::Unsigned { .. }) => Vec::new(),
            Err(wrong @ Unverified::Signature { .. }) => return Err(PolicyRefused::Cosignature(wrong)),
        };
        let at = |witness: &PolicyWitness| {
            cosigned.iter().find(|signed| *signed.key == witness.key).and_then(|signed| signed.at)
        };
        let times: Vec<Option<UnixSeconds>> = self.witnesses.iter().map(at).collect();
        let cosigned = self.witnesses.iter().zip(&times).filter_map(|(witness, at)| at.map(|at| (witness, at)));
        let cosigned: Vec<_> = cosigned.collect();
        if self.reached(&times.iter().map(Option::is_some).collect::<Vec<_>>()) {
            return Ok(Accepted { checkpoint, cosigned });
        }
        let name = |name: &[u8]| excerpt(&String::from_utf8_lossy(name));
        Err(PolicyRefused::Quorum {
            quorum: name(self.quorum_name()),
            cosigned: cosigned.iter().map(|(witness, _)| name(&witness.name)).collect(),
        })
    }

    /// Whether these witnesses, by their places, are a quorum.
    fn reached(&self, cosigned: &[bool]) -> bool {
        // Members are defined before the groups that they are in, so one pass will do.
        let mut reached: Vec<bool> = Vec::with_capacity(self.groups.len());
        let holds = |member: &Member, reached: &[bool]| match *member {
            Member::Witness(place) => cosigned[place],
            Member::Group(place) => reached[place],
        };
        for Group { threshold, members, .. } in &self.groups {
            let count = members.iter().filter(|member| holds(member, &reached)).count();
            reached.push(count >= *threshold);
        }
        match &self.quorum {
            Quorum::None => true,
            Quorum::Of(member) => holds(member, &reached),
        }
    }
}

/// The name that asks for no witness.
const NONE: &[u8] = b"none";

/// A policy while it is read.
#[derive(Default)]
struct Draft {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    quorum: Option<Quorum>,
    /// What names mean, and whether they are members of a group already.
    names: BTreeMap<Vec<u8>, (Member, bool)>,
}

impl Draft {
    fn line(&mut self, line: usize, words: &[&[u8]]) -> Result<(), PolicyError> {
        match words {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", key] => self.log(line, key, None),
            [b"log", key, url] => self.log(line, key, Some(url)),
            [b"witness", name, key] => self.witness(line, name, key, None),
            [b"witness", name, key, url] => self.witness(line, name, key, Some(url)),
            [b"group", name, threshold, members @ ..] if !members.is_empty() => {
                self.group(line, name, threshold, members)
            }
            [b"quorum", name] => self.quorum(line, name),
            _ => Err(PolicyError::Line { line }),
        }
    }

    fn log(&mut self, line: usize, key: &[u8], url: Option<&&[u8]>) -> Result<(), PolicyError> {
        let key = read_key(line, key, KeyType::Ed25519)?;
        if self.logs.iter().any(|log| log.key.public() == key.public()) {
            return Err(PolicyError::KeyTwice { line });
        }
        self.logs.push(PolicyLog { key, url: url.map(|url| url.to_vec()) });
        Ok(())
    }

    fn witness(&mut self, line: usize, name: &[u8], key: &[u8], url: Option<&&[u8]>) -> Result<(), PolicyError> {
        let key = read_key(line, key, KeyType::CosignatureV1)?;
        if self.witnesses.iter().any(|witness| witness.key.public() == key.public()) {
            return Err(PolicyError::KeyTwice { line });
        }
        self.define(line, name, Member::Witness(self.witnesses.len()))?;
        self.witnesses.push(PolicyWitness { name: name.to_vec(), key, url: url.map(|url| url.to_vec()) });
        Ok(())
    }

    fn group(&mut self, line: usize, name: &[u8], threshold: &[u8], members: &[&[u8]]) -> Result<(), PolicyError> {
        let count = members.len();
        let threshold = match threshold {
            b"all" => Some(count),
            b"any" => Some(1),
            number => std::str::from_utf8(number).ok().and_then(parse_decimal).and_then(|n| usize::try_from(n).ok()),
        };
        let threshold = threshold.filter(|threshold| (1..=count).contains(threshold));
        let threshold = threshold.ok_or(PolicyError::Threshold { line, members: count })?;
        let mut found = Vec::with_capacity(count);
        for member in members {
            let (place, taken) = self.names.get_mut(*member).ok_or_else(|| unknown(line, member))?;
            if std::mem::replace(taken, true) {
                return Err(PolicyError::MemberTwice { line, name: excerpt(&String::from_utf8_lossy(member)) });
            }
            found.push(*place);
        }
        self.define(line, name, Member::Group(self.groups.len()))?;
        self.groups.push(Group { name: name.to_vec(), threshold, members: found });
        Ok(())
    }

    fn quorum(&mut self, line: usize, name: &[u8]) -> Result<(), PolicyError> {
        if self.quorum.is_some() {
            return Err(PolicyError::QuorumTwice { line });
        }
        self.quorum = Some(match name {
            NONE => Quorum::None,
            name => Quorum::Of(self.names.get(name).ok_or_else(|| unknown(line, name))?.0),
        });
        Ok(())
    }

    fn define(&mut self, line: usize, name: &[u8], member: Member) -> Result<(), PolicyError> {
        if name == NONE || self.names.contains_key(name) {
            return Err(PolicyError::NameTaken { line, name: excerpt(&String::from_utf8_lossy(name)) });
        }
        self.names.insert(name.to_vec(), (member, false));
        Ok(())
    }
}

fn unknown(line: usize, name: &[u8]) -> PolicyError {
    PolicyError::NameUnknown { line, name: excerpt(&String::from_utf8_lossy(name)) }
}

fn read_key(line: usize, text: &[u8], kind: KeyType) -> Result<VerifierKey, PolicyError> {
    let text = std::str::from_utf8(text).map_err(|_| PolicyError::Key { line, why: VerifierKeyError::Form })?;
    let key: VerifierKey = text.parse().map_err(|why| PolicyError::Key { line, why })?;
    if key.kind() == kind { Ok(key) } else { Err(PolicyError::KeyType { line }) }
}
