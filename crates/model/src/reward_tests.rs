//! Rewards, prices and receipts: by hand, and what holds for all of them.

use crate::canonical::CanonicalError;
use crate::testing::{any_energy, any_facts, any_policy, any_receipt, any_tariff, tariff, terms};
use crate::{
    Accepted, Account, Claim, DeviceId, Digest, Energy, EnergyMethod, Fuel, JobId, MeterId, MicroCredits, Millijoules,
    Millis, Overflow, PoolId, Receipt, Reward, StepName, Tariff, TaskId, TaskIndex, Timestamp, TrackRecord, Verdict,
    VerificationPolicy, VoidReason, WorkFacts, availability, explain_availability, explain_price, explain_reward,
    explain_settlement, price, quote, reward, settle,
};
use proptest::prelude::*;

/// 12.3456789 * 10^9 units, of which 2 * 10^9 are audits; 97 of 100 tasks accepted; 700 J by RAPL.
fn facts() -> WorkFacts {
    WorkFacts {
        fuel: Fuel(10_345_678_900),
        audit_fuel: Fuel(2_000_000_000),
        record: TrackRecord::new(97, 100).unwrap(),
        energy: Energy { used: Millijoules(700_000), method: EnergyMethod::Rapl },
        probation: true,
    }
}

#[test]
fn each_step_is_that_of_a_calculation_by_hand() {
    let (settlement, steps) = explain_settlement(&tariff(), &facts(), VerificationPolicy::Audit).unwrap();
    let lines: Vec<String> = steps.iter().map(ToString::to_string).collect();
    let results: Vec<&str> = lines.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(
        results,
        [
            "fuel = 12345678900 fuel",
            "compute = 12345 micro-credits",             // 12.3456789 * 1,000
            "accepted share = 970000 ppm",               // 97 / 100
            "bonus = 140000 ppm",                        // 20 % * 7 of 10 points above 90 %
            "reliability = 1728 micro-credits",          // 14 % of 12,345 = 1728.3
            "certified energy = 493827 mJ",              // 12.3456789 * 40 J
            "paid energy = 493827 mJ",                   // of 700 J reported
            "energy = 246 micro-credits",                // 493.827 J at 500 for a kilojoule
            "reward = 14319 micro-credits",              // 12,345 + 1,728 + 246
            "held back = 3580 micro-credits",            // 25 % = 3579.75, which has the larger fraction
            "price of compute = 10346 micro-credits",    // 10.3456789 * 1,000, up
            "price of reliability = 2070 micro-credits", // 20 % of 10,346 = 2069.2, up
            "charged energy = 413828 mJ",                // 413,827.156, up
            "price of energy = 207 micro-credits",       // 206.914, up
            "price of work = 12623 micro-credits",
            "price = 13507 micro-credits",         // 12,623 * 1.07 = 13,506.61, up
            "part for work = 12623 micro-credits", // of 12,623.364, 252.467 and 631.168: one is left over
            "part for verification = 253 micro-credits",
            "part for the pool = 631 micro-credits",
            "part for audits = 2320 micro-credits", // 14,319 - (10,345 + 1,448 + 206)
            "unearned = 624 micro-credits",         // 12,623 - 11,999
        ]
    );
    assert_eq!(
        lines[1],
        "compute = 12345 micro-credits: fuel × compute rate ÷ 10^9, rounded down (fuel 12345678900, compute rate 1000)"
    );
    assert_eq!(steps[4].name.clause().as_str(), "reliability");
    assert_eq!(settlement, settle(&tariff(), &facts(), VerificationPolicy::Audit).unwrap());
}

#[test]
fn presence_is_paid_up_to_the_daily_maximum() {
    let hours = |hours: u64| Millis(hours * 3_600_000);
    let paid = |present| availability(&tariff(), present).unwrap().amount;
    assert_eq!(paid(hours(2)), MicroCredits(7_200));
    assert_eq!(paid(Millis(999)), MicroCredits(0), "rounded down");
    assert_eq!(paid(Millis(1_000)), MicroCredits(1));
    assert_eq!(paid(hours(8)), MicroCredits(28_800));
    assert_eq!(paid(hours(24)), MicroCredits(28_800));
    let (availability, steps) = explain_availability(&tariff(), hours(24)).unwrap();
    assert_eq!(availability.paid, hours(8));
    assert_eq!(steps.iter().map(|step| step.result).collect::<Vec<_>>(), [28_800_000, 28_800]);
}

