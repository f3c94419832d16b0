//! What stewards made of a workload.

use caii_model::{DataTier, Digest, Region, UseCategory};
use caii_trust::{Certified, Rejected, Steward, Trusted, Uncertified, format_time};
use serde::{Deserialize, Serialize};

/// Whether devices of a region run a workload, by whose word, and what is missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CertificationView {
    /// The workload's digest.
    pub workload: String,
    /// The charter's id.
    pub charter: String,
    /// The region whose rule was asked for.
    pub region: String,
    /// Whether they run it.
    pub certified: bool,
    /// How many keys it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u32>,
    /// Whose certifications count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Vec<StewardView>>,
    /// How many keys are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<u32>,
    /// What was signed and does not count, each with its reason: expired, revoked, about something else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_counted: Vec<String>,
    /// What it is certified for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Vec<UseView>>,
    /// Until when at the latest, as `2026-11-24T21:07:26Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why they do not run it: stable, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A steward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StewardView {
    /// The name in the charter.
    pub name: String,
    /// The organisation.
    pub body: String,
}

/// A use, and the data that it is certified on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UseView {
    /// The use.
    pub r#use: String,
    /// The data tier.
    pub tier: String,
}

impl CertificationView {
    /// A decision as people and programs see it.
    pub fn of(trusted: &Trusted, workload: Digest, region: &Region, decision: &Result<Certified, Uncertified>) -> Self {
        let steward = |steward: &Steward| StewardView { name: steward.name.clone(), body: steward.body.clone() };
        let texts = |rejected: &[Rejected]| rejected.iter().map(ToString::to_string).collect();
        let mut view = Self {
            workload: workload.to_string(),
            charter: trusted.charter.id.to_string(),
            region: region.to_string(),
            certified: decision.is_ok(),
            threshold: None,
            signed: None,
            missing: None,
            not_counted: Vec::new(),
            scope: None,
            until: None,
            code: None,
            why: None,
        };
        match decision {
            Ok(certified) => {
                let pair = |(r#use, tier): &(UseCategory, DataTier)| UseView {
                    r#use: r#use.as_str().to_owned(),
                    tier: tier.as_str().to_owned(),
                };
                view.threshold = Some(certified.threshold);
                view.signed = Some(certified.by.iter().map(steward).collect());
                view.missing = Some(0);
                view.not_counted = texts(&certified.rejected);
                view.scope = Some(certified.scope.iter().map(pair).collect());
                view.until = Some(format_time(certified.until));
            }
            Err(why) => {
                view.code = Some(why.code().to_owned());
                view.why = Some(why.to_string());
                if let Uncertified::Missing { signed, threshold, rejected, .. } = why {
                    view.threshold = Some(*threshold);
                    view.signed = Some(signed.iter().map(steward).collect());
                    view.missing = Some(threshold.saturating_sub(signed.len() as u32));
                    view.not_counted = texts(rejected);
                }
            }
        }
        view
    }
}
