//! Energy by counters, rated power and model, on trees of files as Linux shows them.

use super::*;
use tempfile::TempDir;

/// A machine whose files can be changed, and its clock.
struct Machine {
    dir: TempDir,
    now: Instant,
}

impl Machine {
    /// One of `tests/data/powercap`.
    fn like(tree: &str) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/powercap").join(tree);
        let dir = tempfile::tempdir().unwrap();
        copy(&from, dir.path());
        Self { dir, now: Instant::now() }
    }

    fn rapl(&self) -> Rapl {
        Rapl::open(self.dir.path(), self.now).unwrap()
    }

    fn zone(&self, zone: &str) -> PathBuf {
        self.dir.path().join("sys/class/powercap").join(zone)
    }

    /// Lets time pass, in which zones count and threads work.
    fn passes(&mut self, ms: u64, joules: &[(&str, u64)], busy_ms: u64) {
        self.now += Duration::from_millis(ms);
        for (zone, joules) in joules {
            let (counter, range) = (self.zone(zone).join("energy_uj"), self.zone(zone).join("max_energy_range_uj"));
            let (before, range) = (read_number(&counter).unwrap(), read_number(&range).unwrap());
            fs::write(&counter, format!("{}\n", (before + joules * 1_000_000) % range)).unwrap();
        }
        let path = self.dir.path().join("proc/stat");
        let stat = fs::read_to_string(&path).unwrap();
        let (first, rest) = stat.split_once('\n').unwrap();
        let mut fields: Vec<u64> = first.split_whitespace().skip(1).map(|field| field.parse().unwrap()).collect();
        // Some of each kind that counts, and much of those that do not.
        let ticks = busy_ms * rustix::param::clock_ticks_per_second() / 1_000;
        fields[1] += ticks / 2;
        fields[2] += ticks / 4;
        fields[6] += ticks - ticks / 2 - ticks / 4;
        [3, 4, 7, 8].into_iter().for_each(|other| fields[other] += 777_777);
        let fields: Vec<String> = fields.iter().map(u64::to_string).collect();
        fs::write(&path, format!("cpu  {}\n{rest}", fields.join(" "))).unwrap();
    }

    /// As for who is not root: reading the file fails. (For root, a mode would not do.)
    fn hide(&self, zone: &str) -> u64 {
        let counter = self.zone(zone).join("energy_uj");
        let shown = read_number(&counter).unwrap();
        fs::remove_file(&counter).unwrap();
        fs::create_dir(&counter).unwrap();
        shown
    }

    fn show(&self, zone: &str, shown: u64) {
        let counter = self.zone(zone).join("energy_uj");
        fs::remove_dir(&counter).unwrap();
        fs::write(counter, shown.to_string()).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn energy(mj: u64, method: EnergyMethod) -> Energy {
    Energy { used: Millijoules(mj), method }
}

const CPU: Duration = Duration::from_millis(100);

#[test]
fn a_task_has_the_share_of_its_cpu_time_in_what_the_package_counts() {
    let mut machine = Machine::like("client");
    let rapl = machine.rapl();
    let begun = rapl.count(machine.now);
    // Parts of the package, the whole board and the same package by another way are not counted once more.
    let zones = [("intel-rapl:0", 6), ("intel-rapl:0:0", 4), ("intel-rapl:1", 50), ("intel-rapl-mmio:0", 6)];
    machine.passes(1_000, &zones, 400);
    assert_eq!(rapl.end_at(&begun, CPU, machine.now), energy(1_500, EnergyMethod::Rapl));
    assert_eq!(rapl.view().how, "the energy counters of 1 processor package, by share of CPU time");
}

#[test]
fn two_sockets_count_together() {
    let mut machine = Machine::like("two-sockets");
    let rapl = machine.rapl();
    let begun = rapl.count(machine.now);
    machine.passes(1_000, &[("intel-rapl:0", 90), ("intel-rapl:0:0", 30), ("intel-rapl:1", 110)], 1_000);
    assert_eq!(rapl.end_at(&begun, CPU, machine.now), energy(20_000, EnergyMethod::Rapl));
    assert!(rapl.view().how.contains("2 processor packages"));
}

#[test]
fn a_counter_goes_round() {
    let mut machine = Machine::like("amd");
    // It is 601.7 J short of its end.
    let rapl = machine.rapl();
    let begun = rapl.count(machine.now);
    machine.passes(10_000, &[("intel-rapl:0", 1_000)], 200);
    assert!(read_number(&machine.zone("intel-rapl:0").join("energy_uj")).unwrap() < 1_000_000_000, "it went round");
    assert_eq!(rapl.end_at(&begun, CPU, machine.now), energy(500_000, EnergyMethod::Rapl));
}

#[test]
fn rounds_between_looks_are_counted() {
    let mut machine = Machine::like("amd");
    let rapl = machine.rapl();
    let begun = rapl.count(machine.now);
    // At 1 kW a round takes 65 s; this are three of them.
    for _ in 0..13 {
        machine.passes(15_000, &[("intel-rapl:0", 15_000)], 15_000);
        rapl.count(machine.now);
    }
    let cpu = Duration::from_secs(195);
    assert_eq!(rapl.end_at(&begun, cpu, machine.now), energy(195_000_000, EnergyMethod::Rapl));
}

#[test]
fn no_task_has_more_than_all() {
    let mut machine = Machine::like("client");
    let rapl = machine.rapl();
    let begun = rapl.count(machine.now);
    machine.passes(5, &[("intel-rapl:0", 1)], 0);
    assert_eq!(rapl.end_at(&begun, CPU, machine.now), energy(1_000, EnergyMethod::Rapl));
    assert_eq!(rapl.end_at(&begun, Duration::ZERO, machine.now), energy(0, EnergyMethod::Rapl));
}

#[test]
fn a_counter_that_was_set_back_is_not_believed() {
    let mut machine = Machine::like("client");
    let rapl = machine.rapl();
    let begun = rapl.count(machine.now);
    fs::write(machine.zone("intel-rapl:0").join("energy_uj"), "1000\n").unwrap();
    machine.passes(1_000, &[], 400);
    // 65 W by 4 hardware threads, for a tenth of a second.
    assert_eq!(rapl.end_at(&begun, CPU, machine.now), energy(1_625, EnergyMethod::Tdp));
    let begun = rapl.count(machine.now);
    machine.passes(1_000, &[("intel-rapl:0", 6)], 400);
    assert_eq!(rapl.end_at(&begun, CPU, machine.now), energy(1_500, EnergyMethod::Rapl));
}

#[test]
fn what_ran_while_counters_were_hidden_goes_by_rated_power() {
    let mut machine = Machine::like("client");
    let rapl = machine.rapl();
    let before = rapl.count(machine.now);
    let shown = machine.hide("intel-rapl:0");
    machine.passes(1_000, &[], 400);
    let during = rapl.count(machine.now);
    machine.show("intel-rapl:0", shown + 9_000_000);
    machine.passes(1_000, &[], 400);
    for begun in [before, during] {
        assert_eq!(rapl.end_at(&begun, CPU, machine.now).method, EnergyMethod::Tdp);
    }
    let begun = rapl.count(machine.now);
    machine.passes(1_000, &[("intel-rapl:0", 6)], 400);
    assert_eq!(rapl.end_at(&begun, CPU, machine.now), energy(1_500, EnergyMethod::Rapl));
}

#[test]
fn without_counters_it_is_rated_power_or_a_model() {
    let cpu = Duration::from_secs(2);
    for (tree, zone, watts, method) in [
        // 65 W and 410 W by the hardware threads.
        ("client", "intel-rapl:0", 16_250, EnergyMethod::Tdp),
        ("two-sockets", "intel-rapl:1", 51_250, EnergyMethod::Tdp),
        // It does not say what it is rated at.
        ("amd", "intel-rapl:0", 3_500, EnergyMethod::Model),
    ] {
        let machine = Machine::like(tree);
        machine.hide(zone);
        let (meter, note) = (open(machine.dir.path(), machine.dir.path()), noted(machine.dir.path()));
        assert_eq!(meter.end(&meter.begin(), cpu), energy(2 * watts, method), "{tree}");
        let view = meter.view();
        assert_eq!((view.method.as_str(), note), (method.as_str(), Some(view.clone())));
        let expected = format!("{zone}/energy_uj");
        assert!(view.how.contains("cannot be read") && view.how.contains(&expected), "{}", view.how);
    }
    let nothing = tempfile::tempdir().unwrap();
    let meter = best(nothing.path());
    assert_eq!(meter.end(&meter.begin(), cpu), energy(7_000, EnergyMethod::Model));
    assert!(meter.view().how.contains("this machine shows no energy counters"), "{}", meter.view().how);
}

#[test]
fn a_rating_that_cannot_be_is_none() {
    for rating in ["0", "262144000000000", "no number"] {
        let machine = Machine::like("client");
        machine.hide("intel-rapl:0");
        fs::write(machine.zone("intel-rapl:0").join("constraint_0_max_power_uw"), rating).unwrap();
        assert_eq!(best(machine.dir.path()).view().method, "model", "{rating}");
    }
}

#[test]
fn busy_time_leaves_out_waiting_guests_and_other_machines() {
    let stat =
        parse_stat("cpu  10 20 30 1000 500 1 2 400 9 8\ncpu0 1 1\ncpu1 1 1\ncpufreq 3\nintr 3 4\n", 100).unwrap();
    assert_eq!((stat.busy, stat.threads), (Duration::from_millis(630), 2));
    for bad in ["", "intr 1", "cpu  1 2 3", "cpu  1 2 x 4 5 6 7"] {
        assert!(parse_stat(bad, 100).is_none(), "{bad:?}");
    }
}

/// Whatever this machine has, one of the ways works.
#[test]
fn this_machine_has_a_meter() {
    let meter = best(Path::new("/"));
    let begun = meter.begin();
    meter.look();
    let energy = meter.end(&begun, Duration::from_millis(20));
    assert_eq!(energy.method.as_str(), meter.view().method);
}