#[test]
fn the_bonus_begins_at_the_floor_and_ends_at_its_full_value() {
    let bonus = |accepted, decided| {
        let record = TrackRecord::new(accepted, decided).unwrap();
        let facts = WorkFacts { record, fuel: Fuel(1_000_000_000_000), audit_fuel: Fuel(0), ..facts() };
        reward(&tariff(), &facts).unwrap().reliability.0
    };
    assert_eq!(
        [bonus(0, 0), bonus(0, 9), bonus(9, 10), bonus(91, 100), bonus(95, 100), bonus(5, 5)],
        [0, 0, 0, 20_000, 100_000, 200_000]
    );
}

#[test]
fn a_quorum_pays_for_copies_instead_of_a_surcharge() {
    let fuel = Fuel(1_000_000_000_000);
    let total = |policy| quote(&tariff(), [fuel, fuel], policy).unwrap().0;
    let work = 1_000_000 + 200_000 + 20_000;
    assert_eq!(total(VerificationPolicy::Audit), 2 * work * 107 / 100);
    assert_eq!(total(VerificationPolicy::Spot), total(VerificationPolicy::Audit));
    assert_eq!(total(VerificationPolicy::Quorum { copies: 3 }), 2 * 3 * work * 105 / 100);
    assert_eq!(price(&tariff(), fuel, VerificationPolicy::Quorum { copies: 3 }).unwrap().surcharge, MicroCredits(0));
}

#[test]
fn what_does_not_fit_is_an_error_that_names_the_step() {
    let dear =
        Tariff::new(crate::TariffTerms { compute_rate: MicroCredits(1_000_000_000_000_000), ..terms() }).unwrap();
    let much = WorkFacts { fuel: Fuel(u64::MAX), audit_fuel: Fuel(0), ..facts() };
    assert_eq!(reward(&dear, &much), Err(Overflow { step: StepName::Compute }));
    assert_eq!(price(&dear, Fuel(u64::MAX), VerificationPolicy::Audit), Err(Overflow { step: StepName::PriceCompute }));
    let more = WorkFacts { audit_fuel: Fuel(1), ..much };
    assert_eq!(reward(&tariff(), &more), Err(Overflow { step: StepName::Fuel }));
    let tasks = [Fuel(1_000_000_000_000); 1_000];
    assert_eq!(quote(&dear, tasks, VerificationPolicy::Audit), Err(Overflow { step: StepName::Quote }));
    let error = Overflow { step: StepName::Compute };
    assert_eq!(
        error.to_string(),
        "the result of `compute` (fuel × compute rate ÷ 10^9, rounded down) is too large to be counted"
    );
}

#[test]
fn names_of_steps_are_distinct() {
    let names: std::collections::BTreeSet<_> = StepName::ALL.iter().map(|name| name.as_str()).collect();
    assert_eq!(names.len(), StepName::ALL.len());
}

fn receipt() -> Receipt {
    let claim = Claim {
        pool: PoolId([1; 8]),
        device: DeviceId([2; 8]),
        sequence: 3,
        task: TaskId { job: JobId(4), index: TaskIndex(5) },
        workload: Digest([6; 32]),
        meter: MeterId(Digest([7; 32])),
        input: Digest([8; 32]),
        root: Digest([9; 32]),
        items: 10,
        items_failed: 1,
        fuel: Fuel(12_345_678_900),
        cpu: Millis(13),
        wall: Millis(14),
        energy: facts().energy,
        jail: Digest([15; 32]),
    };
    let settled = settle(&tariff(), &facts(), VerificationPolicy::Audit).unwrap();
    Receipt {
        claim,
        claim_signature: [16; 64],
        owner: Account::new("alice").unwrap(),
        policy: VerificationPolicy::Audit,
        tariff: tariff().digest(),
        at: Timestamp(17),
        verdict: Verdict::Accepted(Accepted {
            record: facts().record,
            probation: true,
            audit_fuel: facts().audit_fuel,
            reward: settled.reward,
            charge: settled.price.total,
        }),
    }
}

