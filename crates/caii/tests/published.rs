//! What a pool publishes while it works: within a second, over directory and HTTPS, green for every auditor, cosigned by
//! witnesses, whatever is killed.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use caii_audit::{ClaimRef, Logged, OPENINGS_WIDTH, Opening, Openings, openings_path};
use caii_ledger::{Entry, LedgerAccount, Purpose};
use caii_model::{DeviceId, TaskId, Verdict};
use caii_tlog::{Checkpoint, Note};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{Random, World, guest};

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A request as any program makes it: status, headers in lower case, body. The pool may be down: nothing then.
fn get(address: &str, path: &str) -> Option<(u16, String, Vec<u8>)> {
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: pool\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some((status, head, answer.split_off(end + 4)))
}

fn size_of(checkpoint: &[u8]) -> u64 {
    Checkpoint::parse(Note::parse(checkpoint).unwrap().text()).unwrap().tree.size
}

/// Somebody who asks for the checkpoint all the time: each size with when it was seen first.
struct Reader(Arc<AtomicBool>, JoinHandle<Vec<(u64, u64)>>);

impl Reader {
    fn start(world: &World) -> Self {
        let (stop, address) = (Arc::new(AtomicBool::new(false)), world.http());
        let stopped = stop.clone();
        let read = move || {
            let mut seen: Vec<(u64, u64)> = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                if let Some((200, _, bytes)) = get(&address, "/published/checkpoint") {
                    let size = size_of(&bytes);
                    if seen.last().is_none_or(|(last, _)| *last < size) {
                        seen.push((size, now_ms()));
                    }
                }
                // How fine the measurement is.
                std::thread::sleep(Duration::from_millis(5));
            }
            seen
        };
        Self(stop, std::thread::spawn(read))
    }

    fn seen(self) -> Vec<(u64, u64)> {
        self.0.store(true, Ordering::SeqCst);
        self.1.join().unwrap()
    }
}

/// Everything that was published, in order.
fn entries(dir: &Path) -> Vec<Logged> {
    let size = size_of(&std::fs::read(dir.join("checkpoint")).unwrap());
    let mut entries = Vec::new();
    for number in 0..size.div_ceil(OPENINGS_WIDTH as u64) {
        let width = (size - number * OPENINGS_WIDTH as u64).min(OPENINGS_WIDTH as u64) as usize;
        let bytes = std::fs::read(dir.join(openings_path(number, width))).unwrap();
        for opening in Openings::from_bytes(&bytes, width).unwrap().openings {
            let Opening::Open { bytes, .. } = opening else { panic!("nothing was erased") };
            entries.push(Logged::from_canonical(&bytes).unwrap());
        }
    }
    entries
}

fn published(world: &World) -> PathBuf {
    world.pool_dir().join("published")
}

/// Waits until all that was logged can be read.
fn await_published(world: &World) -> u64 {
    world.until_some("all that was logged to be published", |world| {
        let log = &world.json(&["pool", "status"])["log"];
        (log["entries"] == log["published"]).then(|| log["published"].as_u64().unwrap())
    })
}

/// The audit of a place, which must be green; how many entries it had.
fn green(world: &World, args: &[&str]) -> u64 {
    let done = world.run(&[&["audit"], args, &["--output", "json"]].concat());
    assert_eq!(done.code, Some(0), "{args:?}: {}{}", done.stdout, done.stderr);
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(report["verdict"], "green");
    report["size"].as_u64().unwrap()
}

fn submit(world: &World, lines: usize, verify: &str) -> String {
    let text: String =
        (0..lines).map(|n| format!("line {n} has {} and {}\n", "some words ".repeat(n % 7), n * n)).collect();
    world.write("in.txt", text);
    let program = guest("wordcount");
    world.submit(&["--program", &program, "--input", "in.txt", "--records-per-task", "2", "--verify", verify])
}

