//! Credits from one end to the other, through the commands and a real pool: a price is told, set aside and charged; work
//! earns, its receipt explains itself and is proved; money goes out when enough people approved; the audit is green.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use serde_json::{Value, json};
use support::{World, guest};

const STEWARDS: [&str; 3] = ["alice", "bob", "carol"];
/// Units that one item may use: much more than it does.
const FUEL: &str = "20000000";
const LINES: usize = 40;

/// A pool in which everything is paid in advance and two of three stewards approve payouts.
fn prepaid() -> World {
    World::configured_by(|world| {
        let approver = |name: &str| {
            let create = ["charter", "key", "create", name, "--no-passphrase", "--output", "json"];
            let key: Value = serde_json::from_str(&world.offline(&create)).unwrap();
            format!("{{ name = \"{name}\", key = {} }}", key["public"])
        };
        format!(
            "credit_limit = 0\n[payout]\nname = \"A Pool\"\niban = \"DE89370400440532013000\"\n\
             micro_credits_per_cent = 1000\nremittance = \"lent machines\"\napprovals = 2\napprovers = [{}]\n",
            STEWARDS.map(approver).join(", ")
        )
    })
}

/// A key of this account.
fn key_of(world: &World, account: &str) -> String {
    world.json(&["key", "create", "--account", account])["secret"].as_str().unwrap().to_owned()
}

fn job<'a>(verb: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let what = ["job", verb, "--input", "in.txt", "--records-per-task", "10", "--fuel", FUEL];
    [&what[..], more].concat()
}

fn micro(view: &Value, name: &str) -> i64 {
    view[format!("{name}_micro_credits")].as_i64().unwrap_or_else(|| panic!("no {name} in {view}"))
}

fn sum(rows: &Value, name: &str) -> i64 {
    rows["data"].as_array().unwrap().iter().map(|row| micro(row, name)).sum()
}

