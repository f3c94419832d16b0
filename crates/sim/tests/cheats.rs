//! The stated bound against cheats of every kind, and that rules which are wrong are found out.

use caii_sim::cheats::{Attack, CHEATS, Cheat, Damage, Defect, play};
use caii_verify::{Depth, error_bound};

/// Cheats who falsify 0.24 % of their results, which hurts most with 409 audits: 1 / 409.
const WORST: u32 = 2_400;

fn attack(cheats_per_mille: u32, cheat: Cheat) -> Attack {
    Attack {
        seed: 7,
        devices: 100,
        rounds: 80,
        items: 1_000,
        cheats_per_mille,
        cheat,
        falsified_ppm: WORST,
        depth: Depth::default(),
        defect: None,
    }
}

fn bound(per_mille: u32) -> f64 {
    error_bound(f64::from(per_mille) / 1_000.0, Depth::default()).expect("it is below a half")
}

fn everything_was_done(damage: &Damage) {
    assert_eq!(damage.accepted, 100 * 80 * 1_000, "{damage:?}");
}

/// Several plays together: what a cheat earns in one alone may be luck.
fn together(attack: Attack) -> Damage {
    let plays = (0..4).map(|seed| play(Attack { seed, ..attack }));
    plays.inspect(everything_was_done).fold(Damage::default(), |sum, damage| Damage {
        accepted: sum.accepted + damage.accepted,
        wrong: sum.wrong + damage.wrong,
        audited: sum.audited + damage.audited,
        again: sum.again + damage.again,
        caught: sum.caught + damage.caught,
        accused: sum.accused + damage.accused,
        cheats: (sum.cheats.0 + damage.cheats.0, sum.cheats.1 + damage.cheats.1),
        honest: (sum.honest.0 + damage.honest.0, sum.honest.1 + damage.honest.1),
    })
}

#[test]
fn no_cheat_gets_beyond_the_bound_or_earns_more_than_honest_work() {
    for share in [10, 50, 100, 200, 400] {
        for cheat in CHEATS {
            for falsified_ppm in [WORST, 20_000, 1_000_000] {
                let damage = together(Attack { falsified_ppm, ..attack(share, cheat) });
                assert!(damage.error() <= bound(share), "{share} {cheat:?} {falsified_ppm}: {damage:?}");
                assert!(damage.profit() < 1.0, "{share} {cheat:?} {falsified_ppm}: {} {damage:?}", damage.profit());
                assert_eq!(damage.accused, 0, "{share} {cheat:?} {falsified_ppm}");
                assert!(damage.caught > 0, "{share} {cheat:?} {falsified_ppm} is never caught");
            }
        }
    }
}

#[test]
fn in_calm_checking_costs_little_and_accuses_nobody() {
    let damage = play(Attack { rounds: 200, ..attack(0, Cheat::Alone) });
    assert!((0.01..0.02).contains(&damage.overhead()), "{}", damage.overhead());
    assert_eq!((damage.wrong, damage.accused, damage.caught), (0, 0, 0));
}

#[test]
fn wrong_rules_are_found_out() {
    for (defect, cheat) in [
        (Defect::FinalAtOnce, Cheat::Colluding),
        (Defect::DrawnBefore, Cheat::Colluding),
        (Defect::FellowsAudit, Cheat::Colluding),
    ] {
        let damage = play(Attack { defect: Some(defect), falsified_ppm: 20_000, ..attack(100, cheat) });
        assert!(damage.error() > bound(100), "{defect:?} is not found: {damage:?}");
    }
}
