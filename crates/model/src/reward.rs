//! What work earns and what it costs: pure functions of a tariff and of facts that anybody can check.
//!
//! Reward rounds down, price rounds up, at every step; a result that does not fit is an error that names its step. The
//! functions that explain take the same way through the same code as those that only compute.
//!
//! A requester pays a flat price for fuel: what the best device could earn for it, the surcharge for verification and
//! the pool's fee. So it is known before, whoever does the work. What a less reliable or more frugal device does not
//! earn of it goes to verification, which is where its unreliability costs.

use crate::{Fuel, MicroCredits, Millis, Ppm, SplitError, Tariff, TariffTerms, VerificationPolicy, split};
use std::fmt;

/// How a device's energy was found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EnergyMethod {
    /// Counters of the processor (RAPL), by share of CPU time.
    Rapl,
    /// Windows' Energy Meter Interface, by share of CPU time.
    Emi,
    /// The processor's rated power times CPU time.
    Tdp,
    /// A model of the machine.
    Model,
    /// Not at all.
    None,
}

impl EnergyMethod {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Rapl, Self::Emi, Self::Tdp, Self::Model, Self::None];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rapl => "rapl",
            Self::Emi => "emi",
            Self::Tdp => "tdp",
            Self::Model => "model",
            Self::None => "none",
        }
    }
}

/// A quantity of energy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millijoules(pub u64);

impl fmt::Debug for Millijoules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}mJ", self.0)
    }
}

/// What a device says of the energy that a task took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Energy {
    /// How much.
    pub used: Millijoules,
    /// How it knows. What nothing was found out about is not paid.
    pub method: EnergyMethod,
}

impl Energy {
    /// Nothing was found out.
    pub const UNKNOWN: Self = Self { used: Millijoules(0), method: EnergyMethod::None };
}

/// How much of a device's work was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct TrackRecord {
    accepted: u64,
    decided: u64,
}

impl TrackRecord {
    /// So many tasks accepted of those that were decided on. Nothing if more were accepted than decided.
    pub fn new(accepted: u64, decided: u64) -> Option<Self> {
        (accepted <= decided).then_some(Self { accepted, decided })
    }

    /// Tasks accepted.
    pub fn accepted(self) -> u64 {
        self.accepted
    }

    /// Tasks accepted or found void.
    pub fn decided(self) -> u64 {
        self.decided
    }
}

/// The facts about an accepted task that its reward follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkFacts {
    /// Verified fuel of the requester's items.
    pub fuel: Fuel,
    /// Verified fuel of audited items of other tasks that came along. The requester does not pay for them.
    pub audit_fuel: Fuel,
    /// The device's record before this task.
    pub record: TrackRecord,
    /// What the device says of the energy that all of it took.
    pub energy: Energy,
    /// Whether the device is on probation.
    pub probation: bool,
}

/// What an accepted task earns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reward {
    /// For the fuel.
    pub compute: MicroCredits,
    /// For work that is usually accepted.
    pub reliability: MicroCredits,
    /// For the energy.
    pub energy: MicroCredits,
    /// All three.
    pub total: MicroCredits,
    /// What of the total is held back.
    pub held: MicroCredits,
}

/// What a task costs its requester.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// The most that its reward can be.
    pub work: MicroCredits,
    /// For verification.
    pub surcharge: MicroCredits,
    /// For the pool.
    pub fee: MicroCredits,
    /// All three.
    pub total: MicroCredits,
}

/// Who pays what for an accepted task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// What the requester pays.
    pub price: Price,
    /// What the device's owner gets.
    pub reward: Reward,
    /// What of the reward the requester's items earned: paid out of the price.
    pub earned: MicroCredits,
    /// What of the reward audited items earned: paid by verification.
    pub earned_by_audits: MicroCredits,
    /// What of the price's part for work was not earned: goes to verification.
    pub unearned: MicroCredits,
}

/// What presence earns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Availability {
    /// What of the day's presence is paid.
    pub paid: Millis,
    /// What it earns.
    pub amount: MicroCredits,
}

/// A step's result does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow {
    /// Which step's.
    pub step: StepName,
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the result of `{}` ({}) is too large to be counted", self.step.as_str(), self.step.formula())
    }
}

impl std::error::Error for Overflow {}

/// A part of a tariff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clause {
    /// Fuel.
    Compute,
    /// The bonus.
    Reliability,
    /// Presence.
    Availability,
    /// Energy.
    Energy,
    /// What is held back on probation.
    Probation,
    /// What requesters pay beyond work.
    Price,
}