/// Receipts outlive releases: a change of any of these is a new version of the layout.
#[test]
fn digests_stay_as_they_are() {
    assert_eq!(tariff().digest().hex(), "7b589129e2208baaf5810b26dc912904decdd4ff9263971f313573aa898b5589");
    assert_eq!(receipt().claim.digest().hex(), "2fed1552a4e9b566c67042a1f519172a10664e12bbdde8f0dfc3aae571a936d6");
    assert_eq!(receipt().digest().hex(), "01780c27e1b1ccf48b08efb155e65321b0c945298f7b11fad346ebf1cce442d5");
    let salted = Digest::of(&[&[7; 32][..], &receipt().to_canonical()].concat());
    assert_eq!(receipt().commitment(&[7; 32]), salted);
}

#[test]
fn a_receipt_is_computed_again_from_itself() {
    let settled = receipt().recompute(&tariff()).unwrap().unwrap();
    assert_eq!(settled, settle(&tariff(), &facts(), VerificationPolicy::Audit).unwrap());
    let void = Receipt { verdict: Verdict::Void(VoidReason::Wrong), ..receipt() };
    assert_eq!(void.recompute(&tariff()), Ok(None));
}

#[test]
fn every_field_reaches_the_canonical_bytes() {
    let changes: Vec<fn(&mut Receipt)> = vec![
        |r| r.claim.pool.0[0] = 9,
        |r| r.claim.device.0[0] = 9,
        |r| r.claim.sequence += 1,
        |r| r.claim.task.job.0 += 1,
        |r| r.claim.task.index.0 += 1,
        |r| r.claim.workload.0[0] = 0,
        |r| r.claim.meter.0.0[0] = 0,
        |r| r.claim.input.0[0] = 0,
        |r| r.claim.root.0[0] = 0,
        |r| r.claim.items += 1,
        |r| r.claim.items_failed += 1,
        |r| r.claim.fuel.0 += 1,
        |r| r.claim.cpu.0 += 1,
        |r| r.claim.wall.0 += 1,
        |r| r.claim.energy.used.0 += 1,
        |r| r.claim.energy.method = EnergyMethod::Tdp,
        |r| r.claim.jail.0[0] = 0,
        |r| r.claim_signature[0] = 0,
        |r| r.owner = Account::new("alicf").unwrap(),
        |r| r.owner = Account::new("alice2").unwrap(),
        |r| r.policy = VerificationPolicy::Spot,
        |r| r.policy = VerificationPolicy::Quorum { copies: 2 },
        |r| r.policy = VerificationPolicy::Quorum { copies: 3 },
        |r| r.tariff.0[0] ^= 1,
        |r| r.at.0 += 1,
        |r| accepted(r).record = TrackRecord::new(96, 100).unwrap(),
        |r| accepted(r).record = TrackRecord::new(97, 101).unwrap(),
        |r| accepted(r).probation = false,
        |r| accepted(r).audit_fuel.0 += 1,
        |r| change(&mut accepted(r).reward, |reward| &mut reward.compute),
        |r| change(&mut accepted(r).reward, |reward| &mut reward.reliability),
        |r| change(&mut accepted(r).reward, |reward| &mut reward.energy),
        |r| accepted(r).reward.held.0 += 1,
        |r| accepted(r).charge.0 += 1,
        |r| r.verdict = Verdict::Void(VoidReason::Wrong),
        |r| r.verdict = Verdict::Void(VoidReason::Late),
    ];
    let mut seen = std::collections::BTreeSet::from([receipt().to_canonical()]);
    for (place, change) in changes.iter().enumerate() {
        let mut receipt = receipt();
        change(&mut receipt);
        let bytes = receipt.to_canonical();
        assert_eq!(Receipt::from_canonical(&bytes), Ok(receipt), "change {place}");
        assert!(seen.insert(bytes), "change {place} is not in the bytes");
    }
}

fn accepted(receipt: &mut Receipt) -> &mut Accepted {
    match &mut receipt.verdict {
        Verdict::Accepted(accepted) => accepted,
        Verdict::Void(_) => panic!("it is accepted"),
    }
}

fn change(reward: &mut Reward, part: fn(&mut Reward) -> &mut MicroCredits) {
    part(reward).0 += 1;
    reward.total.0 += 1;
}