#[test]
fn credits_go_from_a_price_to_a_payment_and_everybody_can_check_it() {
    let mut world = prepaid();
    world.write("in.txt", (0..LINES).map(|n| format!("line {n} of some words\n")).collect::<String>());
    let (ann, bob, lender) = (key_of(&world, "ann"), key_of(&world, "bob"), key_of(&world, "lender"));
    let program = guest("wordcount");
    let program = ["--program", program.as_str()];
    world.start_agent_of("lender", "device");
    world.await_devices(1);

    // A tariff by which such little work earns whole credits: a micro-credit a unit.
    world.ok(&["tariff", "propose", "--set", "compute.microCreditsPerGigaFuel=1000000000", "--now"]);
    let in_force = |world: &World| world.json(&["tariff", "show"])["data"][0].clone();
    world.until("the tariff", |world| {
        in_force(world)["number"] == json!(2) && in_force(world)["state"] == json!("in-force")
    });
    let early = world.fails(&["tariff", "propose", "--set", "price.poolFeePpm=1", "--from", "2020-01-01T00:00:00Z"]);
    assert!(early.contains("24 hours"), "{early}");

    // What it would cost, and what stands in the way.
    let quote = |world: &World| world.json(&job("quote", &[&program[..], &["--key", &ann]].concat()));
    let unknown = quote(&world);
    let price = micro(&unknown, "price_max");
    assert_eq!((&unknown["tasks"], &unknown["copies"], &unknown["records"]), (&json!(4), &json!(1), &json!(LINES)));
    assert_eq!((&unknown["estimate"], &unknown["error_bound"]), (&Value::Null, &Value::Null), "spot promises nothing");
    assert_eq!(unknown["affordable"], json!(false));
    let checked = world.ok(&job("quote", &[&program[..], &["--verify", "audit", "--key", &ann]].concat()));
    assert!(checked.contains("at most 1.0e-4") && checked.contains("has 0 credits"), "{checked}");
    let dry = world.ok(&job("submit", &[&program[..], &["--dry-run", "--max-price", "1", "--key", &ann]].concat()));
    assert!(dry.contains("more than --max-price"), "{dry}");
    let (status, files) = world.http_json("GET", "/v1/files", &ann, b"");
    assert_eq!((status, &files["data"]), (200, &json!([])), "asking leaves no file behind");

    // What requesters bring is the admin's to allow.
    let (_, workloads) = world.http_json("GET", "/caii/v1/workloads", &ann, b"");
    world.ok(&["workload", "allow", workloads["data"][0]["digest"].as_str().unwrap()]);
    let refused = |world: &World, more: &[&str], code: &str| {
        let submitted = world.json(&job("submit", &[&program[..], more].concat()));
        let ended = world.await_job(submitted["id"].as_str().unwrap());
        assert_eq!((&ended["state"], &ended["errors"][0]["code"]), (&json!("failed"), &json!(code)), "{ended}");
    };
    refused(&world, &["--key", &ann], "credits-insufficient");
    let once = "0123456789abcdef0123456789abcdef";
    for _ in 0..2 {
        let top_up = ["account", "top-up", "--account", "ann", "2000.5", "--payment", "--once", once];
        assert_eq!(micro(&world.json(&top_up), "balance"), 2_000_500_000, "once is once");
    }
    let other = world.fails(&["account", "top-up", "--account", "ann", "3", "--payment", "--once", once]);
    assert!(other.contains("another top-up"), "{other}");
    refused(&world, &["--max-price", "1", "--key", &ann], "price-above-limit");

    // It runs; what was not used comes back.
    let done = world.json(&job("submit", &[&program[..], &["--wait", "-o", "out.jsonl", "--key", &ann]].concat()));
    let id = done["id"].as_str().unwrap();
    let status = world.json(&["job", "status", id, "--key", &ann]);
    let charged = micro(&status["price"], "charged");
    assert_eq!(micro(&status["price"], "reserved"), price, "the quote is what was set aside");
    assert!(charged > 0 && charged < price);
    assert_eq!(charged + micro(&status["price"], "returned"), price);
    let balance = world.json(&["account", "balance", "--key", &ann]);
    assert_eq!((micro(&balance, "balance"), micro(&balance, "reserved")), (2_000_500_000 - charged, 0));
    let statement = world.json(&["account", "statement", "--account", "ann"]);
    let kinds: Vec<&Value> = statement["data"].as_array().unwrap().iter().map(|line| &line["kind"]).collect();
    assert_eq!(kinds, ["return", "reserve", "payment"]);
    assert_eq!(micro(&statement["data"][2], "after"), 2_000_500_000);
    let foreign = world.fails(&["account", "balance", "--account", "ann", "--key", &bob]);
    assert!(foreign.contains("of bob and sees that account alone"), "{foreign}");
    // Now it is known what such lines take; each task is rounded by itself.
    let known = quote(&world);
    let estimated = micro(&known["estimate"], "price");
    assert!((estimated - charged).abs() <= 4 * 4, "{estimated} of {charged}");
    assert!(known["estimate"]["duration_ms"].is_u64(), "{known}");

    receipts_explain_themselves(&world, id, &ann, &bob, &lender);
    let doubled = ["tariff", "simulate", "--set", "compute.microCreditsPerGigaFuel=2000000000"];
    let simulated = world.json(&doubled);
    assert_eq!((&simulated["receipts"], micro(&simulated["charged"], "was")), (&json!(4), charged));
    let would = micro(&simulated["charged"], "would_be");
    assert!((would - 2 * charged).abs() <= 8 * charged / 1_000_000 + 4 * 200, "{would} of {charged}");
    assert_eq!(simulated["owners"][0]["account"], json!("lender"));

    money_goes_out(&world, &lender);
    let balanced = world.json(&["ledger", "trial-balance"]);
    assert_eq!((&balanced["balanced"], &balanced["sum"]), (&json!(true), &json!("0")));
    world.until("all that was logged to be published", |world| {
        let log = &world.json(&["pool", "status"])["log"];
        log["entries"] == log["published"]
    });
    let report = world.offline(&["audit", world.pool_dir().join("published").to_str().unwrap(), "--output", "json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["verdict"], json!("green"), "{report}");
    for kind in ["receipt", "ledger-entry", "payout-sent"] {
        assert!(report["entries"][kind].as_u64().is_some_and(|count| count > 0), "no {kind}: {report}");
    }
}

fn receipts_explain_themselves(world: &World, job: &str, ann: &str, bob: &str, lender: &str) {
    let list = world.json(&["receipt", "list", "--key", lender]);
    let receipts = list["data"].as_array().unwrap();
    assert_eq!(receipts.len(), 4);
    assert!(receipts.iter().all(|receipt| receipt["verdict"] == json!("accepted") && receipt["paid"].is_object()));
    assert_eq!(world.json(&["receipt", "list", "--job", job, "--key", ann]), list, "who paid sees them as well");
    let foreign = world.fails(&["receipt", "list", "--job", job, "--key", bob]);
    assert!(foreign.contains("no job"), "{foreign}");

    let earnings = world.json(&["earnings", "--key", lender]);
    assert_eq!(sum(&earnings, "earned"), sum(&list, "reward"));
    let row = &earnings["data"][0];
    assert_eq!((&row["name"], &row["void"]), (&json!("wordcount"), &json!({})));
    let has = world.json(&["account", "balance", "--key", lender]);
    assert_eq!(micro(&has, "balance"), sum(&list, "reward"));
    assert!(world.json(&["earnings", "--key", bob])["data"].as_array().unwrap().is_empty());

    let device = receipts[0]["device"].as_str().unwrap();
    let second = format!("{device}/2");
    let told = world.ok(&["receipt", "show", &second, "--key", lender]);
    for said in ["[compute] compute = ", "[reliability] bonus", "the calculation above gives the same", "paid by tr_"] {
        assert!(told.contains(said), "{said}: {told}");
    }
    let none = world.fails(&["receipt", "show", &format!("{device}/9"), "--key", lender]);
    assert!(none.contains("caii receipt list"), "{none}");
    assert!(!world.run(&["receipt", "show", &second, "--key", bob]).ok, "neither bob's device nor his job");

    world.until("the receipt to be published", |world| {
        world.run(&["receipt", "prove", &second, "--out", "proof", "--key", lender]).ok
    });
    let pool: Value = serde_json::from_str(&world.read("pool/published/pool.json")).unwrap();
    let key = pool["log"][0].as_str().unwrap();
    let verified = world.offline(&["receipt", "verify", "proof", "--log-key", key]);
    assert!(verified.contains(&second) && verified.contains("of lender"), "{verified}");
    let forged = world.read("proof").replacen("index 1", "index 2", 1);
    assert_ne!(forged, world.read("proof"));
    world.write("proof", forged);
    let refused = world.fails(&["receipt", "verify", "proof", "--log-key", key]);
    assert!(refused.contains("does not show"), "{refused}");
}

fn money_goes_out(world: &World, lender: &str) {
    let prefer = ["payout", "prefer", "direct", "--name", "Lia Lender", "--key", lender, "--iban"];
    let wrong = world.fails(&[&prefer[..], &["DE88370400440532013000"]].concat());
    assert!(wrong.contains("check digits"), "{wrong}");
    world.ok(&[&prefer[..], &["DE89370400440532013000"]].concat());
    let only = world.fails(&["payout", "list", "--key", lender]);
    assert!(only.contains("admin key"), "{only}");
    let before = micro(&world.json(&["account", "balance", "--account", "lender"]), "balance");

    let run = world.json(&["payout", "run"]);
    assert_eq!((&run["run"], &run["state"], &run["approvals_needed"]), (&json!(1), &json!("waits"), &json!(2)));
    assert!(world.read("payout-1-pain001.xml").contains("DE89370400440532013000"));
    assert_eq!(world.read("payout-1-payments.csv").lines().count(), 2);
    let early = world.fails(&["payout", "send", "1"]);
    assert!(early.contains("0 of 2 approvals"), "{early}");
    for name in &STEWARDS[..2] {
        world.ok(&["payout", "approve", "1", "--key-file", &format!("{name}.key")]);
    }
    let sent = world.json(&["payout", "send", "1"]);
    assert_eq!((&sent["state"], &sent["approved_by"]), (&json!("sent"), &json!(["alice", "bob"])));
    let settled = world.json(&["payout", "settle", "1", "--rest"]);
    assert_eq!((&settled["state"], &settled["payments"][0]["open"]), (&json!("settled"), &json!(false)));
    let left = world.json(&["account", "balance", "--account", "lender"]);
    assert_eq!(
        (micro(&left, "balance"), micro(&left, "payable")),
        (before % 1_000, 0),
        "what is less than a cent stays"
    );
    let statement = world.ok(&["account", "statement", "--account", "lender", "--limit", "1"]);
    assert!(statement.contains("request 1 to be paid out"), "{statement}");
}

#[test]
fn who_prefers_priority_or_a_discount_says_so_and_it_is_kept() {
    let mut world = prepaid();
    let ann = key_of(&world, "ann");
    for preference in ["priority", "discount", "credits"] {
        let view = world.json(&["payout", "prefer", preference, "--key", &ann]);
        assert_eq!(view["payout"], json!(preference));
    }
    let stray = world.fails(&["payout", "prefer", "credits", "--iban", "DE89370400440532013000", "--key", &ann]);
    assert!(stray.contains("`direct` alone"), "{stray}");
    world.ok(&["payout", "prefer", "discount", "--key", &ann]);
    world.ok(&["account", "top-up", "--account", "ann", "1"]);
    world.kill_pool();
    world.start_pool();
    assert_eq!(world.json(&["account", "balance", "--key", &ann])["payout"], json!("discount"));
    let notes = world.json(&["payout", "run", "--credit-notes"]);
    assert_eq!((&notes["total"], &notes["payments"][0]["account"]), (&json!("10.00"), &json!("ann")));
    let csv = world.read("payout-1-payments.csv");
    assert!(csv.contains(",ann,,,,EUR,10.00,1000000,") && csv.contains("credit note"), "{csv}");
}