impl Clause {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Reliability => "reliability",
            Self::Availability => "availability",
            Self::Energy => "energy",
            Self::Probation => "probation",
            Self::Price => "price",
        }
    }
}

/// Names, clauses and formulae of all steps in one table.
macro_rules! steps {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $clause:ident, $unit:literal, $formula:literal;)+) => {
        /// A step of a calculation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum StepName {
            $($(#[$doc])* $variant,)+
        }

        impl StepName {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The clause of the tariff that it follows.
            pub fn clause(self) -> Clause {
                match self { $(Self::$variant => Clause::$clause,)+ }
            }

            /// The unit of its result.
            pub fn unit(self) -> &'static str {
                match self { $(Self::$variant => $unit,)+ }
            }

            /// How it is calculated from its inputs, rounding included.
            pub fn formula(self) -> &'static str {
                match self { $(Self::$variant => $formula,)+ }
            }
        }
    };
}

steps! {
    /// All fuel of the task.
    Fuel = "fuel", Compute, "fuel", "own fuel + audit fuel";
    /// The reward for fuel.
    Compute = "compute", Compute, "micro-credits", "fuel × compute rate ÷ 10^9, rounded down";
    /// How much of the device's work was accepted.
    Share = "accepted share", Reliability, "ppm", "accepted × 10^6 ÷ decided, rounded down; 0 before anything was decided";
    /// The bonus that belongs to that share.
    Bonus = "bonus", Reliability, "ppm",
        "reliability bonus × (accepted share - floor, at least 0) ÷ (10^6 - floor), rounded down";
    /// The reward for reliability.
    Reliability = "reliability", Reliability, "micro-credits", "compute × bonus ÷ 10^6, rounded down";
    /// The energy that is certified for this fuel.
    EnergyCap = "certified energy", Energy, "mJ", "fuel × certified joules ÷ 10^6, rounded down";
    /// The energy that is paid.
    EnergyPaid = "paid energy", Energy, "mJ", "the smaller of reported energy and certified energy";
    /// The reward for energy.
    Energy = "energy", Energy, "micro-credits", "paid energy × energy rate ÷ 10^6, rounded down";
    /// The whole reward.
    Reward = "reward", Compute, "micro-credits", "compute + reliability + energy";
    /// What is held back.
    Held = "held back", Probation, "micro-credits",
        "reward split by holdback against the rest of 10^6, by largest remainder, the rest first among equals";
    /// The price of fuel.
    PriceCompute = "price of compute", Compute, "micro-credits", "own fuel × compute rate ÷ 10^9, rounded up";
    /// The price of the full bonus.
    PriceReliability = "price of reliability", Reliability, "micro-credits",
        "price of compute × reliability bonus ÷ 10^6, rounded up";
    /// The energy that is certified for this fuel, as it is charged.
    PriceEnergyCap = "charged energy", Energy, "mJ", "own fuel × certified joules ÷ 10^6, rounded up";
    /// The price of that energy.
    PriceEnergy = "price of energy", Energy, "micro-credits", "charged energy × energy rate ÷ 10^6, rounded up";
    /// The price of work.
    PriceWork = "price of work", Price, "micro-credits", "price of compute + price of reliability + price of energy";
    /// The whole price.
    PriceTotal = "price", Price, "micro-credits", "price of work × (10^6 + surcharge + fee) ÷ 10^6, rounded up";
    /// The part of it for work.
    PartWork = "part for work", Price, "micro-credits",
        "price split by 10^6, surcharge and fee, by largest remainder, in this order among equals: the first part";
    /// The part of it for verification.
    PartSurcharge = "part for verification", Price, "micro-credits", "the second part of that split";
    /// The part of it for the pool.
    PartFee = "part for the pool", Price, "micro-credits", "the third part of that split";
    /// What all of a job's tasks cost.
    Quote = "quote", Price, "micro-credits", "sum of the prices of all copies of all tasks";
    /// What of a reward audited items earned.
    AuditPart = "part for audits", Price, "micro-credits", "reward - reward of the requester's items";
    /// What of a price was not earned.
    Unearned = "unearned", Price, "micro-credits", "part for work - reward of the requester's items";
    /// The presence that is paid.
    PresencePaid = "paid presence", Availability, "ms", "the smaller of challenged presence and the daily maximum";
    /// The reward for presence.
    Availability = "availability", Availability, "micro-credits",
        "paid presence × availability rate ÷ 3600000, rounded down";
}

/// A step as it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub name: StepName,
    /// What went in, by the names in its formula.
    pub inputs: Vec<(&'static str, u64)>,
    /// What came out, in the step's unit.
    pub result: u64,
}

