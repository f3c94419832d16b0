//! Tariffs, facts and receipts for the tests of this crate.

use crate::{
    Accepted, Account, Claim, DeviceId, Digest, Energy, EnergyMethod, Fuel, JobId, MeterId, MicroCredits, Millijoules,
    Millis, PoolId, Ppm, Receipt, Reward, Tariff, TariffTerms, TaskId, TaskIndex, Timestamp, TrackRecord, Verdict,
    VerificationPolicy, VoidReason, WorkFacts,
};
use proptest::prelude::*;

/// Rates that make every step visible in a calculation by hand.
pub(crate) fn terms() -> TariffTerms {
    TariffTerms {
        number: 1,
        effective_from: Timestamp(1_800_000_000_000),
        compute_rate: MicroCredits(1_000),
        reliability_bonus: Ppm(200_000),
        reliability_share_floor: Ppm(900_000),
        availability_rate: MicroCredits(3_600),
        availability_daily_max: Millis(8 * 3_600_000),
        energy_rate: MicroCredits(500),
        energy_certified_joules: 40,
        verification_surcharge: Ppm(20_000),
        pool_fee: Ppm(50_000),
        probation_holdback: Ppm(250_000),
    }
}

pub(crate) fn tariff() -> Tariff {
    Tariff::new(terms()).unwrap()
}

/// A number of any magnitude, as often small as large.
fn any_size(max: u64) -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(max), 0..=max.min(1_000), (0..64u32).prop_map(move |bits| max >> bits), 0..=max]
}

fn any_rate() -> impl Strategy<Value = MicroCredits> {
    prop_oneof![3 => any_size(10_000_000), 1 => any_size(Tariff::RATE_MAX)].prop_map(|rate| MicroCredits(rate as i64))
}

fn any_share(max: u32) -> impl Strategy<Value = Ppm> {
    any_size(u64::from(max)).prop_map(|share| Ppm(share as u32))
}

pub(crate) fn any_tariff() -> impl Strategy<Value = Tariff> {
    let shares = (any_share(1_000_000), any_share(999_999), any_share(1_000_000), any_share(1_000_000));
    let rates = (any_rate(), any_rate(), any_rate(), any_size(1_000_000));
    let rest = (1..=u32::MAX, any::<u64>(), any_size(86_400_000), any_share(1_000_000));
    (shares, rates, rest).prop_map(|(shares, rates, rest)| {
        Tariff::new(TariffTerms {
            number: rest.0,
            effective_from: Timestamp(rest.1),
            compute_rate: rates.0,
            reliability_bonus: shares.0,
            reliability_share_floor: shares.1,
            availability_rate: rates.1,
            availability_daily_max: Millis(rest.2),
            energy_rate: rates.2,
            energy_certified_joules: rates.3,
            verification_surcharge: shares.2,
            pool_fee: shares.3,
            probation_holdback: rest.3,
        })
        .unwrap()
    })
}

pub(crate) fn any_energy() -> impl Strategy<Value = Energy> {
    let energy = |(used, method)| Energy { used: Millijoules(used), method };
    (any_size(u64::MAX), prop::sample::select(&EnergyMethod::ALL[..])).prop_map(energy)
}

pub(crate) fn any_record() -> impl Strategy<Value = TrackRecord> {
    let count = || any_size(1_000_000);
    let record = |(one, other): (u64, u64)| TrackRecord::new(one.min(other), one.max(other)).unwrap();
    prop_oneof![
        4 => (count(), count()).prop_map(record),
        1 => (any::<u64>(), any::<u64>()).prop_map(record),
    ]
}

/// Facts whose amounts usually fit.
pub(crate) fn any_facts() -> impl Strategy<Value = WorkFacts> {
    let fuel = || prop_oneof![6 => any_size(1_000_000_000_000_000), 1 => any_size(u64::MAX)];
    (fuel(), fuel(), any_record(), any_energy(), any::<bool>()).prop_map(|(own, audits, record, energy, probation)| {
        WorkFacts { fuel: Fuel(own), audit_fuel: Fuel(audits), record, energy, probation }
    })
}

pub(crate) fn any_policy() -> impl Strategy<Value = VerificationPolicy> {
    prop_oneof![
        Just(VerificationPolicy::Audit),
        Just(VerificationPolicy::Spot),
        (2..=u32::MAX).prop_map(|copies| VerificationPolicy::Quorum { copies }),
    ]
}

fn any_digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn any_claim() -> impl Strategy<Value = Claim> {
    let ids = (any::<[u8; 8]>(), any::<[u8; 8]>(), any::<u64>(), any::<u64>(), any::<u32>());
    let digests = (any_digest(), any_digest(), any_digest(), any_digest(), any_digest());
    let counts = (any::<u32>(), any::<u32>(), any_size(u64::MAX), any::<u64>(), any::<u64>());
    (ids, digests, counts, any_energy()).prop_map(|(ids, digests, counts, energy)| Claim {
        pool: PoolId(ids.0),
        device: DeviceId(ids.1),
        sequence: ids.2,
        task: TaskId { job: JobId(ids.3), index: TaskIndex(ids.4) },
        workload: digests.0,
        meter: MeterId(digests.1),
        input: digests.2,
        root: digests.3,
        items: counts.0.max(counts.1),
        items_failed: counts.0.min(counts.1),
        fuel: Fuel(counts.2),
        cpu: Millis(counts.3),
        wall: Millis(counts.4),
        energy,
        jail: digests.4,
    })
}

/// An accepted claim whose audits used some of this fuel. Its amounts follow from nothing.
fn any_accepted(fuel: Fuel) -> impl Strategy<Value = Accepted> {
    let amount = || any_size(i64::MAX as u64 / 3).prop_map(|amount| MicroCredits(amount as i64));
    let facts = (any_record(), any::<bool>(), any_size(fuel.0));
    (facts, [amount(), amount(), amount(), amount()], any_share(1_000_000)).prop_map(|(facts, amounts, held)| {
        let [compute, reliability, energy, charge] = amounts;
        let total = MicroCredits::checked_sum([compute, reliability, energy]).unwrap();
        let held = MicroCredits((i128::from(total.0) * i128::from(held.0) / 1_000_000) as i64);
        let reward = Reward { compute, reliability, energy, total, held };
        Accepted { record: facts.0, probation: facts.1, audit_fuel: Fuel(facts.2), reward, charge }
    })
}

pub(crate) fn any_receipt() -> impl Strategy<Value = Receipt> {
    any_claim().prop_flat_map(|claim| {
        let verdict = prop_oneof![
            2 => any_accepted(claim.fuel).prop_map(Verdict::Accepted),
            1 => prop::sample::select(&VoidReason::ALL[..]).prop_map(Verdict::Void),
        ];
        let signature = prop::collection::vec(any::<u8>(), 64).prop_map(|bytes| <[u8; 64]>::try_from(bytes).unwrap());
        let owner = "[a-z0-9._-]{1,64}".prop_map(|name| Account::new(&name).unwrap());
        (Just(claim), signature, owner, any_policy(), any_digest(), any::<u64>(), verdict).prop_map(
            |(claim, claim_signature, owner, policy, tariff, at, verdict)| Receipt {
                claim,
                claim_signature,
                owner,
                policy,
                tariff,
                at: Timestamp(at),
                verdict,
            },
        )
    })
}
