//! What an audit found: a verdict in words for each check, and the first row that is wrong.

use crate::logged::Kind;
use caii_model::{Account, DeviceId, MicroCredits};
use caii_tlog::Tree;
use std::collections::BTreeMap;
use std::fmt;

/// Names and questions of all checks in one table, in the order in which they are reported.
macro_rules! checks {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $what:literal;)+) => {
        /// Something that is checked.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Check {
            $($(#[$doc])* $variant,)+
        }

        impl Check {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What holds if it is good.
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)+ }
            }
        }
    };
}

checks! {
    /// Signatures of the log and of witnesses.
    Checkpoint = "checkpoint", "the checkpoint is signed by the log, and by the witnesses that the policy asks for";
    /// The last checkpoint that the auditor saw.
    Consistency = "consistency", "the log continues the one that was seen last";
    /// All tiles.
    Tiles = "tiles", "every tile follows from the entries, and they give the checkpoint's root";
    /// All openings.
    Openings = "openings", "every opening is that of its entry";
    /// The pool's signatures.
    PoolSignatures = "pool-signatures", "the pool signed every bundle of receipts and other entries";
    /// Times.
    Order = "order", "entries stand in the order of their times";
    /// The first entry.
    Pool = "pool", "the log begins by saying which pool it is of, as pool.json does";
    /// Enrolments.
    Devices = "devices", "every claim is by an enrolled device, for its owner";
    /// Devices' signatures.
    ClaimSignatures = "claim-signatures", "every claim is signed by its device";
    /// Numbers of claims.
    Sequences = "sequences", "every claim of every device has one receipt";
    /// Certifications.
    Certificates = "certificates", "what was run was certified when it was accepted";
    /// Tariffs.
    Tariffs = "tariffs", "tariffs were published before they held, and each receipt follows the one in force";
    /// Amounts of receipts.
    Rewards = "rewards", "every reward and price follows from the tariff and the receipt";
    /// Tasks.
    Once = "once", "every task is accepted once";
    /// Entries of the ledger.
    Entries = "entries", "every entry of the ledger is there once, for a reason in the log, with the amounts that follow";
    /// Balances after each entry.
    Balances = "balances", "no account falls below what it may";
    /// Balances at the end.
    TrialBalance = "trial-balance", "all balances sum to zero, and each kind is what the entries recompute to";
    /// Audit secrets.
    Secrets = "secrets", "every secret was committed to before it was used and matches that when it is revealed";
    /// Draws.
    Draws = "draws", "what was audited is what the secrets drew";
    /// Outcomes.
    Outcomes = "outcomes", "what was drawn was audited by others before its job was settled";
    /// Payments and voids of claims.
    Finality = "finality", "what is paid was final before, and what was accepted is paid or voided before its job is settled";
    /// Convictions.
    Convictions = "convictions", "who was caught is convicted, who is convicted was caught, and is not paid afterwards";
    /// Payouts.
    Payouts = "payouts", "payout files pay what was payable, and nothing else was settled";
    /// The contributor's own receipts.
    Inclusion = "inclusion", "the receipts of the contributor's device are all there";
}

/// What came of one check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was good.
    pub good: u64,
    /// What cannot be checked, because it was erased or is not revealed or published.
    pub uncheckable: u64,
    /// What was wrong.
    pub wrong: u64,
    /// The first that was wrong, in the order of the log.
    pub first: Option<Wrong>,
    /// What a reader must know to understand the verdict.
    pub notes: Vec<String>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The entry of the log, if it is one.
    pub index: Option<u64>,
    /// The file with it.
    pub file: String,
    /// What is wrong.
    pub why: String,
}

/// The verdict on a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckVerdict {
    /// All of it is good.
    Good,
    /// What could be checked is good.
    Partly,
    /// There was nothing to check.
    Nothing,
    /// Something is wrong.
    Wrong,
}

impl Outcome {
    /// In a word.
    pub fn verdict(&self) -> CheckVerdict {
        match (self.wrong, self.uncheckable, self.good) {
            (0, 0, 0) => CheckVerdict::Nothing,
            (0, 0, _) => CheckVerdict::Good,
            (0, ..) => CheckVerdict::Partly,
            _ => CheckVerdict::Wrong,
        }
    }
}

impl CheckVerdict {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Partly => "partly",
            Self::Nothing => "nothing",
            Self::Wrong => "WRONG",
        }
    }
}

/// What the log has of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contributor {
    /// Which.
    pub device: DeviceId,
    /// Whose it is.
    pub owner: Account,
    /// Receipts.
    pub receipts: u64,
    /// Those accepted.
    pub accepted: u64,
    /// Of these, those that wait until they are final and paid.
    pub waiting: u64,
    /// Of the accepted ones, those that count no more.
    pub voided: u64,
    /// The number of its last claim.
    pub last: u64,
    /// What paid claims earned, before anything that was taken back.
    pub earned: MicroCredits,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The log's name.
    pub origin: String,
    /// What the checkpoint says.
    pub tree: Tree,
    /// Witnesses that the policy knows and that cosigned.
    pub cosigned: Vec<String>,
    /// Entries of each kind that could be read.
    pub entries: BTreeMap<Kind, u64>,
    /// Entries of each kind whose opening was erased.
    pub erased: BTreeMap<Kind, u64>,
    /// What came of each check.
    pub outcomes: BTreeMap<Check, Outcome>,
    /// The device that was asked about.
    pub contributor: Option<Contributor>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_green(&self) -> bool {
        self.outcomes.values().all(|outcome| outcome.wrong == 0)
    }

    /// The checks that found something wrong.
    pub fn wrong(&self) -> Vec<Check> {
        self.outcomes.iter().filter(|(_, outcome)| outcome.wrong > 0).map(|(check, _)| *check).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} entries, root {}", self.origin, self.tree.size, self.tree.root.short())?;
        for (check, outcome) in &self.outcomes {
            write!(f, "{:<8} {:<17} ", outcome.verdict().as_str(), check.as_str())?;
            match outcome.verdict() {
                CheckVerdict::Nothing => writeln!(f, "nothing to check")?,
                CheckVerdict::Good => writeln!(f, "{}: {} checked", check.what(), outcome.good)?,
                CheckVerdict::Partly => writeln!(
                    f,
                    "{}: {} checked, {} cannot be checked",
                    check.what(),
                    outcome.good,
                    outcome.uncheckable
                )?,
                CheckVerdict::Wrong => writeln!(f, "{} wrong, {} good", outcome.wrong, outcome.good)?,
            }
            if let Some(Wrong { index, file, why }) = &outcome.first {
                match index {
                    Some(index) => writeln!(f, "         first: entry {index} ({file}): {why}")?,
                    None => writeln!(f, "         first: {file}: {why}")?,
                }
            }
            outcome.notes.iter().try_for_each(|note| writeln!(f, "         note: {note}"))?;
        }
        for (kind, count) in &self.erased {
            writeln!(f, "erased: {count} of {kind}; what they say cannot be checked any more")?;
        }
        if let Some(contributor) = &self.contributor {
            let Contributor { device, owner, receipts, accepted, waiting, voided, last, earned } = contributor;
            writeln!(
                f,
                "{device} of {owner}: {receipts} receipts, the last for claim {last}; {accepted} accepted, of which \
                 {waiting} wait to be paid and {voided} were voided; the others earned {earned} credits"
            )?;
        }
        f.write_str(if self.is_green() { "green: nothing is wrong" } else { "RED: something is wrong" })
    }
}
