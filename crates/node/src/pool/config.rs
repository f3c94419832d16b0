//! What an operator can choose. `docs/config/pool.toml` shows every setting with its default.

use caii_coordinator::PayoutRules;
use caii_ledger::CreditLimit;
use caii_model::{MicroCredits, Verification};
use caii_payout::{Approvers, Bic, Payee, Rate, SepaText};
use caii_tlog::{KeyType, VerifierKey};
use caii_trust::PublicKey;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// A pool's settings. The defaults need no file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// Where devices, the command line and API clients connect: HTTPS with the pool's own certificate. Port 0 picks a
    /// free one.
    pub https_listen: SocketAddr,
    /// Plain HTTP for programs on this machine, on a loopback address only; `off` for none. It does not speak the agent
    /// protocol.
    #[serde(deserialize_with = "address_or_off")]
    pub http_listen: Option<SocketAddr>,
    /// Addresses that join tickets name, as `host:port`; none: the listening address, or this machine's if that is a
    /// wildcard.
    pub advertise: Vec<String>,
    /// Connections at a time, of all kinds. Further ones wait.
    pub connections_max: usize,
    /// Open jobs of an account.
    pub jobs_open_max: u32,
    /// Tasks of a job.
    pub tasks_per_job_max: u32,
    /// Records of a program's job. A batch has at most 50,000 in any case.
    pub records_per_job_max: u64,
    /// Seconds after which a silent device is lost and its work goes to others.
    pub device_silence_seconds: u64,
    /// Seconds for which a device may work on a task.
    pub lease_seconds: u64,
    /// Seconds that a synchronous request waits for its answer.
    pub sync_wait_seconds: u64,
    /// Seconds for which a check of results waits for a device that may do it, before the pool does it itself.
    pub audit_patience_seconds: u64,
    /// How the results of jobs are checked that do not say it themselves.
    #[serde(deserialize_with = "verification")]
    pub verification: Verification,
    /// How far an account may go below zero by what its jobs may cost. It is the first thing that the pool's log says, so
    /// it cannot be changed later.
    #[serde(deserialize_with = "credit_limit")]
    pub credit_limit: CreditLimit,
    /// Seconds for which draws depend on one secret, before it is revealed.
    pub audit_secret_seconds: u64,
    /// Who is asked to cosign the log's checkpoints.
    pub witnesses: Vec<WitnessSetting>,
    /// By what rules members are paid out; none: they are not.
    pub payout: Option<PayoutConfig>,
}

/// An independent party that cosigns checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessSetting {
    /// Where it is asked: what stands before `/add-checkpoint`.
    pub url: String,
    /// Its key, as `caii witness init` prints it.
    #[serde(deserialize_with = "witness_key")]
    pub key: VerifierKey,
}

/// By what rules members are paid out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayoutConfig {
    /// Who pays: the holder of the bank account.
    pub name: String,
    /// From which account.
    pub iban: String,
    /// Its bank, where that is asked for.
    #[serde(default)]
    pub bic: Option<String>,
    /// In which currency.
    #[serde(default = "euro")]
    pub currency: String,
    /// How many micro-credits are paid as one cent, or whatever is the currency's smallest unit.
    pub micro_credits_per_cent: u64,
    /// What payees read on their statement.
    pub remittance: String,
    /// How many of the approvers have to sign a run before it can be sent.
    pub approvals: usize,
    /// Who may approve.
    pub approvers: Vec<ApproverConfig>,
}

/// Somebody who may approve payouts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproverConfig {
    /// Who.
    pub name: String,
    /// The public key, as `caii charter key create` shows it: `ed25519:<hex>`.
    pub key: String,
}

fn euro() -> String {
    "EUR".to_owned()
}

