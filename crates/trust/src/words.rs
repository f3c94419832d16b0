//! A charter in words, for the person whose device it decides over.

use crate::charter::Charter;
use caii_model::Region;

impl Charter {
    /// Who can make a device run something, and who can stop it, in a sentence.
    pub fn describe(&self) -> String {
        let rules: Vec<String> = self
            .certify
            .iter()
            .map(|mandate| {
                let place = if mandate.region.as_str() == Region::ANY {
                    String::new()
                } else {
                    format!(" in {}", mandate.region)
                };
                let people = mandate.stewards.join(", ");
                match (mandate.threshold as usize, mandate.stewards.len()) {
                    (1, 1) => format!("{people} certified{place}"),
                    (threshold, all) if threshold == all => format!("all of {people} certified{place}"),
                    (threshold, _) => format!("{threshold} of {people} certified{place}"),
                }
            })
            .collect();
        format!(
            "only what {}; any of {} can stop it (charter “{}”, {}, runtime {} or newer)",
            rules.join(", or "),
            self.revoke.join(", "),
            self.name,
            self.id.short(),
            self.runtime_min
        )
    }
}