#[test]
fn receipts_can_be_read_within_a_second_and_the_audit_is_green_from_everywhere() {
    let mut world = World::configured("audit_secret_seconds = 2\n");
    for name in ["ann", "bob", "cid"] {
        world.start_agent_of(name, name);
    }
    world.await_devices(3);
    let reader = Reader::start(&world);
    let (https, fingerprint) = (world.up["url"].as_str().unwrap().to_owned(), world.up["fingerprint"].clone());
    let (https, fingerprint) = (format!("{https}/published"), fingerprint.as_str().unwrap().to_owned());
    let dir = published(&world).display().to_string();
    let jobs: Vec<String> = ["spot", "audit=30", "quorum=2"].map(|verify| submit(&world, 240, verify)).into();
    // While it works, and again when it has.
    green(&world, &[&https, "--fingerprint", &fingerprint]);
    green(&world, &[&dir]);
    for job in &jobs {
        let ended = world.await_job(job);
        assert_eq!(ended["state"], json!("completed"), "{ended}");
    }
    let size = await_published(&world);
    let seen = reader.seen();
    assert!(green(&world, &[&https, "--fingerprint", &fingerprint]) >= size);
    assert!(green(&world, &[&dir]) >= size);
    assert!(green(&world, &[&format!("{}/published/", world.http())]) >= size);
    // The pool of this machine, whose certificate is known, by no address and by its own.
    assert!(green(&world, &[]) >= size);
    assert!(green(&world, &[&https]) >= size);
    let foreign = world.run(&["audit", &https, "--fingerprint", &"00".repeat(32)]);
    assert_eq!(foreign.code, Some(2), "{}", foreign.stdout);
    assert!(foreign.stderr.contains("it is another pool, or something stands between"), "{}", foreign.stderr);

    let entries = entries(&published(&world));
    let mut took: Vec<u64> = Vec::new();
    for (index, entry) in (0u64..).zip(&entries).filter(|(_, entry)| matches!(entry, Logged::Receipt(_))) {
        if let Some((_, at)) = seen.iter().find(|(size, _)| *size > index) {
            took.push(at.saturating_sub(entry.at().0));
        }
    }
    took.sort_unstable();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!(
        "{} receipts could be read after {p50} ms (p50), {p99} ms (p99), {:?} ms at most",
        took.len(),
        took.last()
    );
    assert!(took.len() > 400, "{}", took.len());
    assert!(p99 < 1_000, "{p99} ms");
}

