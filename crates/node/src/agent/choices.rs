//! What a contributor chooses: in `agent.toml` in the agent's directory, or on the command line, which has the last word.
//! `docs/config/agent.toml` shows every setting.

use super::notes;
use caii_model::{DataTier, JailLayer, JailLayers, Region, UseCategory};
use caii_sandbox::JailPolicy;
use caii_trust::{Limit, LimitCaps, LocalPolicy};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The file in an agent's directory.
pub(super) const FILE: &str = "agent.toml";
/// What the agent that was started last was started with.
const IN_FORCE: &str = "choices.json";

/// A contributor's choices. What is absent is not limited beyond what the release and the stewards limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Choices {
    /// Where the device is, as charters name regions.
    #[serde(deserialize_with = "word", serialize_with = "to_text")]
    pub region: Option<Region>,
    /// What it may be used for.
    #[serde(deserialize_with = "words", serialize_with = "to_texts")]
    pub uses: Option<BTreeSet<UseCategory>>,
    /// On which data.
    #[serde(deserialize_with = "words", serialize_with = "to_texts")]
    pub data_tiers: Option<BTreeSet<DataTier>>,
    /// The most memory that a program may ask for.
    pub memory_max_mib: Option<u64>,
    /// The most fuel that an item may ask for.
    pub fuel_per_item_max: Option<u64>,
    /// The most fuel that an initialiser may ask for.
    pub fuel_init_max: Option<u64>,
    /// The most output that an item may ask for.
    pub output_per_item_max_mib: Option<u64>,
    /// The most time that an item may ask for.
    pub wall_per_item_max_seconds: Option<u64>,
    /// Mandatory layers of the jail without which programs run all the same.
    #[serde(deserialize_with = "layers", serialize_with = "to_names")]
    pub allow_weak_jail: Option<JailLayers>,
}

/// Why a contributor's choices are not acceptable.
#[derive(Debug, thiserror::Error)]
pub enum ChoicesError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{} is not valid; docs/config/agent.toml shows every setting", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value breaks a rule.
    #[error("the setting `{setting}` {rule}")]
    Value {
        /// Which setting.
        setting: &'static str,
        /// What would be right.
        rule: &'static str,
    },
}

