//! What cheats achieve: `cargo run --release -p caii-sim --example cheats`. For each share of cheats and each kind it searches
//! the share of results that a cheat has to falsify to hurt most, and prints what comes of it beside the stated bound.

use caii_sim::cheats::{Attack, CHEATS, Cheat, Damage, play};
use caii_verify::{Depth, error_bound};

const DEVICES: usize = 200;
const ROUNDS: usize = 120;
const ITEMS: u32 = 1_000;
/// Items falsified, of a million: around what hurts most (2,400 with 409 audits), and blatant.
const RATES: [u32; 7] = [300, 1_000, 2_400, 5_000, 20_000, 200_000, 1_000_000];

fn attack(cheats_per_mille: u32, cheat: Cheat, falsified_ppm: u32) -> Attack {
    Attack {
        seed: 1,
        devices: DEVICES,
        rounds: ROUNDS,
        items: ITEMS,
        cheats_per_mille,
        cheat,
        falsified_ppm,
        depth: Depth::default(),
        defect: None,
    }
}

fn main() {
    let calm = play(attack(0, Cheat::Alone, 0));
    println!("no cheats: {:.2} % overhead, {} audits", calm.overhead() * 100.0, calm.audited);
    println!("\ncheats   kind       falsified  accepted error  bound     overhead  profit  caught  accused");
    let (mut accused, mut audits) = (calm.accused, calm.audited);
    let (mut worst_at_tenth, mut overhead_at_tenth) = (0.0_f64, 0.0_f64);
    let mut all_within = true;
    for share in [10, 50, 100, 200, 400] {
        let bound = error_bound(f64::from(share) / 1_000.0, Depth::default()).expect("it is below a half");
        for cheat in CHEATS {
            let played: Vec<(u32, Damage)> =
                RATES.iter().map(|rate| (*rate, play(attack(share, cheat, *rate)))).collect();
            accused += played.iter().map(|(_, damage)| damage.accused).sum::<u64>();
            audits += played.iter().map(|(_, damage)| damage.audited).sum::<u64>();
            let worst =
                played.iter().max_by(|(_, a), (_, b)| a.error().total_cmp(&b.error())).expect("rates were tried");
            let (rate, damage) = worst;
            let profit = played.iter().map(|(_, damage)| damage.profit()).fold(0.0, f64::max);
            let within = damage.error() <= bound;
            all_within &= within;
            if share == 100 {
                overhead_at_tenth =
                    if damage.error() >= worst_at_tenth { damage.overhead() } else { overhead_at_tenth };
                worst_at_tenth = worst_at_tenth.max(damage.error());
            }
            println!(
                "{:>4} %   {:<10} {:>7.2} %   {:>12.2e}  {:>8.2e}  {:>7.2} %  {:>6.3}  {:>6}  {:>7}{}",
                share / 10,
                format!("{cheat:?}"),
                f64::from(*rate) / 10_000.0,
                damage.error(),
                bound,
                damage.overhead() * 100.0,
                profit,
                damage.caught,
                damage.accused,
                if within { "" } else { "  ABOVE THE BOUND" }
            );
        }
    }
    println!(
        "\nEvery cell within its bound: {}. Falsely accused in {audits} audits: {accused}.",
        if all_within { "yes" } else { "NO" }
    );
    println!("P9.error: {worst_at_tenth:.1e} | bar 1e-4 | peer 2.8e-2 (quorum of two), 4.8e-2 (BOINC adaptive)");
    println!(
        "P9.overhead_calm: {:.2} % | bar 2 | peer 118 (quorum of two), 8 (BOINC adaptive)",
        calm.overhead() * 100.0
    );
    println!("P9.overhead_attack: {:.1} % | bar 10 | peer 118 (quorum of two)", overhead_at_tenth * 100.0);
    println!("P9.false_accusations: {accused} | bar 0 | peer 9e-6 an audit (VeriLLM)");
}