impl fmt::Display for Step {
    /// To people: `compute = 7 micro-credits: fuel × compute rate ÷ 10^9, rounded down (fuel 5, …)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, inputs, result } = self;
        let inputs: Vec<String> = inputs.iter().map(|(input, value)| format!("{input} {value}")).collect();
        write!(f, "{} = {result} {}: {} ({})", name.as_str(), name.unit(), name.formula(), inputs.join(", "))
    }
}

/// What an accepted task earns.
///
/// # Errors
/// If a step's result does not fit.
pub fn reward(tariff: &Tariff, facts: &WorkFacts) -> Result<Reward, Overflow> {
    reward_by(tariff.terms(), facts, &mut |_, _, _| ())
}

/// The same with every step.
///
/// # Errors
/// As [`reward`].
pub fn explain_reward(tariff: &Tariff, facts: &WorkFacts) -> Result<(Reward, Vec<Step>), Overflow> {
    let mut steps = Vec::new();
    let reward = reward_by(tariff.terms(), facts, &mut taken(&mut steps))?;
    Ok((reward, steps))
}

/// What fuel costs a requester. Under a quorum this is the price of each accepted copy, without surcharge: the copies
/// are the verification.
///
/// # Errors
/// If a step's result does not fit.
pub fn price(tariff: &Tariff, fuel: Fuel, policy: VerificationPolicy) -> Result<Price, Overflow> {
    price_by(tariff.terms(), fuel, policy, &mut |_, _, _| ())
}

/// The same with every step.
///
/// # Errors
/// As [`price`].
pub fn explain_price(tariff: &Tariff, fuel: Fuel, policy: VerificationPolicy) -> Result<(Price, Vec<Step>), Overflow> {
    let mut steps = Vec::new();
    let price = price_by(tariff.terms(), fuel, policy, &mut taken(&mut steps))?;
    Ok((price, steps))
}

/// What tasks of this much fuel cost at most, all copies together: what is reserved when a job is admitted. A task that
/// uses less costs less, so settlements never exceed it.
///
/// # Errors
/// If a step's result does not fit.
pub fn quote(
    tariff: &Tariff,
    tasks: impl IntoIterator<Item = Fuel>,
    policy: VerificationPolicy,
) -> Result<MicroCredits, Overflow> {
    let copies = i128::from(policy.copies());
    let sum = tasks.into_iter().try_fold(0i128, |sum, fuel| {
        let cost = i128::from(price(tariff, fuel, policy)?.total.0) * copies;
        sum.checked_add(cost).ok_or(Overflow { step: StepName::Quote })
    })?;
    i64::try_from(sum).map(MicroCredits).map_err(|_| Overflow { step: StepName::Quote })
}

/// Who pays what for an accepted task (or for an accepted copy of it).
///
/// # Errors
/// If a step's result does not fit.
pub fn settle(tariff: &Tariff, facts: &WorkFacts, policy: VerificationPolicy) -> Result<Settlement, Overflow> {
    settle_by(tariff.terms(), facts, policy, &mut |_, _, _| ())
}

/// The same with every step: those of the reward, those of the price, and what is left between them.
///
/// # Errors
/// As [`settle`].
pub fn explain_settlement(
    tariff: &Tariff,
    facts: &WorkFacts,
    policy: VerificationPolicy,
) -> Result<(Settlement, Vec<Step>), Overflow> {
    let mut steps = Vec::new();
    let settlement = settle_by(tariff.terms(), facts, policy, &mut taken(&mut steps))?;
    Ok((settlement, steps))
}

/// What a device earns by having answered challenges for so long of a day. No requester caused it, so none pays it.
///
/// # Errors
/// If a step's result does not fit.
pub fn availability(tariff: &Tariff, present: Millis) -> Result<Availability, Overflow> {
    availability_by(tariff.terms(), present, &mut |_, _, _| ())
}

/// The same with every step.
///
/// # Errors
/// As [`availability`].
pub fn explain_availability(tariff: &Tariff, present: Millis) -> Result<(Availability, Vec<Step>), Overflow> {
    let mut steps = Vec::new();
    let availability = availability_by(tariff.terms(), present, &mut taken(&mut steps))?;
    Ok((availability, steps))
}

