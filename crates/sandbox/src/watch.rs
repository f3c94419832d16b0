//! The watches on what takes too long. What counts is the time that the device let it run: a runner has the lowest
//! priority, and nothing is slow because the owner of the machine is busy.

use crate::child::NOT_COMPILING;
use crate::runner::RunnerControl;
use caii_model::{Bytes, Millis};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// Watches how long the present item has been running.
pub(crate) struct Watch<'a> {
    control: &'a RunnerControl,
    progress: &'a File,
    limit: Duration,
    /// Items that were started before this task.
    before: u64,
    /// Items that had been started when it last looked.
    started: u64,
    /// What counts against the present item so far.
    counted: Duration,
    last: Look,
}

#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    frozen: Duration,
    /// The process's CPU time.
    cpu: Duration,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(control: &'a RunnerControl, progress: &'a File, limit: Millis) -> Self {
        let limit = Duration::from_millis(limit.0);
        let now = Usage::of(control.pid()).map_or(Duration::ZERO, |usage| usage.cpu);
        let last = Look { at: Instant::now(), frozen: control.frozen_for(), cpu: now };
        let mut watch = Self { control, progress, limit, before: 0, started: 0, counted: Duration::ZERO, last };
        watch.before = watch.started();
        watch.started = watch.before;
        watch
    }

    /// How often to look.
    pub(crate) fn interval(&self) -> Duration {
        (self.limit / 8).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }

    /// Looks. The number, within this task, of the item that has been running for too long.
    pub(crate) fn overdue(&mut self) -> Option<usize> {
        let usage = Usage::of(self.control.pid());
        let cpu = usage.map_or(self.last.cpu, |usage| usage.cpu);
        let now = Look { at: Instant::now(), frozen: self.control.frozen_for(), cpu };
        let started = self.started();
        if started == self.started {
            let frozen = now.frozen.saturating_sub(self.last.frozen);
            // When this process was kept from looking, the runner was as likely kept from running.
            let passed = now.at.duration_since(self.last.at).min(2 * self.interval()).saturating_sub(frozen);
            let ran = now.cpu.saturating_sub(self.last.cpu);
            // What cannot be read counts in full: the safe side.
            self.counted += if usage.is_some_and(|usage| usage.wants_cpu) { ran.min(passed) } else { passed };
        } else {
            (self.started, self.counted) = (started, Duration::ZERO);
        }
        self.last = now;
        let index = usize::try_from(started.saturating_sub(self.before).saturating_sub(1)).unwrap_or(usize::MAX);
        (self.counted >= self.limit).then_some(index)
    }

    /// How many items the runner has started in its life.
    fn started(&self) -> u64 {
        let mut bytes = [0; 8];
        // It is eight bytes of memory; should reading fail, the watch sees no progress, which is the safe side.
        self.progress.read_exact_at(&mut bytes, 0).map_or(0, |()| u64::from_le_bytes(bytes))
    }
}

/// CPU time that compiling a program may take, on any device: what every program gets, and what its size and its memory
/// add. It is more than twenty times what programs need that a toolchain made, so that a device with a tenth of the usual
/// speed has twice the time that it needs; `docs/sandbox.md` has the figures.
pub(crate) fn compile_cpu_max(program: Bytes, memory: Bytes) -> Millis {
    const EACH: u64 = 30_000;
    const MIB_OF_PROGRAM: u64 = 60_000;
    // An initialiser may fill its memory, which is then searched, copied and written.
    const GIB_OF_MEMORY: u64 = 120_000;
    let scaled = |bytes: Bytes, each: u64, unit: u32| bytes.0.saturating_mul(each) >> unit;
    let sum = EACH.saturating_add(scaled(program, MIB_OF_PROGRAM, 20));
    Millis(sum.saturating_add(scaled(memory, GIB_OF_MEMORY, 30)))
}

/// How often to look at a runner that compiles.
const COMPILING_INTERVAL: Duration = Duration::from_millis(100);

