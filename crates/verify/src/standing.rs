//! What a device has survived, and what follows from it.
//!
//! A cheat that falsifies a share `s` of its items survives `k` audits with probability (1 - s)^k, so what it gets away
//! with is at most max s(1 - s)^k, about 1 / (e k), of its share of the work. With colluding auditors, who vouch for each
//! other, an audit counts only when an honest device does it: [`error_bound`].

/// Audits that a result must be followed by, all of them survived, to be final: the accepted error at a tenth of colluding
/// capacity is then at most 1e-4.
pub const AUDITS_FINAL: u32 = caii_model::Verification::DEPTH;
/// Of a device that has survived enough, one item in so many is audited.
const CALM: u32 = 100;

/// How thoroughly a job is audited: how many survived audits make a result final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Depth(pub u32);

impl Default for Depth {
    fn default() -> Self {
        Self(AUDITS_FINAL)
    }
}

/// What a device has been asked and has survived, for one workload under one meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Its items that were drawn for an audit, ever.
    pub drawn: u64,
    /// Those whose audit agreed with it.
    pub survived: u64,
}

/// What is remembered of a task's result until it is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Its items.
    pub items: u32,
    /// Its device's [`Standing::drawn`] before any of them was drawn.
    pub mark: u64,
    /// Of its items, those drawn so far.
    pub drawn: u32,
    /// Of these, those that agreed.
    pub survived: u32,
}

/// How many items of a task of `items` are drawn when its device stands so: one in a hundred on average, whatever the size
/// of its tasks, and at first as many as the depth says. `chance` is a fair number below 100 that the device could not
/// know ([`draw_chance`](crate::draw_chance)).
pub fn audits_due(standing: Standing, items: u32, depth: Depth, chance: u32) -> u32 {
    let missing = u64::from(depth.0).saturating_sub(standing.drawn);
    let missing = u32::try_from(missing).expect("it is at most the depth");
    let calm = items / CALM + u32::from(chance < items % CALM);
    calm.max(missing).min(items)
}

impl Record {
    /// Whether the result is final: every one of its own audits agreed, and either as many audits as the depth says did that were
    /// drawn with it or later, or all of its items were audited.
    pub fn is_final(&self, standing: Standing, depth: Depth) -> bool {
        self.survived == self.drawn && (self.drawn == self.items || self.missing(standing, depth) == 0)
    }

    /// Audits that still have to be survived. Those drawn before the result are at most `mark`, so what goes beyond is
    /// later. With no depth, a result's own audits are all that counts.
    pub fn missing(&self, standing: Standing, depth: Depth) -> u64 {
        self.short(depth, standing.survived)
    }

    /// Audits that have to be drawn besides, if the device does nothing more.
    pub fn undrawn(&self, standing: Standing, depth: Depth) -> u64 {
        self.short(depth, standing.drawn)
    }

    fn short(&self, depth: Depth, of: u64) -> u64 {
        if depth.0 == 0 { 0 } else { (self.mark + u64::from(depth.0)).saturating_sub(of) }
    }
}

/// The largest share of records that are accepted although they are wrong, when `share` of the capacity colludes and each
/// cheat chooses what hurts most: share / (e k (1 - share)). Nothing when the share is not below one half, beyond which
/// no bound is claimed.
pub fn error_bound(share: f64, depth: Depth) -> Option<f64> {
    let bound = share / (std::f64::consts::E * f64::from(depth.0) * (1.0 - share));
    ((0.0..0.5).contains(&share) && depth.0 > 0).then_some(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEPTH: Depth = Depth(AUDITS_FINAL);

    #[test]
    fn a_new_device_is_audited_heavily_and_a_known_one_hardly() {
        let due = |drawn, items| audits_due(Standing { drawn, survived: drawn }, items, DEPTH, 99);
        assert_eq!(due(0, 1_000), 409);
        assert_eq!(due(0, 100), 100);
        assert_eq!(due(100, 1_000), 309);
        assert_eq!(due(400, 1_000), 10);
        assert_eq!(due(409, 1_000), 10);
        assert_eq!(due(0, 0), 0);
        // A fair draw decides on what is left of a hundred.
        let known = Standing { drawn: 1_000_000, survived: 1_000_000 };
        let chances = |items| (0..100).map(|chance| audits_due(known, items, DEPTH, chance)).collect::<Vec<_>>();
        for items in [1, 50, 99, 100, 101, 250, 1_001] {
            assert_eq!(chances(items).iter().sum::<u32>(), items, "of {items}");
        }
        assert_eq!(audits_due(Standing::default(), 250, Depth(0), 0), 3);
        assert_eq!(audits_due(Standing::default(), 250, Depth(0), 99), 2);
    }

    #[test]
    fn the_bound_is_the_one_that_is_stated() {
        let bound = error_bound(0.1, DEPTH).unwrap();
        assert!((9.9e-5..=1.0e-4).contains(&bound), "{bound}");
        assert_eq!(error_bound(0.0, DEPTH), Some(0.0));
        assert_eq!(error_bound(0.5, DEPTH), None);
        assert_eq!(error_bound(-0.1, DEPTH), None);
        assert_eq!(error_bound(0.1, Depth(0)), None);
    }

    #[test]
    fn a_result_is_final_when_enough_was_survived_since_or_all_of_it_was_checked() {
        let record = Record { items: 1_000, mark: 500, drawn: 10, survived: 10 };
        let at = |survived| Standing { drawn: 2_000, survived };
        assert!(!record.is_final(at(908), DEPTH));
        assert!(record.is_final(at(909), DEPTH));
        assert!(!Record { survived: 9, ..record }.is_final(at(2_000), DEPTH), "one of its own is still open");
        let whole = Record { items: 10, mark: 500, drawn: 10, survived: 10 };
        assert!(whole.is_final(at(0), DEPTH));
        assert!(!Record { survived: 9, ..whole }.is_final(at(0), DEPTH));
        assert!(record.is_final(at(0), Depth(0)), "with no depth its own audits are enough");
        assert!(!Record { survived: 9, ..record }.is_final(at(0), Depth(0)));
    }

    proptest! {
        /// Whatever the order in which audits come back, a final result was followed by enough of them.
        #[test]
        fn enough_audits_were_drawn_with_or_after_a_final_result(
            sizes in prop::collection::vec(1..800_u32, 1..30),
            agreed: u64,
            depth in 1..600_u32,
        ) {
            let depth = Depth(depth);
            let mut standing = Standing::default();
            let mut records = Vec::new();
            for items in sizes {
                let drawn = audits_due(standing, items, depth, 50);
                records.push(Record { items, mark: standing.drawn, drawn, survived: drawn });
                standing.drawn += u64::from(drawn);
            }
            standing.survived = agreed % (standing.drawn + 1);
            for record in records {
                if record.is_final(standing, depth) && record.drawn < record.items {
                    // Even if everything before it was among those that came back.
                    prop_assert!(standing.survived - record.mark.min(standing.survived) >= u64::from(depth.0));
                }
                prop_assert!(record.undrawn(standing, depth) <= record.missing(standing, depth));
            }
        }
    }
}