impl Choices {
    /// Those of the file in an agent's directory; without one there are none.
    ///
    /// # Errors
    /// When the file cannot be read, is no TOML, has an unknown setting or a value that breaks a rule.
    pub fn in_dir(dir: &Path) -> Result<Self, ChoicesError> {
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ChoicesError::Read { path, source }),
        };
        let choices: Self =
            toml::from_str(&text).map_err(|source| ChoicesError::Syntax { path, source: Box::new(source) })?;
        choices.check()?;
        Ok(choices)
    }

    /// Checks what types do not.
    ///
    /// # Errors
    /// [`ChoicesError::Value`].
    pub fn check(&self) -> Result<(), ChoicesError> {
        let error = |setting, rule| Err(ChoicesError::Value { setting, rule });
        let positive = [
            ("memory_max_mib", self.memory_max_mib),
            ("fuel_per_item_max", self.fuel_per_item_max),
            ("fuel_init_max", self.fuel_init_max),
            ("output_per_item_max_mib", self.output_per_item_max_mib),
            ("wall_per_item_max_seconds", self.wall_per_item_max_seconds),
        ];
        if let Some((setting, _)) = positive.into_iter().find(|(_, value)| *value == Some(0)) {
            return error(setting, "must be at least 1: with 0 nothing could run");
        }
        let nothing = "allows nothing at all; leave it out to allow everything";
        if self.uses.as_ref().is_some_and(BTreeSet::is_empty) {
            return error("uses", nothing);
        }
        if self.data_tiers.as_ref().is_some_and(BTreeSet::is_empty) {
            return error("data_tiers", nothing);
        }
        if self.data_tiers.as_ref().is_some_and(|tiers| tiers.contains(&DataTier::Attested)) {
            return error("data_tiers", "names t3, which is for attested hardware; no device can prove yet that it is");
        }
        Ok(())
    }

    /// These, and where they say nothing, the others.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            region: self.region.or(other.region),
            uses: self.uses.or(other.uses),
            data_tiers: self.data_tiers.or(other.data_tiers),
            memory_max_mib: self.memory_max_mib.or(other.memory_max_mib),
            fuel_per_item_max: self.fuel_per_item_max.or(other.fuel_per_item_max),
            fuel_init_max: self.fuel_init_max.or(other.fuel_init_max),
            output_per_item_max_mib: self.output_per_item_max_mib.or(other.output_per_item_max_mib),
            wall_per_item_max_seconds: self.wall_per_item_max_seconds.or(other.wall_per_item_max_seconds),
            allow_weak_jail: self.allow_weak_jail.or(other.allow_weak_jail),
        }
    }

    /// What the gate asks.
    pub fn policy(&self) -> LocalPolicy {
        let mut policy = LocalPolicy::open(self.region.clone().unwrap_or_else(Region::any), super::runtime_version());
        if let Some(uses) = &self.uses {
            policy.uses = uses.clone();
        }
        if let Some(tiers) = &self.data_tiers {
            policy.data_tiers = tiers.clone();
        }
        policy.limits = self.caps();
        policy
    }

    fn caps(&self) -> LimitCaps {
        let mebi = |count: Option<u64>| count.map(|count| count.saturating_mul(1 << 20));
        LimitCaps {
            fuel_per_item: self.fuel_per_item_max,
            fuel_init: self.fuel_init_max,
            memory: mebi(self.memory_max_mib),
            output_per_item: mebi(self.output_per_item_max_mib),
            wall_per_item: self.wall_per_item_max_seconds.map(|seconds| seconds.saturating_mul(1_000)),
        }
    }

    /// What the jail may lack.
    pub fn jail(&self) -> JailPolicy {
        JailPolicy { may_lack: self.allow_weak_jail.unwrap_or(JailLayers::NONE) }
    }

    /// The same in sentences; none where nothing was chosen.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![];
        if let Some(region) = &self.region {
            lines.push(format!("You say that this device is in the region {region}."));
        }
        if let Some(uses) = &self.uses {
            lines.push(format!("You allow these uses: {}.", list(uses)));
        }
        if let Some(tiers) = &self.data_tiers {
            let told: Vec<String> = tiers.iter().map(|tier| format!("{tier} ({})", tier.meaning())).collect();
            lines.push(format!("You allow this data: {}.", told.join(", ")));
        }
        let caps = self.caps();
        let caps = [
            (Limit::Memory, caps.memory),
            (Limit::FuelPerItem, caps.fuel_per_item),
            (Limit::FuelInit, caps.fuel_init),
            (Limit::OutputPerItem, caps.output_per_item),
            (Limit::WallPerItem, caps.wall_per_item),
        ];
        let told: Vec<String> = caps.into_iter().filter_map(|(limit, cap)| Some(limit.of(cap?))).collect();
        if !told.is_empty() {
            lines.push(format!("You allow at most {}.", told.join(", ")));
        }
        let lacking: Vec<&str> =
            self.jail().may_lack.iter().filter(|layer| layer.is_mandatory()).map(JailLayer::name).collect();
        if !lacking.is_empty() {
            lines.push(format!("You let programs run without these layers of the jail: {}.", lacking.join(", ")));
        }
        lines
    }

    /// Notes that these are in force, for whoever asks while the agent runs.
    pub(crate) fn note(&self, dir: &Path) {
        notes::write(&dir.join(IN_FORCE), self);
    }

    /// Those that the agent of this directory was started with last; before it ever was, those of its file.
    pub(crate) fn in_force(dir: &Path) -> Result<Self, ChoicesError> {
        notes::read(&dir.join(IN_FORCE)).map_or_else(|| Self::in_dir(dir), Ok)
    }
}

/// The layer of this name, which may be missing.
///
/// # Errors
/// When there is none: which names there are, of those that would be missed.
pub fn weak_layer(name: &str) -> Result<JailLayer, String> {
    let mandatory = || JailLayer::ALL.into_iter().filter(|layer| layer.is_mandatory());
    JailLayer::named(name).ok_or_else(|| {
        let known: Vec<&str> = mandatory().map(JailLayer::name).collect();
        format!("`{name}` is no layer of the jail; there are {}", known.join(", "))
    })
}