/// The listener that keeps the steps.
fn taken(steps: &mut Vec<Step>) -> impl FnMut(StepName, &[(&'static str, u64)], u64) {
    |name, inputs, result| steps.push(Step { name, inputs: inputs.to_vec(), result })
}

const MILLION: u128 = 1_000_000;
const BILLION: u128 = 1_000_000_000;
const HOUR_MS: u128 = 3_600_000;

fn reward_by(
    terms: &TariffTerms,
    facts: &WorkFacts,
    note: &mut impl FnMut(StepName, &[(&'static str, u64)], u64),
) -> Result<Reward, Overflow> {
    let (own, audits) = (facts.fuel.0, facts.audit_fuel.0);
    let fuel = fit(StepName::Fuel, u128::from(own) + u128::from(audits))?;
    note(StepName::Fuel, &[("own fuel", own), ("audit fuel", audits)], fuel);

    let rate = bare(terms.compute_rate);
    let compute = amount(StepName::Compute, product(fuel, rate) / BILLION)?;
    note(StepName::Compute, &[("fuel", fuel), ("compute rate", rate)], bare(compute));

    let (accepted, decided) = (facts.record.accepted(), facts.record.decided());
    let share = (u128::from(accepted) * MILLION).checked_div(u128::from(decided)).unwrap_or(0);
    let share = fit(StepName::Share, share)?;
    note(StepName::Share, &[("accepted", accepted), ("decided", decided)], share);

    let (full, floor) = (u64::from(terms.reliability_bonus.0), u64::from(terms.reliability_share_floor.0));
    let slope = MILLION - u128::from(floor);
    let bonus = fit(StepName::Bonus, product(full, share.max(floor) - floor) / slope)?;
    note(StepName::Bonus, &[("reliability bonus", full), ("accepted share", share), ("floor", floor)], bonus);

    let reliability = amount(StepName::Reliability, product(bare(compute), bonus) / MILLION)?;
    note(StepName::Reliability, &[("compute", bare(compute)), ("bonus", bonus)], bare(reliability));

    // A joule for 10^9 units is a millijoule for 10^6.
    let joules = terms.energy_certified_joules;
    let cap = fit(StepName::EnergyCap, product(fuel, joules) / MILLION)?;
    note(StepName::EnergyCap, &[("fuel", fuel), ("certified joules", joules)], cap);

    let reported = match facts.energy.method {
        EnergyMethod::Rapl | EnergyMethod::Emi | EnergyMethod::Tdp | EnergyMethod::Model => facts.energy.used.0,
        EnergyMethod::None => 0,
    };
    let paid = reported.min(cap);
    note(StepName::EnergyPaid, &[("reported energy", reported), ("certified energy", cap)], paid);

    let rate = bare(terms.energy_rate);
    let energy = amount(StepName::Energy, product(paid, rate) / MILLION)?;
    note(StepName::Energy, &[("paid energy", paid), ("energy rate", rate)], bare(energy));

    let parts = [compute, reliability, energy];
    let total = MicroCredits::checked_sum(parts).ok_or(Overflow { step: StepName::Reward })?;
    let [a, b, c] = parts.map(bare);
    note(StepName::Reward, &[("compute", a), ("reliability", b), ("energy", c)], bare(total));

    let holdback = if facts.probation { terms.probation_holdback } else { Ppm(0) };
    let [_, held] = shares(total, [u64::from(Ppm::ONE.0 - holdback.0), u64::from(holdback.0)]);
    note(StepName::Held, &[("reward", bare(total)), ("holdback", u64::from(holdback.0))], bare(held));
    Ok(Reward { compute, reliability, energy, total, held })
}

fn price_by(
    terms: &TariffTerms,
    Fuel(fuel): Fuel,
    policy: VerificationPolicy,
    note: &mut impl FnMut(StepName, &[(&'static str, u64)], u64),
) -> Result<Price, Overflow> {
    let rate = bare(terms.compute_rate);
    let compute = amount(StepName::PriceCompute, product(fuel, rate).div_ceil(BILLION))?;
    note(StepName::PriceCompute, &[("own fuel", fuel), ("compute rate", rate)], bare(compute));

    let full = u64::from(terms.reliability_bonus.0);
    let reliability = amount(StepName::PriceReliability, product(bare(compute), full).div_ceil(MILLION))?;
    let inputs = [("price of compute", bare(compute)), ("reliability bonus", full)];
    note(StepName::PriceReliability, &inputs, bare(reliability));

    let joules = terms.energy_certified_joules;
    let cap = fit(StepName::PriceEnergyCap, product(fuel, joules).div_ceil(MILLION))?;
    note(StepName::PriceEnergyCap, &[("own fuel", fuel), ("certified joules", joules)], cap);

    let rate = bare(terms.energy_rate);
    let energy = amount(StepName::PriceEnergy, product(cap, rate).div_ceil(MILLION))?;
    note(StepName::PriceEnergy, &[("charged energy", cap), ("energy rate", rate)], bare(energy));

    let parts = [compute, reliability, energy];
    let work = MicroCredits::checked_sum(parts).ok_or(Overflow { step: StepName::PriceWork })?;
    let [a, b, c] = parts.map(bare);
    let inputs = [("price of compute", a), ("price of reliability", b), ("price of energy", c)];
    note(StepName::PriceWork, &inputs, bare(work));

    let surcharge = match policy {
        VerificationPolicy::Audit | VerificationPolicy::Spot => u64::from(terms.verification_surcharge.0),
        VerificationPolicy::Quorum { .. } => 0,
    };
    let (one, fee) = (u64::from(Ppm::ONE.0), u64::from(terms.pool_fee.0));
    let total = product(bare(work), one + surcharge + fee).div_ceil(MILLION);
    let total = amount(StepName::PriceTotal, total)?;
    let inputs = [("price of work", bare(work)), ("surcharge", surcharge), ("fee", fee)];
    note(StepName::PriceTotal, &inputs, bare(total));

    // The exact share of the first part is at least the price of work, which is whole: rounded down it still is.
    let [for_work, for_verification, for_pool] = shares(total, [one, surcharge, fee]);
    let inputs = [("price", bare(total)), ("surcharge", surcharge), ("fee", fee)];
    note(StepName::PartWork, &inputs, bare(for_work));
    note(StepName::PartSurcharge, &inputs, bare(for_verification));
    note(StepName::PartFee, &inputs, bare(for_pool));
    Ok(Price { work: for_work, surcharge: for_verification, fee: for_pool, total })
}

fn availability_by(
    terms: &TariffTerms,
    Millis(present): Millis,
    note: &mut impl FnMut(StepName, &[(&'static str, u64)], u64),
) -> Result<Availability, Overflow> {
    let daily_max = terms.availability_daily_max.0;
    let paid = present.min(daily_max);
    note(StepName::PresencePaid, &[("challenged presence", present), ("daily maximum", daily_max)], paid);
    let rate = bare(terms.availability_rate);
    let earned = amount(StepName::Availability, product(paid, rate) / HOUR_MS)?;
    note(StepName::Availability, &[("paid presence", paid), ("availability rate", rate)], bare(earned));
    Ok(Availability { paid: Millis(paid), amount: earned })
}

fn settle_by(
    terms: &TariffTerms,
    facts: &WorkFacts,
    policy: VerificationPolicy,
    note: &mut impl FnMut(StepName, &[(&'static str, u64)], u64),
) -> Result<Settlement, Overflow> {
    let reward = reward_by(terms, facts, note)?;
    let price = price_by(terms, facts.fuel, policy, note)?;
    let own = reward_by(terms, &WorkFacts { audit_fuel: Fuel(0), ..*facts }, &mut |_, _, _| ())?;
    let difference = |step, of: MicroCredits, less: MicroCredits| of.checked_sub(less).ok_or(Overflow { step });

    let earned_by_audits = difference(StepName::AuditPart, reward.total, own.total)?;
    let inputs = [("reward", bare(reward.total)), ("reward of the requester's items", bare(own.total))];
    note(StepName::AuditPart, &inputs, bare(earned_by_audits));

    let unearned = difference(StepName::Unearned, price.work, own.total)?;
    let inputs = [("part for work", bare(price.work)), ("reward of the requester's items", bare(own.total))];
    note(StepName::Unearned, &inputs, bare(unearned));
    Ok(Settlement { price, reward, earned: own.total, earned_by_audits, unearned })
}

/// Exact: two u64 multiply to a u128.
fn product(one: u64, other: u64) -> u128 {
    u128::from(one) * u128::from(other)
}

fn amount(step: StepName, value: u128) -> Result<MicroCredits, Overflow> {
    i64::try_from(value).map(MicroCredits).map_err(|_| Overflow { step })
}

fn fit(step: StepName, value: u128) -> Result<u64, Overflow> {
    u64::try_from(value).map_err(|_| Overflow { step })
}

/// The number of an amount or rate, none of which is negative here: rates are checked by [`Tariff::new`] and the rest
/// follows from them.
fn bare(amount: MicroCredits) -> u64 {
    amount.0.unsigned_abs()
}

fn shares<const N: usize>(total: MicroCredits, weights: [u64; N]) -> [MicroCredits; N] {
    match split(total, weights) {
        Ok(parts) => parts,
        Err(SplitError::Negative | SplitError::NoWeight) => {
            unreachable!("totals here are sums of amounts that are not negative, and the weights hold 10^6")
        }
    }
}