impl PayoutConfig {
    /// The rules, if every value makes sense.
    ///
    /// # Errors
    /// What does not, in words.
    pub fn rules(&self) -> Result<PayoutRules, String> {
        let said = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        let bic = self.bic.as_deref().map(str::parse::<Bic>).transpose();
        let people = self.approvers.iter().map(|approver| {
            let key = approver
                .key
                .split_once(':')
                .ok_or_else(|| format!("the key of {}: write it as `ed25519:<hex>`", approver.name))?;
            let key = PublicKey::parse(key.0, key.1).map_err(|error| said(&approver.name, &error))?;
            Ok((approver.name.clone(), key))
        });
        let people: Vec<(String, PublicKey)> = people.collect::<Result<_, String>>()?;
        Ok(PayoutRules {
            debtor: Payee {
                name: SepaText::new(&self.name, SepaText::NAME_MAX).map_err(|error| said("name", &error))?,
                iban: self.iban.parse().map_err(|error| said("iban", &error))?,
                bic: bic.map_err(|error| said("bic", &error))?,
            },
            currency: self.currency.parse().map_err(|error| said("currency", &error))?,
            rate: Rate(NonZeroU64::new(self.micro_credits_per_cent).ok_or("micro_credits_per_cent: at least 1")?),
            remittance: SepaText::new(&self.remittance, SepaText::REMITTANCE_MAX)
                .map_err(|error| said("remittance", &error))?,
            approvers: Approvers::new(self.approvals, people).map_err(|error| said("approvers", &error))?,
        })
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            https_listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7443)),
            http_listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7480))),
            advertise: Vec::new(),
            connections_max: 4_096,
            jobs_open_max: 1_000,
            tasks_per_job_max: 2_000_000,
            records_per_job_max: 100_000_000,
            device_silence_seconds: 12,
            lease_seconds: 3_600,
            sync_wait_seconds: 60,
            audit_patience_seconds: 30,
            verification: Verification::Spot,
            credit_limit: CreditLimit::Unlimited,
            audit_secret_seconds: 3_600,
            witnesses: Vec::new(),
            payout: None,
        }
    }
}

/// Witnesses of a pool: a note has room for the lines of so many, and to spare.
const WITNESSES_MAX: usize = 32;

fn address_or_off<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "off" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| serde::de::Error::custom("expected `off` or an address like `127.0.0.1:7480`"))
}

fn verification<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Verification, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn credit_limit<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<CreditLimit, D::Error> {
    let limit = match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) if text == "unlimited" => return Ok(CreditLimit::Unlimited),
        toml::Value::Integer(credits) if credits >= 0 => MicroCredits::credits(credits),
        _ => None,
    };
    let wrong = || serde::de::Error::custom("expected `\"unlimited\"` or whole credits, 0 or more");
    limit.map(CreditLimit::Below).ok_or_else(wrong)
}

fn witness_key<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<VerifierKey, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// Why settings are not acceptable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("the pool's configuration is not valid; docs/config/pool.toml shows every setting")]
    Syntax(#[source] Box<toml::de::Error>),
    /// The rules of payouts make no sense.
    #[error("the pool's configuration is not valid: `[payout]`: {0}")]
    Payout(String),
    /// A value breaks a rule.
    #[error("the pool's configuration is not valid: `{setting}` {rule}")]
    Value {
        /// Which setting.
        setting: &'static str,
        /// What would be right.
        rule: &'static str,
    },
}

impl PoolConfig {
    /// The settings in this text.
    ///
    /// # Errors
    /// When it is no TOML, has an unknown setting, or a value that breaks a rule.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Syntax(Box::new(error)))?;
        config.check()?;
        Ok(config)
    }

    /// The settings in this file.
    ///
    /// # Errors
    /// As [`PoolConfig::from_toml`], or when the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::from_toml(&text)
    }

    /// Checks what types do not.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let error = |setting, rule| Err(ConfigError::Value { setting, rule });
        let positive = [
            ("jobs_open_max", u64::from(self.jobs_open_max)),
            ("tasks_per_job_max", u64::from(self.tasks_per_job_max)),
            ("records_per_job_max", self.records_per_job_max),
            ("sync_wait_seconds", self.sync_wait_seconds),
        ];
        if let Some((setting, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return error(setting, "must be at least 1");
        }
        if self.http_listen.is_some_and(|address| !address.ip().is_loopback()) {
            return error("http_listen", "must be a loopback address: it is not encrypted");
        }
        if self.connections_max < 16 {
            return error("connections_max", "must be at least 16");
        }
        // Devices speak every 5 s at the latest; one lost message should not lose them.
        if !(8..=3_600).contains(&self.device_silence_seconds) {
            return error("device_silence_seconds", "must be between 8 and 3600");
        }
        if !(60..=7 * 24 * 3_600).contains(&self.lease_seconds) {
            return error("lease_seconds", "must be between 60 and 604800");
        }
        // As short as that is for tests; longer than a week, nobody could check a draw for a week.
        if !(1..=7 * 24 * 3_600).contains(&self.audit_secret_seconds) {
            return error("audit_secret_seconds", "must be between 1 and 604800");
        }
        if self.witnesses.len() > WITNESSES_MAX {
            return error("witnesses", "has too many: at most 32");
        }
        for (place, WitnessSetting { url, key }) in self.witnesses.iter().enumerate() {
            if !["https://", "http://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme)) {
                return error("witnesses", "must have URLs with https:// or http://");
            }
            if key.kind() != KeyType::CosignatureV1 {
                return error("witnesses", "must have keys of witnesses, as `caii witness init` prints them");
            }
            if self.witnesses[..place].iter().any(|other| other.key == *key) {
                return error("witnesses", "names one of them twice");
            }
        }
        if let Some(Err(reason)) = self.payout.as_ref().map(PayoutConfig::rules) {
            return Err(ConfigError::Payout(reason));
        }
        if self.advertise.len() > caii_wire::limits::TICKET_ADDRESSES_MAX {
            return error("advertise", "has too many addresses: at most 8");
        }
        if self.advertise.iter().any(|address| !is_host_and_port(address)) {
            return error("advertise", "must list addresses as `host:port`");
        }
        Ok(())
    }
}

fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let host_ok = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
    host_ok && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(url: &str, kind: KeyType) -> String {
        let public = caii_trust::SigningKey::from_seed([7; 32]).public();
        let key = VerifierKey::new("w.example".parse().unwrap(), kind, public).unwrap();
        format!("{{ url = \"{url}\", key = \"{key}\" }}")
    }

    #[test]
    fn the_documented_sample_shows_every_default() {
        let sample = include_str!("../../../../docs/config/pool.toml");
        assert_eq!(PoolConfig::from_toml(sample).unwrap(), PoolConfig::default());
        // Each setting stands there, so that nobody has to look for it elsewhere.
        let shown: toml::Table = toml::from_str(sample).unwrap();
        assert_eq!(shown.len(), 15);
        assert_eq!(PoolConfig::from_toml("").unwrap(), PoolConfig::default());
    }

    #[test]
    fn rules_of_payouts_are_checked_at_the_start() {
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let good = format!(
            "[payout]\nname = \"A Pool\"\niban = \"DE89 3704 0044 0532 0130 00\"\nmicro_credits_per_cent = 10000\n\
             remittance = \"lent machines\"\napprovals = 1\napprovers = [{{ name = \"alice\", key = \"ed25519:{key}\" }}]\n"
        );
        let rules = PoolConfig::from_toml(&good).unwrap().payout.unwrap().rules().unwrap();
        assert_eq!((rules.currency.code(), rules.rate.0.get(), rules.approvers.threshold()), ("EUR", 10_000, (1, 1)));
        for (was, is, named) in [
            ("DE89", "DE88", "iban"),
            ("A Pool", "Ä Pool", "name"),
            ("= 10000", "= 0", "micro_credits_per_cent"),
            ("approvals = 1", "approvals = 2", "threshold"),
            ("ed25519:", "", "ed25519:<hex>"),
            ("iban", "ibann", "ibann"),
        ] {
            let error = PoolConfig::from_toml(&good.replacen(was, is, 1)).expect_err(is);
            let message = super::super::actor::describe(&error);
            assert!(message.contains(named), "{is}: {message}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("https_listen = 7", "https_listen"),
            ("http_listn = \"off\"", "http_listn"),
            ("http_listen = \"0.0.0.0:80\"", "http_listen"),
            ("http_listen = \"on\"", "expected `off`"),
            ("connections_max = 0", "connections_max"),
            ("sync_wait_seconds = 0", "sync_wait_seconds"),
            ("device_silence_seconds = 1", "device_silence_seconds"),
            ("lease_seconds = 1", "lease_seconds"),
            ("advertise = [\"pool.example.org\"]", "advertise"),
            ("advertise = [\"https://a:1\"]", "advertise"),
            ("credit_limit = -1", "whole credits"),
            ("credit_limit = \"none\"", "whole credits"),
            ("credit_limit = 9223372036855", "whole credits"),
            ("audit_secret_seconds = 0", "audit_secret_seconds"),
            ("witnesses = [{ url = \"https://w.example\" }]", "key"),
            ("witnesses = [{ url = \"https://w.example\", key = \"w.example\" }]", "NAME+ID+KEY"),
            (&format!("witnesses = [{}]", witness("w.example", KeyType::CosignatureV1)), "https://"),
            (&format!("witnesses = [{}]", witness("https://w.example", KeyType::Ed25519)), "keys of witnesses"),
            (&format!("witnesses = [{0}, {0}]", witness("https://w.example", KeyType::CosignatureV1)), "twice"),
        ] {
            let error = PoolConfig::from_toml(text).expect_err(text);
            let message = super::super::actor::describe(&error);
            assert!(message.contains(named), "{text}: {message}");
        }
        assert_eq!(PoolConfig::from_toml("http_listen = \"off\"").unwrap().http_listen, None);
        let limited = PoolConfig::from_toml("credit_limit = 12").unwrap().credit_limit;
        assert_eq!(limited, CreditLimit::Below(MicroCredits(12_000_000)));
        let one = witness("https://w.example/a", KeyType::CosignatureV1);
        let named = PoolConfig::from_toml(&format!("witnesses = [{one}]")).unwrap().witnesses;
        assert_eq!((named.len(), named[0].url.as_str()), (1, "https://w.example/a"));
    }
}
