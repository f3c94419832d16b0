//! How much energy a task takes: by the processor's counters where they can be read, else by its rated power, else by a
//! model. Which of them it was goes with every claim; docs/energy.md has the formulae and their limits.

use super::notes;
use caii_model::{Energy, EnergyMethod, Millijoules};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Power of one busy hardware thread of a machine of which nothing is known: the average of "max watts" over the
/// processors in Cloud Carbon Footprint's coefficients for AWS, which derives them from SPECpower_ssj2008 results.
const MODEL_POWER: Microwatts = Microwatts(3_500_000);
/// No package takes more. What is counted beyond is no energy but a counter that was set back, as by a suspension.
const PACKAGE_POWER_MAX: Microwatts = Microwatts(2_000_000_000);
/// Counters move about once a millisecond, so that a short time may seem to have taken more power than there is.
const COUNTER_SLACK: Duration = Duration::from_millis(10);
/// No package is rated at less.
const PACKAGE_POWER_MIN: Microwatts = Microwatts(1_000_000);
/// Where an agent notes for its owner how it finds out.
const NOTE: &str = "energy.json";

/// Finds out what tasks take of the machine's energy.
pub(crate) trait EnergyMeter: Send + Sync {
    /// A task begins.
    fn begin(&self) -> Begun;
    /// What a task took that began then, ends now and used so much CPU time.
    fn end(&self, begun: &Begun, cpu: Duration) -> Energy;
    /// Looks at the counters, lest one goes round unseen. To be called more often than every half minute.
    fn look(&self);
    /// How it finds out, for the owner.
    fn view(&self) -> EnergyView;
}

/// What was counted when a task began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    energy: Microjoules,
    busy: Duration,
    gaps: u64,
}

/// How a device finds out what its tasks take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnergyView {
    /// As in receipts: `rapl`, `tdp` or `model`.
    pub method: String,
    /// The same in a sentence, with the reason if it is not by counters.
    pub how: String,
}

/// How the agent in this directory found out when it was started last.
pub(crate) fn noted(dir: &Path) -> Option<EnergyView> {
    notes::read(&dir.join(NOTE))
}

/// The best meter for the machine whose files are under `root`, noted in `dir`.
pub(crate) fn open(root: &Path, dir: &Path) -> Arc<dyn EnergyMeter> {
    let meter = best(root);
    notes::write(&dir.join(NOTE), &meter.view());
    meter
}

fn best(root: &Path) -> Arc<dyn EnergyMeter> {
    match Rapl::open(root, Instant::now()) {
        Ok(rapl) => Arc::new(rapl),
        Err(why) => Arc::new(Rated::of(root, &why.to_string())),
    }
}

/// Why there are no counters.
#[derive(Debug, thiserror::Error)]
enum NoCounters {
    #[error("this machine shows no energy counters of its processor")]
    None,
    #[error("the processor's energy counters cannot be read ({}: {source})", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Microjoules(u128);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Microwatts(u64);

impl Microwatts {
    fn over(self, time: Duration) -> Microjoules {
        Microjoules(u128::from(self.0) * time.as_micros() / 1_000_000)
    }
}

impl Microjoules {
    /// This much by this method; unknown if no number can hold it.
    fn by(self, method: EnergyMethod) -> Energy {
        let used = u64::try_from(self.0 / 1_000).map(Millijoules);
        used.map_or(Energy::UNKNOWN, |used| Energy { used, method })
    }
}

/// The same power for every second of CPU time.
#[derive(Debug)]
struct Rated {
    method: EnergyMethod,
    /// Of one busy hardware thread.
    power: Microwatts,
    how: String,
}

impl Rated {
    /// By what the processor is rated at, if that is known. `why` it is not by counters.
    fn of(root: &Path, why: &str) -> Self {
        let packages = packages(root);
        let threads = read_stat(root).map_or(0, |stat| stat.threads);
        let rated = packages.iter().map(|package| rated_power(package)).sum::<Option<u64>>();
        match rated.and_then(|all| all.checked_div(threads)) {
            Some(each) if each > 0 => {
                let all = rated.unwrap_or(0);
                let how = format!(
                    "the processor's rated power of {} W, shared by its {threads} hardware threads, for as long as they are \
                     busy; {why}",
                    all / 1_000_000
                );
                Self { method: EnergyMethod::Tdp, power: Microwatts(each), how }
            }
            _ => {
                let how = format!("3.5 W for as long as a hardware thread is busy, an average of many machines; {why}");
                Self { method: EnergyMethod::Model, power: MODEL_POWER, how }
            }
        }
    }