#[test]
fn what_is_no_receipt_is_refused() {
    let bytes = receipt().to_canonical();
    let changed = |at: usize, to: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = to;
        Receipt::from_canonical(&bytes)
    };
    let field = |field| Err(CanonicalError::Field { field });
    let claim = 8;
    let policy = 8 + 245 + 64 + 2 + 5;
    let verdict = policy + 1 + 4 + 32 + 8;
    assert_eq!(changed(7, b'2'), Err(CanonicalError::Kind));
    assert_eq!(changed(claim + 7, b'2'), Err(CanonicalError::Kind));
    assert_eq!(changed(claim + 176, 11), field("items_failed"));
    assert_eq!(changed(claim + 212, 5), field("energy_method"));
    assert_eq!(changed(policy - 5, b'A'), field("owner"));
    assert_eq!(changed(policy, 0), field("policy"));
    assert_eq!(changed(policy + 1, 1), field("policy"), "an audit has no copies");
    assert_eq!(changed(policy, 2), field("policy"), "a quorum has at least two");
    assert_eq!(changed(verdict, 3), field("verdict"));
    assert_eq!(changed(verdict, 2), field("reason"));
    assert_eq!(changed(verdict + 8, 0xff), field("accepted"), "more accepted than decided");
    assert_eq!(changed(verdict + 17, 2), field("probation"));
    assert_eq!(changed(verdict + 25, 1), field("audit_fuel"), "more fuel of audits than of all");
    assert_eq!(changed(verdict + 33, 0x80), field("compute"), "less than nothing");
    assert_eq!(changed(verdict + 57, 0x7f), field("held"), "more is held back than was earned");
    assert_eq!(Receipt::from_canonical(&bytes[..policy - 5]), Err(CanonicalError::Short { field: "owner" }));
    assert_eq!(Receipt::from_canonical(&[&bytes[..], b"x"].concat()), Err(CanonicalError::TooLong { by: 1 }));
}