fn list<T: ToString>(words: &BTreeSet<T>) -> String {
    words.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn parsed<T: FromStr<Err: std::fmt::Display>, E: serde::de::Error>(text: &str) -> Result<T, E> {
    text.parse().map_err(E::custom)
}

fn word<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(source: D) -> Result<Option<T>, D::Error> {
    Option::<String>::deserialize(source)?.map(|text| parsed(&text)).transpose()
}

fn words<'de, D, T>(source: D) -> Result<Option<BTreeSet<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display> + Ord,
{
    texts(source)?.map(|texts| texts.iter().map(|text| parsed(text)).collect()).transpose()
}

fn layers<'de, D: Deserializer<'de>>(source: D) -> Result<Option<JailLayers>, D::Error> {
    let named = |name: &String| weak_layer(name).map_err(serde::de::Error::custom);
    texts(source)?.map(|texts| texts.iter().map(named).collect()).transpose()
}

fn texts<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Vec<String>>, D::Error> {
    Option::deserialize(source)
}

fn to_text<S: serde::Serializer>(region: &Option<Region>, to: S) -> Result<S::Ok, S::Error> {
    region.as_ref().map(Region::as_str).serialize(to)
}

fn to_texts<S: serde::Serializer, T: ToString>(words: &Option<BTreeSet<T>>, to: S) -> Result<S::Ok, S::Error> {
    let texts = words.as_ref().map(|words| words.iter().map(ToString::to_string).collect::<Vec<_>>());
    texts.serialize(to)
}

fn to_names<S: serde::Serializer>(layers: &Option<JailLayers>, to: S) -> Result<S::Ok, S::Error> {
    layers.map(|layers| layers.iter().map(JailLayer::name).collect::<Vec<_>>()).serialize(to)
}

#[cfg(test)]
mod tests {
    use super::super::workshop::with_sources;
    use super::*;

    fn read(text: &str) -> Result<Choices, ChoicesError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), text).unwrap();
        Choices::in_dir(dir.path())
    }

    fn everything() -> Choices {
        Choices {
            region: Some("eu".parse().unwrap()),
            uses: Some([UseCategory::Embedding, UseCategory::DataProcessing].into()),
            data_tiers: Some([DataTier::Public].into()),
            memory_max_mib: Some(2_048),
            fuel_per_item_max: Some(200_000_000_000),
            fuel_init_max: Some(200_000_000_000),
            output_per_item_max_mib: Some(4),
            wall_per_item_max_seconds: Some(120),
            allow_weak_jail: Some([JailLayer::UserNamespace, JailLayer::EmptyRoot].into_iter().collect()),
        }
    }

    #[test]
    fn the_documented_sample_shows_every_setting_and_by_itself_chooses_nothing() {
        let sample = include_str!("../../../../docs/config/agent.toml");
        assert_eq!(read(sample).unwrap(), Choices::default());
        // With the example of each setting taken in.
        let chosen: String =
            sample.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
        assert_eq!(read(&chosen).unwrap(), everything());
        assert_eq!(read("").unwrap(), Choices::default());
    }

    #[test]
    fn without_a_file_nothing_is_chosen_and_everything_insisted_on() {
        let dir = tempfile::tempdir().unwrap();
        let choices = Choices::in_dir(dir.path()).unwrap();
        assert_eq!((choices.jail(), choices.lines()), (JailPolicy::REQUIRE, vec![]));
        assert_eq!(choices.policy(), LocalPolicy::open(Region::any(), super::super::runtime_version()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("memory_max_mib = 0", "memory_max_mib"),
            ("memory_max_mib = -1", "memory_max_mib"),
            ("memory_max = 3", "memory_max"),
            ("region = \"EU\"", "`EU` is no region"),
            ("uses = [\"mining\"]", "`mining` is no use category"),
            ("uses = []", "uses"),
            ("data_tiers = [\"t3\"]", "t3, which is for attested hardware"),
            ("data_tiers = []", "data_tiers"),
            ("allow_weak_jail = [\"root\"]", "`root` is no layer of the jail; there are not-root, "),
            ("allow_weak_jail = true", "allow_weak_jail"),
            ("wall_per_item_max_seconds = 0", "wall_per_item_max_seconds"),
        ] {
            let message = with_sources(&read(text).expect_err(text));
            assert!(message.contains(named), "{text}: {message}");
        }
    }

    #[test]
    fn the_command_line_has_the_last_word() {
        let line = Choices { memory_max_mib: Some(1), allow_weak_jail: Some(JailLayers::NONE), ..Choices::default() };
        let both = line.or(everything());
        assert_eq!((both.memory_max_mib, both.jail()), (Some(1), JailPolicy::REQUIRE));
        assert_eq!(both.region, everything().region);
        assert_eq!(Choices::default().or(everything()), everything());
    }

    #[test]
    fn choices_become_what_the_gate_and_the_jail_ask() {
        let policy = everything().policy();
        assert_eq!((policy.region.as_str(), policy.uses.len(), policy.data_tiers.len()), ("eu", 2, 1));
        let expected = LimitCaps {
            fuel_per_item: Some(200_000_000_000),
            fuel_init: Some(200_000_000_000),
            memory: Some(2_147_483_648),
            output_per_item: Some(4_194_304),
            wall_per_item: Some(120_000),
        };
        assert_eq!(policy.limits, expected);
        let jail = everything().jail();
        assert!(!jail.insists_on(JailLayer::EmptyRoot) && jail.insists_on(JailLayer::Sealed));
        let expected = [
            "You say that this device is in the region eu.",
            "You allow these uses: embedding, data-processing.",
            "You allow this data: t0 (public or synthetic data).",
            "You allow at most 2048 MiB of memory, 200000000000 units of fuel per item, 200000000000 units of fuel for \
             the initialiser, 4 MiB of output per item, 120 s per item.",
            "You let programs run without these layers of the jail: user-namespace, empty-root.",
        ];
        assert_eq!(everything().lines(), expected);
    }

    #[test]
    fn what_is_in_force_is_what_the_agent_was_started_with() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "memory_max_mib = 7").unwrap();
        assert_eq!(Choices::in_force(dir.path()).unwrap().memory_max_mib, Some(7));
        everything().note(dir.path());
        assert_eq!(Choices::in_force(dir.path()).unwrap(), everything());
    }
}