    fn energy(&self, cpu: Duration) -> Energy {
        self.power.over(cpu).by(self.method)
    }
}

impl EnergyMeter for Rated {
    fn begin(&self) -> Begun {
        Begun { energy: Microjoules(0), busy: Duration::ZERO, gaps: 0 }
    }

    fn end(&self, _: &Begun, cpu: Duration) -> Energy {
        self.energy(cpu)
    }

    fn look(&self) {}

    fn view(&self) -> EnergyView {
        EnergyView { method: self.method.as_str().to_owned(), how: self.how.clone() }
    }
}

/// The counters of all packages. A task has the share of what they count from its beginning to its end that its CPU
/// time has of the machine's.
struct Rapl {
    root: PathBuf,
    packages: Vec<Package>,
    /// For tasks during which counting was interrupted.
    otherwise: Rated,
    counted: Mutex<Counted>,
}

/// A processor package that counts its energy.
struct Package {
    counter: PathBuf,
    /// The counter's largest value; it goes on from 0.
    range: u64,
}

struct Counted {
    /// What the counters showed, and when; nothing after a gap.
    last: Option<(Vec<u64>, Instant)>,
    energy: Microjoules,
    busy: Duration,
    /// Interruptions so far.
    gaps: u64,
}

impl Rapl {
    fn open(root: &Path, now: Instant) -> Result<Self, NoCounters> {
        let mut counters = Vec::new();
        for package in packages(root) {
            let (counter, range) = (package.join("energy_uj"), package.join("max_energy_range_uj"));
            let unreadable = |path: &Path| {
                let path = path.to_owned();
                |source| NoCounters::Unreadable { path, source }
            };
            read_number(&counter).map_err(unreadable(&counter))?;
            let range = read_number(&range).map_err(unreadable(&range))?;
            counters.push(Package { counter, range });
        }
        if counters.is_empty() || read_stat(root).is_none() {
            return Err(NoCounters::None);
        }
        let otherwise = Rated::of(root, "the counters were interrupted");
        let counted = Counted { last: None, energy: Microjoules(0), busy: Duration::ZERO, gaps: 0 };
        let rapl = Self { root: root.to_owned(), packages: counters, otherwise, counted: Mutex::new(counted) };
        rapl.count(now);
        Ok(rapl)
    }

    /// Adds what was counted since the last look.
    fn count(&self, now: Instant) -> Begun {
        let mut counted = self.counted();
        let shown: io::Result<Vec<u64>> = self.packages.iter().map(|package| read_number(&package.counter)).collect();
        let stat = read_stat(&self.root);
        match (shown, stat) {
            (Ok(shown), Some(stat)) => {
                let since =
                    |(last, at): &(Vec<u64>, Instant)| self.since(last, &shown, now.saturating_duration_since(*at));
                match counted.last.as_ref().and_then(since) {
                    Some(more) => counted.energy.0 += more.0,
                    None => counted.gaps += 1,
                }
                counted.busy = stat.busy;
                counted.last = Some((shown, now));
            }
            _ => {
                counted.gaps += 1;
                counted.last = None;
            }
        }
        Begun { energy: counted.energy, busy: counted.busy, gaps: counted.gaps }
    }