proptest! {
    #[test]
    fn a_quote_is_the_settlement(tariff in any_tariff(), facts in any_facts(), policy in any_policy()) {
        let facts = WorkFacts { audit_fuel: Fuel(0), ..facts };
        let quoted = price(&tariff, facts.fuel, policy);
        match settle(&tariff, &facts, policy) {
            Err(overflow) => prop_assert!(quoted == Err(overflow) || reward(&tariff, &facts) == Err(overflow)),
            Ok(settled) => {
                prop_assert_eq!(quoted, Ok(settled.price));
                prop_assert_eq!(settled.earned, settled.reward.total);
                if policy.copies() == 1 {
                    prop_assert_eq!(quote(&tariff, [facts.fuel], policy), Ok(settled.price.total));
                }
            }
        }
    }

    #[test]
    fn a_job_is_never_charged_beyond_its_quote(
        tariff in any_tariff(), tasks in prop::collection::vec((any_facts(), 0..=1_000_000u64), 1..20),
    ) {
        let bounds = tasks.iter().map(|(facts, _)| facts.fuel);
        if let Ok(quoted) = quote(&tariff, bounds, VerificationPolicy::Audit) {
            // Each task uses what is left of its bound.
            let charges = tasks.iter().map(|(facts, used)| {
                let used = Fuel((u128::from(facts.fuel.0) * u128::from(*used) / 1_000_000) as u64);
                price(&tariff, used, VerificationPolicy::Audit).unwrap().total
            });
            prop_assert!(MicroCredits::checked_sum(charges).unwrap() <= quoted);
        }
    }

    #[test]
    fn a_reward_is_within_the_price(tariff in any_tariff(), facts in any_facts(), policy in any_policy()) {
        if let Ok(settled) = settle(&tariff, &facts, policy) {
            let Reward { compute, reliability, energy, total, held } = settled.reward;
            let parts = [compute, reliability, energy, held, settled.earned_by_audits, settled.unearned];
            prop_assert!(parts.iter().all(|part| *part >= MicroCredits::ZERO), "{:?}", settled);
            prop_assert!(held <= total && settled.earned <= settled.price.work);
            prop_assert_eq!(MicroCredits::checked_sum([settled.earned, settled.earned_by_audits]), Some(total));
            let price = settled.price;
            prop_assert_eq!(MicroCredits::checked_sum([price.work, price.surcharge, price.fee]), Some(price.total));
            prop_assert_eq!(MicroCredits::checked_sum([settled.earned, settled.unearned]), Some(price.work));
        }
    }

    #[test]
    fn more_fuel_never_earns_or_costs_less(
        tariff in any_tariff(), facts in any_facts(), more in 0..1_000_000_000_000u64, policy in any_policy(),
    ) {
        let Some(fuel) = facts.fuel.checked_add(Fuel(more)) else { return Ok(()) };
        let bigger = WorkFacts { fuel, ..facts };
        if let (Ok(less), Ok(more)) = (reward(&tariff, &facts), reward(&tariff, &bigger)) {
            prop_assert!(less.total <= more.total && less.held <= more.held);
        }
        if let (Ok(less), Ok(more)) = (price(&tariff, facts.fuel, policy), price(&tariff, fuel, policy)) {
            // Not its parts: the largest remainder may move from one to another.
            prop_assert!(less.total <= more.total);
        }
    }

    #[test]
    fn reporting_more_energy_than_is_certified_gains_nothing(
        tariff in any_tariff(), facts in any_facts(), energy in any_energy(), factor in 1..1_000_000u64,
    ) {
        let with = |used, method| {
            let energy = Energy { used: Millijoules(used), method };
            reward(&tariff, &WorkFacts { energy, ..facts })
        };
        let all_fuel = u128::from(facts.fuel.0) + u128::from(facts.audit_fuel.0);
        let certified = all_fuel * u128::from(tariff.terms().energy_certified_joules) / 1_000_000;
        if let Ok(certified) = u64::try_from(certified) {
            let honest = with(certified, EnergyMethod::Rapl);
            prop_assert_eq!(with(certified.saturating_mul(factor), EnergyMethod::Rapl), honest);
            prop_assert_eq!(with(u64::MAX, EnergyMethod::Model), honest);
            if let (Ok(any), Ok(most)) = (with(energy.used.0, energy.method), honest) {
                prop_assert!(any.total <= most.total);
            }
        }
        prop_assert_eq!(with(u64::MAX, EnergyMethod::None), with(0, EnergyMethod::Rapl));
    }

    #[test]
    fn explanations_take_the_same_way(tariff in any_tariff(), facts in any_facts(), policy in any_policy()) {
        let results = |steps: &[crate::Step], name| steps.iter().find(|step| step.name == name).map(|step| step.result);
        match (reward(&tariff, &facts), explain_reward(&tariff, &facts)) {
            (Ok(reward), Ok((explained, steps))) => {
                prop_assert_eq!(reward, explained);
                prop_assert_eq!(results(&steps, StepName::Reward), Some(reward.total.0 as u64));
                prop_assert_eq!(results(&steps, StepName::Held), Some(reward.held.0 as u64));
            }
            (plain, explained) => prop_assert_eq!(plain.err(), explained.err()),
        }
        match (price(&tariff, facts.fuel, policy), explain_price(&tariff, facts.fuel, policy)) {
            (Ok(price), Ok((explained, steps))) => {
                prop_assert_eq!(price, explained);
                prop_assert_eq!(results(&steps, StepName::PriceTotal), Some(price.total.0 as u64));
            }
            (plain, explained) => prop_assert_eq!(plain.err(), explained.err()),
        }
    }

    #[test]
    fn receipts_are_read_as_they_are_written(one in any_receipt(), other in any_receipt()) {
        let bytes = one.to_canonical();
        prop_assert_eq!(Receipt::from_canonical(&bytes), Ok(one.clone()));
        prop_assert_eq!(Claim::from_canonical(&one.claim.to_canonical()), Ok(one.claim.clone()));
        prop_assert_eq!(one == other, bytes == other.to_canonical());
        for cut in [0, 7, 8, 100, bytes.len() - 1] {
            prop_assert!(Receipt::from_canonical(&bytes[..cut]).is_err());
        }
    }

    /// One form for each receipt: what is accepted is what would be written, and another bit is another receipt.
    #[test]
    fn no_two_byte_strings_are_one_receipt(receipt in any_receipt(), at: prop::sample::Index, bit in 0..8u8) {
        let mut bytes = receipt.to_canonical();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(changed) = Receipt::from_canonical(&bytes) {
            prop_assert_ne!(&changed, &receipt);
            prop_assert_eq!(changed.to_canonical(), bytes);
        }
    }
}