#[test]
fn everybody_can_see_who_cheated_and_that_it_was_not_paid() {
    let mut world = World::new();
    world.start_cheat_of("mallory", "cheat", 300);
    for name in ["ann", "bob", "cid"] {
        world.start_agent_of(name, name);
    }
    world.await_devices(4);
    let job = submit(&world, 240, "audit=30");
    assert_eq!(world.await_job(&job)["state"], "completed");
    let (ok, log) = world.agent_end("cheat");
    assert!(!ok && log.contains("an audit found to be false"), "{log}");
    let size = await_published(&world);
    let dir = published(&world);
    assert!(green(&world, &[&dir.display().to_string()]) >= size);

    let entries = entries(&dir);
    let owner = |entry: &Logged| match entry {
        Logged::DeviceEnrolled { key, owner, .. } => Some((caii_trust::device_id(key), owner.as_str().to_owned())),
        _ => None,
    };
    let owners: BTreeMap<DeviceId, String> = entries.iter().filter_map(owner).collect();
    let convicted: BTreeSet<&str> = entries
        .iter()
        .filter_map(|entry| match entry {
            Logged::DeviceConvicted(convicted) => Some(owners[&convicted.device].as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(convicted, ["mallory"].into());
    let voided: BTreeSet<ClaimRef> = entries
        .iter()
        .filter_map(|entry| match entry {
            Logged::ClaimVoided { claim, .. } => Some(*claim),
            _ => None,
        })
        .collect();
    assert!(!voided.is_empty());
    // Whoever holds the files can add it up: paid to each owner, for what.
    let paid = |entry: &Logged| match entry {
        Logged::Entry(Entry { purpose: Purpose::TaskAccepted(task, device), postings, .. }) => {
            let amount: i64 = postings
                .iter()
                .filter(|posting| matches!(&posting.credit, LedgerAccount::Member(_) | LedgerAccount::Held(_)))
                .map(|posting| posting.amount.0)
                .sum();
            Some((*task, *device, amount))
        }
        _ => None,
    };
    let paid: Vec<(TaskId, DeviceId, i64)> = entries.iter().filter_map(paid).collect();
    let void_tasks: BTreeSet<(TaskId, DeviceId)> = entries
        .iter()
        .filter_map(|entry| match entry {
            Logged::Receipt(receipt) => {
                let claim = ClaimRef { device: receipt.claim.device, sequence: receipt.claim.sequence };
                let void = voided.contains(&claim) || matches!(receipt.verdict, Verdict::Void(_));
                void.then_some((receipt.claim.task, receipt.claim.device))
            }
            _ => None,
        })
        .collect();
    let honest: i64 = paid.iter().filter(|(_, device, _)| owners[device] != "mallory").map(|(.., amount)| amount).sum();
    println!("{} tasks paid, {} claims void, {honest} micro-credits to honest owners", paid.len(), void_tasks.len());
    assert!(honest > 0);
    assert!(paid.iter().all(|(task, device, _)| !void_tasks.contains(&(*task, *device))));
}

#[test]
fn nothing_but_the_log_is_served() {
    let world = World::with_devices(1);
    let job = submit(&world, 20, "spot");
    world.await_job(&job);
    await_published(&world);
    let size = size_of(&get(&world.http(), "/published/checkpoint").unwrap().2);
    let partial = format!("/published/tile/entries/000.p/{size}");
    for (path, status, caching) in [
        ("/published/checkpoint", 200, "no-cache"),
        ("/published/pool.json", 200, "no-cache"),
        (&partial, 200, "public, max-age=31536000, immutable"),
        (&partial.replace("tile/entries", "opening"), 200, "public, max-age=86400"),
        ("/published/cosigned", 404, ""),
        ("/published/", 404, ""),
        ("/published", 404, ""),
        ("/published/tile", 404, ""),
        ("/published/.new", 404, ""),
        (&format!("/published/tile/entries/000.p/{}", size + 1), 404, ""),
        ("/published/tile/entries/000", 404, ""),
        ("/published/../pool.key", 404, ""),
        ("/published/%2e%2e/pool.key", 404, ""),
        ("/published/..%2fpool.key", 404, ""),
        ("/published/tile/..%2f..%2f..%2fpool.key", 404, ""),
        ("/published/opening/../../pool.key", 404, ""),
        ("/published/tariff/..%2f..%2flog.key", 404, ""),
        ("/published//etc/passwd", 404, ""),
    ] {
        let (found, head, body) = get(&world.http(), path).unwrap();
        assert_eq!(found, status, "{path}: {head}");
        if status == 200 {
            assert!(head.contains(&format!("cache-control: {caching}\r\n")), "{path}: {head}");
            assert!(!body.is_empty());
        }
        assert!(!head.contains("www-authenticate"), "{head}");
    }
}

const KILLS: usize = 8;

#[test]
fn a_pool_killed_at_any_instant_goes_on_with_its_log() {
    let mut world = World::with_devices(2);
    let mut random = Random::seeded();
    let dir = published(&world).display().to_string();
    let published_now = |world: &World| match get(&world.http(), "/published/checkpoint") {
        Some((200, _, checkpoint)) => Some(checkpoint),
        _ => None,
    };
    let (mut kills, mut size) = (0, 0);
    while kills < KILLS {
        let job = submit(&world, 600, ["spot", "quorum=2"][kills % 2]);
        while kills < KILLS {
            // In the midst of it: devices wait a while for a new pool before they go on.
            world.until("more to be published", |world| {
                published_now(world).is_some_and(|checkpoint| size_of(&checkpoint) > size)
                    || world.json(&["job", "status", &job])["state"] == "completed"
            });
            std::thread::sleep(Duration::from_millis(random.below(250)));
            if world.json(&["job", "status", &job])["state"] == "completed" {
                break;
            }
            let last = published_now(&world).unwrap();
            size = size_of(&last);
            world.write("last", last);
            world.kill_pool();
            kills += 1;
            // What is there without the pool is whole, and so is what it makes of it.
            green(&world, &[&dir, "--last", "last"]);
            world.start_pool();
            world.await_devices(2);
        }
        assert_eq!(world.await_job(&job)["state"], "completed");
    }
    let size = await_published(&world);
    assert!(green(&world, &[&dir, "--last", "last"]) >= size);
    println!("{kills} kills, {size} entries");
}

/// A witness of its own process.
struct Witness {
    child: Child,
    url: String,
}

impl Witness {
    fn start(world: &World, key: &str, listen: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_caii"));
        command.args(["witness", "run", "--key", key, "--listen", listen]).current_dir(world.dir.path());
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        said.read_line(&mut first).unwrap();
        let url = first.trim().rsplit_once(" listens on ").unwrap_or_else(|| panic!("{first}")).1.to_owned();
        // Whoever writes needs somebody who reads.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { child, url }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn witnesses_cosign_and_those_that_are_away_hold_nothing_up() {
    let mut world = World::new();
    let log_key = world.json(&["pool", "status"])["log"]["key"].as_str().unwrap().to_owned();
    assert!(world.stop_pool());
    let init = |name: &str| {
        let init = ["witness", "init", "--key", name, "--name", &format!("{name}.example"), "--log", &log_key];
        let made = world.offline(&[&init[..], &["--output", "json"]].concat());
        serde_json::from_str::<Value>(&made).unwrap()["key"].as_str().unwrap().to_owned()
    };
    let keys = ["w1", "w2"].map(init);
    let (one, mut two) = (Witness::start(&world, "w1", "127.0.0.1:0"), Witness::start(&world, "w2", "127.0.0.1:0"));
    let setting = |url: &str, key: &str| format!("{{ url = \"{url}\", key = \"{key}\" }}");
    let settings = [setting(&one.url, &keys[0]), setting(&two.url, &keys[1])].join(", ");
    let policy = |quorum: &str| {
        format!(
            "log {log_key}\nwitness one {}\nwitness two {}\ngroup both all one two\nquorum {quorum}\n",
            keys[0], keys[1]
        )
    };
    world.write("both", policy("both"));
    world.write("first", policy("one"));
    world.configure(&format!("witnesses = [{settings}]\n"));
    world.start_pool();
    world.start_agent("device-0");
    world.await_devices(1);
    // A second one for the same key would be a second memory.
    let second = Command::new(env!("CARGO_BIN_EXE_caii"))
        .args(["witness", "run", "--key", "w1", "--listen", "127.0.0.1:0"])
        .current_dir(world.dir.path())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&second.stderr).contains("another witness uses w1.state"), "{second:?}");

    let cosigned = |world: &World, name: &str| {
        let status = world.json(&["pool", "status"]);
        let witnesses = status["log"]["witnesses"].as_array().unwrap();
        let witness = witnesses.iter().find(|witness| witness["name"] == format!("{name}.example")).cloned().unwrap();
        (witness["cosigned"].as_u64().unwrap_or(0), witness["trouble"].as_str().map(str::to_owned))
    };
    let by_both = |world: &World, size: u64| {
        world.until("both witnesses", |world| ["w1", "w2"].iter().all(|name| cosigned(world, name).0 >= size));
    };
    let job = submit(&world, 60, "spot");
    world.await_job(&job);
    let size = await_published(&world);
    by_both(&world, size);
    let dir = published(&world).display().to_string();
    // It need not be the newest checkpoint that both have cosigned, while the log grows.
    assert!(green(&world, &[&dir, "--policy", "both"]) >= size);
    assert!(green(&world, &["--policy", "both"]) >= size);
    let told = world.ok(&["pool", "status"]);
    assert!(told.contains("witness  w1.example cosigned ") && told.contains("witness  w2.example cosigned "), "{told}");

    // One goes away; the pool publishes on, and the other one cosigns on.
    two.kill();
    let job = submit(&world, 60, "spot");
    world.await_job(&job);
    let later = await_published(&world);
    assert!(later > size);
    world.until("the other witness", |world| cosigned(world, "w1").0 >= later);
    assert!(green(&world, &[&dir, "--policy", "first"]) >= later);
    world.until("word of it", |world| {
        cosigned(world, "w2").1.is_some_and(|trouble| trouble.contains("it cannot be reached"))
    });
    let told = world.ok(&["pool", "status"]);
    assert!(told.contains("; now it cannot be reached"), "{told}");

    // It comes back with what it remembers, and catches up; the pool is another process, too.
    let address = two.url.trim_start_matches("http://").to_owned();
    let two = Witness::start(&world, "w2", &address);
    assert_eq!(two.url, format!("http://{address}"));
    world.kill_pool();
    world.start_pool();
    by_both(&world, later);
    assert_eq!(cosigned(&world, "w2").1, None);
    assert!(green(&world, &[&dir, "--policy", "both"]) >= later);
}

#[test]
fn what_the_log_began_with_stays() {
    let mut world = World::configured("credit_limit = 100\n");
    await_published(&world);
    assert!(world.stop_pool());
    let refused = |world: &World| {
        let output = world.pool_command().output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    world.configure("credit_limit = 5\n");
    let told = refused(&world);
    assert!(
        told.contains("pool.toml says `credit_limit = 5`") && told.contains("set `credit_limit = 100` again"),
        "{told}"
    );
    world.configure("credit_limit = 100\n");
    world.start_pool();
    let size = await_published(&world);
    assert!(world.stop_pool());

    // An older database under a newer log: nothing may be logged on top of it.
    std::fs::copy(world.path("pool/pool.db"), world.path("older.db")).unwrap();
    world.start_pool();
    world.start_agent("device-0");
    world.await_devices(1);
    assert!(await_published(&world) > size);
    assert!(world.stop_agent("device-0") && world.stop_pool());
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(world.path(&format!("pool/pool.db{suffix}")));
    }
    std::fs::copy(world.path("older.db"), world.path("pool/pool.db")).unwrap();
    let told = refused(&world);
    assert!(told.contains("it is an older copy. Restore the newest one"), "{told}");
}