    /// What the packages took between two looks; nothing if that cannot be.
    fn since(&self, last: &[u64], shown: &[u64], time: Duration) -> Option<Microjoules> {
        let most = PACKAGE_POWER_MAX.over(time + COUNTER_SLACK);
        let mut sum = Microjoules(0);
        for (package, (last, shown)) in self.packages.iter().zip(last.iter().zip(shown)) {
            let more =
                if shown >= last { shown - last } else { package.range.checked_sub(*last)?.checked_add(*shown)? };
            let more = Microjoules(more.into());
            if more > most {
                return None;
            }
            sum.0 += more.0;
        }
        Some(sum)
    }

    fn end_at(&self, begun: &Begun, cpu: Duration, now: Instant) -> Energy {
        let ended = self.count(now);
        if ended.gaps != begun.gaps {
            return self.otherwise.energy(cpu);
        }
        let energy = ended.energy.0 - begun.energy.0;
        // The machine's time comes in steps, and is no shorter than the task's.
        let busy = ended.busy.saturating_sub(begun.busy).max(cpu).as_micros();
        let own = (energy * cpu.as_micros()).checked_div(busy).unwrap_or(0);
        Microjoules(own).by(EnergyMethod::Rapl)
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        // Nothing that is done under the lock can leave it half-done.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EnergyMeter for Rapl {
    fn begin(&self) -> Begun {
        self.count(Instant::now())
    }

    fn end(&self, begun: &Begun, cpu: Duration) -> Energy {
        self.end_at(begun, cpu, Instant::now())
    }

    fn look(&self) {
        self.count(Instant::now());
    }

    fn view(&self) -> EnergyView {
        let (count, s) = (self.packages.len(), if self.packages.len() == 1 { "" } else { "s" });
        let how = format!("the energy counters of {count} processor package{s}, by share of CPU time");
        EnergyView { method: EnergyMethod::Rapl.as_str().to_owned(), how }
    }
}

/// The packages' directories. Zones in them (`intel-rapl:0:0`) are parts of them, or memory; `psys` counts the whole board,
/// and `intel-rapl-mmio` the same packages once more.
fn packages(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root.join("sys/class/powercap")) else { return vec![] };
    let is_package = |path: &PathBuf| {
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("intel-rapl:"));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
            && fs::read_to_string(path.join("name")).is_ok_and(|name| name.starts_with("package-"))
    };
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_package).collect();
    found.sort();
    found
}

/// The power that a package is rated at (its TDP), in microwatts: what it may take in the long term at most.
fn rated_power(package: &Path) -> Option<u64> {
    let long_term = |number: &u32| {
        fs::read_to_string(package.join(format!("constraint_{number}_name")))
            .is_ok_and(|name| name.trim() == "long_term")
    };
    let number = (0..3).find(long_term)?;
    let power = read_number(&package.join(format!("constraint_{number}_max_power_uw"))).ok()?;
    (PACKAGE_POWER_MIN.0..=PACKAGE_POWER_MAX.0).contains(&power).then_some(power)
}

fn read_number(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it does not hold a number"))
}

/// What `/proc/stat` says of the machine.
struct Stat {
    /// Time that its hardware threads were busy, all together.
    busy: Duration,
    /// How many of them there are.
    threads: u64,
}

fn read_stat(root: &Path) -> Option<Stat> {
    parse_stat(&fs::read_to_string(root.join("proc/stat")).ok()?, rustix::param::clock_ticks_per_second())
}

fn parse_stat(text: &str, ticks_per_second: u64) -> Option<Stat> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = fields.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks[..] else { return None };
    // Guests' time is in `user`, and stolen time was spent on other machines.
    let busy = [user, nice, system, irq, softirq].into_iter().map(u128::from).sum::<u128>();
    let micros = (busy * 1_000_000).checked_div(u128::from(ticks_per_second))?;
    let is_thread =
        |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let threads = text.lines().filter(is_thread).count() as u64;
    Some(Stat { busy: Duration::from_micros(u64::try_from(micros).ok()?), threads })
}

#[cfg(test)]
#[path = "energy_tests.rs"]
mod tests;