/// Resolves when the runner has spent more CPU than this on compiling, which the kernel counts and the runner cannot.
/// Never resolves where that cannot be read.
pub(crate) async fn compiles_too_long(control: RunnerControl, progress: File, limit: Millis) {
    let limit = Duration::from_millis(limit.0);
    let mark = || {
        let mut bytes = [0; 8];
        progress.read_exact_at(&mut bytes, 0).map_or(NOT_COMPILING, |()| u64::from_le_bytes(bytes))
    };
    let mut tick = tokio::time::interval(COMPILING_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let before = mark();
        let Some((_, cpu)) = stat_of(control.pid()) else { continue };
        // When it changed meanwhile, nobody knows whose the time is.
        let compiling = before != NOT_COMPILING && before == mark();
        if compiling && cpu.saturating_sub(Duration::from_micros(before)) > limit {
            return;
        }
    }
}

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Usage {
    cpu: Duration,
    /// One of its threads runs or waits for a CPU to run on.
    wants_cpu: bool,
}

impl Usage {
    /// Of a child that has not been waited for, so that the number is its own.
    fn of(pid: u32) -> Option<Self> {
        let (_, cpu) = stat_of(pid)?;
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let state = |thread: fs::DirEntry| Some(parse(&fs::read_to_string(thread.path().join("stat")).ok()?)?.0);
        let wants_cpu = threads.filter_map(|thread| state(thread.ok()?)).any(|state| state == 'R');
        Some(Self { cpu, wants_cpu })
    }
}

/// The state and the CPU time of a child that has not been waited for.
fn stat_of(pid: u32) -> Option<(char, Duration)> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The state and the CPU time of a line of `/proc/PID/stat` (proc(5): fields 3, 14 and 15). The name before them may
/// contain anything, parentheses included.
fn parse(line: &str) -> Option<(char, Duration)> {
    let mut fields = line[line.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let (user, system): (u64, u64) = (fields.nth(10)?.parse().ok()?, fields.next()?.parse().ok()?);
    let millis = user.checked_add(system)?.checked_mul(1_000)? / rustix::param::clock_ticks_per_second().max(1);
    Some((state, Duration::from_millis(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read() {
        let ticks = rustix::param::clock_ticks_per_second();
        let tail = format!("1 2 3 4 5 6 7 8 9 10 {} {} 0 0 20 0", 2 * ticks, ticks);
        for name in ["caii", "a b", "evil) S 1 (", "R"] {
            let line = format!("42 ({name}) R {tail}\n");
            assert_eq!(parse(&line), Some(('R', Duration::from_secs(3))), "{name}");
        }
        for line in ["", "42", "42 (caii", "42 (caii) R 1 2 3", "42 (caii) R 1 2 3 4 5 6 7 8 9 10 x 1"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn compiling_gets_time_by_size() {
        assert_eq!(compile_cpu_max(Bytes(0), Bytes(0)), Millis(30_000));
        // The inference guest, which took 9.7 s, compiled twice.
        let inference = compile_cpu_max(Bytes(3_245_270), Bytes(0));
        assert!((20 * 9_700..25 * 9_700).contains(&inference.0), "{inference}");
        // The largest program of all, before the kernel ends whatever prepares.
        assert_eq!(
            compile_cpu_max(crate::MAX_PROGRAM, crate::wasi::MAX_MEMORY),
            Millis(30_000 + 64 * 60_000 + 4 * 120_000)
        );
        assert!(
            compile_cpu_max(crate::MAX_PROGRAM, crate::wasi::MAX_MEMORY)
                < Millis(crate::child::PREPARE_CPU_SECONDS * 1_000)
        );
        // Absurd limits overflow nothing.
        assert!(compile_cpu_max(Bytes(u64::MAX), Bytes(u64::MAX)) > Millis(1 << 40));
    }

    #[test]
    fn this_process_is_seen_to_run() {
        let before = Usage::of(std::process::id()).unwrap();
        assert!(before.wants_cpu);
        let begun = Instant::now();
        while Usage::of(std::process::id()).unwrap().cpu < before.cpu + Duration::from_millis(30) {
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
    }
}
