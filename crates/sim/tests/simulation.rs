//! Seeds, determinism, and the checkers' own test: known defects must be found.

use caii_model::Verification;
use caii_sim::{Character, JobPlan, Liar, Mutation, Outcome, Plan, Rates, run};

/// Plays a plan; if something does not hold, plays it again with a trace and shows its end.
fn check(plan: &Plan) -> Outcome {
    struct Played(u64);
    impl Drop for Played {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("seed {}", self.0);
            }
        }
    }
    let _played = Played(plan.seed);
    let outcome = run(plan);
    if let Err(wrong) = &outcome.verdict {
        let again = run(&Plan { traced: true, ..plan.clone() });
        let tail = &again.trace[again.trace.len().saturating_sub(50)..];
        panic!(
            "seed {}: {wrong}\n{}\n(see `cargo run -p caii-sim --example sim -- --seed {} --trace`)",
            plan.seed,
            tail.join("\n"),
            plan.seed
        );
    }
    outcome
}

#[test]
fn whatever_happens_nothing_is_lost_and_every_job_ends() {
    let seeds = std::env::var("CAII_SIM_SEEDS").map_or(300, |count| count.parse().expect("CAII_SIM_SEEDS is a number"));
    let (mut settled, mut crashes, mut given_up) = (0, 0, 0);
    for seed in 0..seeds {
        let stats = check(&Plan::from_seed(seed)).stats;
        settled += stats.settled;
        crashes += stats.crashes;
        given_up += stats.given_up;
    }
    // Seeds that exercise nothing would find nothing.
    assert!(settled >= 5 * seeds && crashes >= seeds && given_up > 0, "{settled} {crashes} {given_up}");
}

/// Seeds that once found something, by what they found. They play it again only as long as the plans that seeds give stay
/// the same, so what was found has a test of its own beside the code too.
#[test]
fn what_seeds_found_stays_away() {
    let found = [
        // An agent dies with a beginning on its way, is started again and begins before that one arrives.
        7_520, 8_391,
        // A program that starts nowhere, on two devices; a third one is there and never tries.
        212_036, // A convict's tasks of another job have the numbers of the task that shows it.
        1_952, 5_442, // An audit's two devices are both wrong about the same item.
        2_902,
    ];
    found.into_iter().for_each(|seed| drop(check(&Plan::from_seed(seed))));
}

/// A job that is audited, by three honest devices and one that lies, with the coordinator's process dying once at each of
/// its commits, before and after it is durable: every time all is paid once and the log is in order.
#[test]
fn a_death_at_any_commit_pays_once() {
    let liar = Character::Lies(Liar { per_mille: 300, colludes: false });
    let plan = |seed, verification, dies_at_commit| Plan {
        devices: vec![Character::Honest, Character::Honest, Character::Honest, liar],
        owners: 4,
        jobs: vec![JobPlan { verification, ..JobPlan::new(0, 8) }],
        patience: 7_200_000,
        dies_at_commit,
        ..Plan::calm(seed)
    };
    for (seed, verification) in [(1, Verification::Audit { depth: 6 }), (2, Verification::Quorum { results: 2 })] {
        let undisturbed = check(&plan(seed, verification, None)).stats;
        assert!(undisturbed.entries > 40, "{undisturbed:?}");
        let mut deaths = 0;
        // The first eight found the pool.
        for commit in 9..=undisturbed.commits {
            for after in [false, true] {
                deaths += check(&plan(seed, verification, Some((commit, after)))).stats.crashes;
            }
        }
        assert!(deaths + 8 >= undisturbed.commits, "{deaths} deaths in {} commits", undisturbed.commits);
    }
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in [1, 2, 3] {
        let plan = Plan { traced: true, ..Plan::from_seed(seed) };
        let (first, second) = (run(&plan), run(&plan));
        assert!(first.trace.len() > 100);
        assert_eq!(first.trace.join("\n"), second.trace.join("\n"), "seed {seed}");
        let untraced = run(&Plan { traced: false, ..plan.clone() });
        assert_eq!(untraced.stats, first.stats, "tracing changes what happens in seed {seed}");
        assert_ne!(run(&Plan { seed: seed + 1_000, ..plan }).trace, first.trace, "the seed decides nothing");
    }
}

/// What the checkers say of a pool with this defect.
fn found(mutation: Mutation, rates: Rates, devices: &[Character]) -> String {
    let found = (0..20).find_map(|seed| {
        let plan = Plan {
            mutation: Some(mutation),
            rates,
            heal_at: 60_000,
            devices: devices.to_vec(),
            jobs: (0..6).map(|number| JobPlan::new(number * 8_000, 12)).collect(),
            ..Plan::calm(seed)
        };
        let sound = run(&Plan { mutation: None, ..plan.clone() });
        assert_eq!(sound.verdict, Ok(()), "without the defect, seed {seed}");
        run(&plan).verdict.err()
    });
    found.unwrap_or_else(|| panic!("{mutation:?} is not found in twenty seeds"))
}

const HONEST: [Character; 3] = [Character::Honest; 3];

#[test]
fn speaking_before_the_commit_is_found() {
    let wrong = found(Mutation::SpeaksBeforeCommit, Rates::default(), &HONEST);
    assert!(wrong.contains("acknowledged and not durable"), "{wrong}");
}

#[test]
fn a_store_that_loses_commits_is_found() {
    let rates = Rates { coordinator_crash: 5_000, ..Rates::default() };
    let wrong = found(Mutation::LosesCommits, rates, &HONEST);
    assert!(wrong.contains("what was loaded differs") || wrong.contains("the store refuses"), "{wrong}");
}

#[test]
fn taking_a_result_twice_is_found() {
    let rates = Rates { coordinator_crash: 5_000, ..Rates::default() };
    let wrong = found(Mutation::AcceptsResultsTwice, rates, &HONEST);
    let words = ["the store refuses", "although it was done", "counts that has no result"];
    assert!(words.iter().any(|words| wrong.contains(words)), "{wrong}");
}

#[test]
fn forgetting_the_tasks_of_lost_devices_is_found() {
    let devices = [Character::Honest, Character::Leaves, Character::Leaves];
    let wrong = found(Mutation::ForgetsLostDevices, Rates::default(), &devices);
    assert!(wrong.contains("did not end although nothing goes wrong any more"), "{wrong}");
}

#[test]
fn taking_forged_leases_is_found() {
    let devices = [Character::Honest, Character::Forger, Character::Forger];
    let wrong = found(Mutation::AcceptsForgedLeases, Rates::default(), &devices);
    assert!(wrong.contains("without a lease that was given for it"), "{wrong}");
}

#[test]
fn writing_a_record_twice_is_found() {
    let wrong = found(Mutation::WritesRecordsTwice, Rates::default(), &HONEST);
    assert!(wrong.contains("some record is not there exactly once"), "{wrong}");
}

#[test]
fn blaming_a_task_for_what_did_not_happen_is_found() {
    let wrong = found(Mutation::BlamesTheInnocent, Rates::default(), &HONEST);
    assert!(wrong.contains("which did not happen"), "{wrong}");
}
