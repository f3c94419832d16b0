//! How many of the device's claims its pool has decided, as far as the pool says so.

use std::fmt;

/// What a device knows of its claims to a pool. It outlives the agent's process: the shell keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claims {
    /// The most that the pool ever said it has decided. An audit of what the pool publishes finds as many receipts of
    /// this device, or the pool has hidden some.
    pub decided: u64,
    /// What the pool decided once and does not know any more.
    pub forgotten: Option<Forgotten>,
}

/// Numbers of claims whose receipts a pool has forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl fmt::Display for Forgotten {
    /// A sentence for the contributor.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        write!(
            f,
            "The pool has forgotten receipts of this device: it had decided its claims {first} to {last}, and then said that \
             it has decided {}. Ask its operator whether an old copy of the pool was restored.",
            first - 1
        )
    }
}

impl Claims {
    /// Takes up how many the pool says that it has decided.
    pub(crate) fn heard(&mut self, decided: u64) {
        if decided < self.decided {
            let (first, last) = (decided + 1, self.decided);
            let before = self.forgotten.unwrap_or(Forgotten { first, last });
            self.forgotten = Some(Forgotten { first: first.min(before.first), last: last.max(before.last) });
        }
        self.decided = self.decided.max(decided);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_is_not_forgotten_with_the_pool() {
        let mut claims = Claims::default();
        [0, 7, 7, 9].into_iter().for_each(|decided| claims.heard(decided));
        assert_eq!(claims, Claims { decided: 9, forgotten: None });
        claims.heard(4);
        assert_eq!(claims, Claims { decided: 9, forgotten: Some(Forgotten { first: 5, last: 9 }) });
        // The numbers are given again, which brings no receipt back.
        [5, 12, 11].into_iter().for_each(|decided| claims.heard(decided));
        assert_eq!(claims, Claims { decided: 12, forgotten: Some(Forgotten { first: 5, last: 12 }) });
    }
}
