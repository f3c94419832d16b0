//! `caii charter`: who may certify programs, and how many of them it takes.

use crate::error::CliError;
use crate::output::{self, Format, now_ms, table};
use caii_governance::{
    Draft, Founding, GovernanceError, KeyFileError, ONLINE_KEY, Published, Refreshed, Repository, SoftwareKey, Status,
};
use caii_model::{Digest, Millis, Region, RuntimeVersion, Timestamp};
use caii_trust::{Body, Charter as Rules, Envelope, Mandate, PublicKey, Revocations, Steward, format_time};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// How long a refresh by hand vouches that nothing newer exists.
const FRESH: &str = "7d";

#[derive(Debug, Subcommand)]
pub(crate) enum Charter {
    /// Stewards' keys.
    #[command(subcommand)]
    Key(Key),
    /// Draft a new charter. It is in force when as many stewards signed as it takes to change it.
    Init(Box<Init>),
    /// Show a charter: what is in force, and what awaits whose signature.
    Show(Dir),
    /// Sign the draft as a steward; `caii charter show` says first what that is.
    Sign(Sign),
    /// Take over what was signed elsewhere: another copy's signatures on the draft, or a revocation.
    Merge(Merge),
    /// Draft a change: other stewards, other rules, or the same for longer. Stewards of before and of after sign it.
    Rotate(Box<Rotate>),
    /// Put a signed draft in force and vouch anew, by the pool's key, that nothing newer exists.
    Refresh(Refresh),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key, in a file that is encrypted with a passphrase.
    Create {
        /// Whose it is: the steward's name.
        name: String,
        /// The file; default: NAME.key.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        passphrase: Passphrase,
        /// Do not encrypt it: for keys that a program must read by itself.
        #[arg(long, conflicts_with = "passphrase_file")]
        no_passphrase: bool,
    },
    /// Show the public key of a key's file, as `caii charter init` takes it.
    Show {
        /// The key's file.
        file: PathBuf,
    },
}

/// Where a passphrase comes from.
#[derive(Debug, Args)]
pub(crate) struct Passphrase {
    /// A file with the key's passphrase; default: the variable CAII_PASSPHRASE, or the prompt.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// The charter's directory.
#[derive(Debug, Args)]
pub(crate) struct Dir {
    /// The charter's directory.
    #[arg(long = "charter", value_name = "DIR", env = "CAII_CHARTER")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    #[command(flatten)]
    dir: Dir,
    // `--key` is the API key of the commands that talk to a pool; here it takes that one's place, so it has its type.
    /// The steward's key.
    #[arg(long, value_name = "FILE")]
    key: String,
    #[command(flatten)]
    passphrase: Passphrase,
}

#[derive(Debug, Args)]
pub(crate) struct Merge {
    #[command(flatten)]
    dir: Dir,
    /// Another copy of the directory, or a file that `caii workload revoke --out` wrote.
    from: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Refresh {
    #[command(flatten)]
    dir: Dir,
    /// The pool's key; default: online.key in the directory.
    #[arg(long, value_name = "FILE")]
    online_key: Option<PathBuf>,
    /// For how long it vouches.
    #[arg(long, value_name = "TIME", default_value = FRESH, value_parser = super::duration)]
    valid: Millis,
}

/// The rules that can be set.
#[derive(Debug, Args)]
struct RulesArgs {
    /// How many stewards it takes to change the charter, and to certify unless --mandate says otherwise.
    #[arg(long, value_name = "K")]
    threshold: Option<u32>,
    /// Who certifies for a region, `any` being everywhere else, and how many: `eu=2:alice,bob`. May be repeated;
    /// default: all stewards, everywhere.
    #[arg(long = "mandate", value_name = "REGION=K:NAMES", value_parser = mandate)]
    mandates: Vec<Mandate>,
    /// Stewards of whom any one can stop a program or a key; default: all.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    revoke: Vec<String>,
    /// The oldest runtime that may run anything.
    #[arg(long, value_name = "VERSION")]
    runtime_min: Option<RuntimeVersion>,
    /// How long a certification may be valid; default: a year.
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    certification_max: Option<Millis>,
    /// How long the stewards' signatures on the charter hold.
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = super::duration)]
    valid: Millis,
    /// The pool's key, which keeps the files fresh; default: online.key in the directory, made if need be.
    #[arg(long, value_name = "ed25519:HEX|FILE", value_parser = public_key)]
    online: Option<PublicKey>,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    #[command(flatten)]
    dir: Dir,
    /// What it is called.
    #[arg(long)]
    name: String,
    /// A steward, for which body, and the public key or a file with it: `alice@lab=ed25519:9f…`. May be repeated.
    #[arg(long = "steward", value_name = "NAME@BODY=KEY", value_parser = steward, required = true)]
    stewards: Vec<Steward>,
    /// What a body is, for people: `lab=The laboratory`. May be repeated.
    #[arg(long = "body", value_name = "NAME=TEXT")]
    bodies: Vec<String>,
    #[command(flatten)]
    rules: RulesArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    dir: Dir,
    /// A steward who comes, or comes with another key: `alice@lab=ed25519:9f…`. May be repeated.
    #[arg(long = "add", value_name = "NAME@BODY=KEY", value_parser = steward)]
    add: Vec<Steward>,
    /// A steward who leaves. May be repeated.
    #[arg(long = "remove", value_name = "NAME")]
    remove: Vec<String>,
    #[command(flatten)]
    rules: RulesArgs,
}

fn steward(text: &str) -> Result<Steward, String> {
    let wrong = || "write NAME@BODY=KEY, as alice@lab=ed25519:9f… or alice@lab=alice.key".to_owned();
    let (who, key) = text.split_once('=').ok_or_else(wrong)?;
    let (name, body) = who.split_once('@').ok_or_else(wrong)?;
    Ok(Steward { name: name.to_owned(), body: body.to_owned(), key: public_key(key)? })
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    match text.split_once(':') {
        Some((algorithm, hex)) if !text.contains(['/', '.']) => {
            PublicKey::parse(algorithm, hex).map_err(|error| error.to_string())
        }
        _ => SoftwareKey::stated(Path::new(text)).map(|(_, key)| key).map_err(|error| crate::error::chain(&error)),
    }
}

fn mandate(text: &str) -> Result<Mandate, String> {
    let wrong = || "write REGION=K:NAMES, as eu=2:alice,bob".to_owned();
    let (region, rest) = text.split_once('=').ok_or_else(wrong)?;
    let (threshold, names) = rest.split_once(':').ok_or_else(wrong)?;
    Ok(Mandate {
        region: region.parse::<Region>().map_err(|error| error.to_string())?,
        threshold: threshold.parse().map_err(|_| wrong())?,
        stewards: names.split(',').map(str::to_owned).collect(),
    })
}

fn written(key: &PublicKey) -> String {
    format!("{}:{}", key.algorithm(), key.hex())
}

/// The key of a file, its passphrase asked for if it needs one.
pub(crate) fn read_key(path: &Path, passphrase: &Passphrase) -> Result<SoftwareKey, CliError> {
    let ask = |name: &str| match given(passphrase)? {
        Some(given) => Ok(given),
        None if std::io::stdin().is_terminal() => prompt(&format!("passphrase of {name}: ")),
        None => Err(KeyFileError::PassphraseMissing),
    };
    Ok(SoftwareKey::read(path, ask)?)
}

fn given(passphrase: &Passphrase) -> Result<Option<Zeroizing<String>>, KeyFileError> {
    if let Some(path) = &passphrase.passphrase_file {
        let read = std::fs::read_to_string(path).map(Zeroizing::new);
        let text = read.map_err(|source| KeyFileError::File { what: "read", path: path.clone(), source })?;
        return Ok(Some(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())));
    }
    Ok(std::env::var("CAII_PASSPHRASE").ok().map(Zeroizing::new))
}

fn prompt(text: &str) -> Result<Zeroizing<String>, KeyFileError> {
    let typed = rpassword::prompt_password(text);
    typed.map(Zeroizing::new).map_err(|source| KeyFileError::File {
        what: "read the passphrase from",
        path: "/dev/tty".into(),
        source,
    })
}

fn new_passphrase(passphrase: &Passphrase) -> Result<Zeroizing<String>, CliError> {
    if let Some(given) = given(passphrase)? {
        return Ok(given);
    }
    if !std::io::stdin().is_terminal() {
        return Err(KeyFileError::PassphraseMissing.into());
    }
    let first = prompt("new passphrase: ")?;
    if *first != *prompt("once more: ")? {
        return Err(CliError::Usage("the two passphrases differ".to_owned()));
    }
    Ok(first)
}

pub(crate) fn run(command: Charter, format: Format) -> Result<ExitCode, CliError> {
    match command {
        Charter::Key(Key::Create { name, out, passphrase, no_passphrase }) => {
            let path = out.unwrap_or_else(|| format!("{name}.key").into());
            let secret = if no_passphrase { None } else { Some(new_passphrase(&passphrase)?) };
            let key = SoftwareKey::create(&path, &name, secret.as_ref().map(|text| text.as_str()))?;
            show_key(format, &name, &public_of(&key), &path);
        }
        Charter::Key(Key::Show { file }) => {
            let (name, key) = SoftwareKey::stated(&file)?;
            show_key(format, &name, &key, &file);
        }
        Charter::Init(init) => {
            let dir = init.dir.dir.clone();
            std::fs::create_dir_all(&dir).map_err(|error| CliError::file("make", &dir, error))?;
            let repository = Repository::init(&dir, &founded(&init)?)?;
            show(format, &repository.status()?);
            eprintln!("drafted; each steward signs with `caii charter sign`");
        }
        Charter::Show(dir) => show(format, &Repository::open(&dir.dir)?.status()?),
        Charter::Sign(sign) => {
            let repository = Repository::open(&sign.dir.dir)?;
            let signed = repository.sign(&read_key(Path::new(&sign.key), &sign.passphrase)?)?;
            eprintln!("signed {}", signed.join(" and "));
            settle(&repository)?;
            show(format, &repository.status()?);
        }
        Charter::Merge(merge) => {
            let repository = Repository::open(&merge.dir.dir)?;
            let said = if merge.from.is_dir() {
                let count = repository.merge(&Repository::open(&merge.from)?)?;
                format!("took over {count} signatures")
            } else {
                let new = repository.add_revocation(&read_envelope(&merge.from)?)?;
                let said = if new { "took over the revocation" } else { "that is revoked already" };
                said.to_owned()
            };
            eprintln!("{said}");
            settle(&repository)?;
            show(format, &repository.status()?);
        }
        Charter::Rotate(rotate) => {
            let repository = Repository::open(&rotate.dir.dir)?;
            repository.rotate(&changed(&repository, &rotate)?)?;
            show(format, &repository.status()?);
            eprintln!("drafted; stewards of before and of after sign with `caii charter sign`");
        }
        Charter::Refresh(refresh) => {
            let repository = Repository::open(&refresh.dir.dir)?;
            let path = refresh.online_key.unwrap_or_else(|| refresh.dir.dir.join(ONLINE_KEY));
            let key = read_key(&path, &Passphrase { passphrase_file: None })?;
            tell(repository.refresh(&key, Timestamp(now_ms()), refresh.valid)?);
            show(format, &repository.status()?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a signed envelope.
pub(crate) fn read_envelope(path: &Path) -> Result<Envelope, CliError> {
    let bytes = std::fs::read(path).map_err(|error| CliError::file("read", path, error))?;
    Envelope::from_json(&bytes).map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
}

fn public_of(key: &SoftwareKey) -> PublicKey {
    caii_governance::Signer::public(key)
}

/// Publishes what has changed, if this is where the pool's key is; else whoever has it will.
pub(crate) fn settle(repository: &Repository) -> Result<(), CliError> {
    let path = repository.dir().join(ONLINE_KEY);
    if !path.exists() {
        eprintln!("the pool's key is elsewhere: what has changed is in force after `caii charter refresh` there");
        return Ok(());
    }
    let key = read_key(&path, &Passphrase { passphrase_file: None })?;
    let valid = super::duration(FRESH).map_err(CliError::Usage)?;
    match repository.refresh(&key, Timestamp(now_ms()), valid) {
        // More signatures are awaited; `show` says whose.
        Err(GovernanceError::NotInForce(_)) => Ok(()),
        other => {
            tell(other?);
            Ok(())
        }
    }
}

fn tell(refreshed: Refreshed) {
    match refreshed {
        Refreshed::AsBefore => {}
        Refreshed::DraftInForce => eprintln!("the draft is in force"),
        Refreshed::DraftAwaitsItsKey => eprintln!(
            "the draft has its signatures and names another key for the pool: `caii charter refresh --online-key` with \
             that one puts it in force"
        ),
    }
}

fn show_key(format: Format, name: &str, key: &PublicKey, path: &Path) {
    let view = json!({ "name": name, "public": written(key), "id": key.id().to_string(), "file": path });
    output::print(format, &view, |_| format!("{name} {}", written(key)));
}

fn online(dir: &Path, rules: &RulesArgs) -> Result<PublicKey, CliError> {
    let path = dir.join(ONLINE_KEY);
    match &rules.online {
        Some(key) => Ok(key.clone()),
        None if path.exists() => Ok(SoftwareKey::stated(&path)?.1),
        // The pool reads it without anybody at hand; it can neither certify nor change anything.
        None => Ok(public_of(&SoftwareKey::create(&path, "pool", None)?)),
    }
}

fn expiry(rules: &RulesArgs) -> Timestamp {
    Timestamp(now_ms()) + rules.valid
}

fn founded(init: &Init) -> Result<Founding, CliError> {
    let rules = &init.rules;
    let names: Vec<String> = init.stewards.iter().map(|steward| steward.name.clone()).collect();
    let threshold = rules.threshold.ok_or_else(|| {
        let n = names.len();
        CliError::Usage(format!("give --threshold: how many of the {n} stewards it takes (1 to {n})"))
    })?;
    let about = |body: &str| {
        let stated = init.bodies.iter().filter_map(|text| text.split_once('='));
        stated.filter(|(name, _)| *name == body).map(|(_, text)| text.to_owned()).next_back().unwrap_or_default()
    };
    let bodies: BTreeSet<&str> = init.stewards.iter().map(|steward| steward.body.as_str()).collect();
    let everywhere = Mandate { region: Region::any(), threshold, stewards: names.clone() };
    let current: RuntimeVersion = caii_sandbox::WASMTIME_VERSION.parse().expect("the engine's version has three parts");
    let charter = Rules {
        id: Digest([0; 32]),
        name: init.name.clone(),
        bodies: bodies.iter().map(|name| Body { name: (*name).to_owned(), about: about(name) }).collect(),
        stewards: init.stewards.clone(),
        certify: if rules.mandates.is_empty() { vec![everywhere] } else { rules.mandates.clone() },
        revoke: if rules.revoke.is_empty() { names } else { rules.revoke.clone() },
        runtime_min: rules.runtime_min.unwrap_or(current),
        certification_valid_max: rules.certification_max.unwrap_or(Millis(366 * 86_400_000)),
        revoked: Revocations::new(),
    };
    charter.check().map_err(GovernanceError::from)?;
    Ok(Founding { charter, threshold, online: online(&init.dir.dir, rules)?, expires: expiry(rules) })
}

fn changed(repository: &Repository, rotate: &Rotate) -> Result<Founding, CliError> {
    let rules = &rotate.rules;
    let status = repository.status()?.published;
    let Some(Published { charter: mut next, threshold, .. }) = status else {
        return Err(GovernanceError::NotInForce("there is nothing to change yet".to_owned()).into());
    };
    let before: Vec<String> = next.stewards.iter().map(|steward| steward.name.clone()).collect();
    if let Some(stranger) = rotate.remove.iter().find(|name| !before.contains(name)) {
        return Err(CliError::Usage(format!("{stranger} is no steward; there are {}", before.join(", "))));
    }
    let goes = |name: &String| rotate.remove.contains(name);
    next.stewards.retain(|steward| !goes(&steward.name));
    let comes: Vec<String> = rotate.add.iter().map(|steward| steward.name.clone()).collect();
    for steward in &rotate.add {
        next.stewards.retain(|other| other.name != steward.name);
        next.stewards.push(steward.clone());
        if !next.bodies.iter().any(|body| body.name == steward.body) {
            next.bodies.push(Body { name: steward.body.clone(), about: String::new() });
        }
    }
    next.bodies.retain(|body| next.stewards.iter().any(|steward| steward.body == body.name));
    // Who leaves loses every mandate; who comes gets those of all, unless the mandates are given.
    let follow = |names: &mut Vec<String>, everybody: bool| {
        names.retain(|name| !goes(name));
        let new = comes.iter().filter(|name| everybody && !names.contains(name)).cloned().collect::<Vec<_>>();
        names.extend(new);
    };
    for mandate in &mut next.certify {
        let everybody = before.iter().all(|name| mandate.stewards.contains(name));
        follow(&mut mandate.stewards, everybody);
    }
    let everybody = before.iter().all(|name| next.revoke.contains(name));
    follow(&mut next.revoke, everybody);
    if !rules.mandates.is_empty() {
        next.certify = rules.mandates.clone();
    } else if let (Some(threshold), [only]) = (rules.threshold, next.certify.as_mut_slice()) {
        only.threshold = threshold;
    }
    if !rules.revoke.is_empty() {
        next.revoke = rules.revoke.clone();
    }
    next.runtime_min = rules.runtime_min.unwrap_or(next.runtime_min);
    next.certification_valid_max = rules.certification_max.unwrap_or(next.certification_valid_max);
    next.check().map_err(GovernanceError::from)?;
    let threshold = rules.threshold.unwrap_or(threshold);
    Ok(Founding { charter: next, threshold, online: online(repository.dir(), rules)?, expires: expiry(rules) })
}

fn show(format: Format, status: &Status) {
    let published = |published: &Published| {
        json!({
            "version": published.version,
            "change_threshold": published.threshold,
            "expires": format_time(published.expires),
            "fresh_until": published.fresh_until.map(format_time),
            "charter": rules_json(&published.charter),
            "revoked": published.revocations.iter().map(|revocation| json!({
                "what": revocation.what.to_string(),
                "by": revocation.by,
                "at": format_time(revocation.issued),
                "why": revocation.why,
            })).collect::<Vec<_>>(),
        })
    };
    let draft = |draft: &Draft| {
        let name = |id: &caii_trust::KeyId| name_of(status, *id);
        json!({
            "version": draft.version,
            "expires": format_time(draft.expires),
            "charter": rules_json(&draft.charter),
            "awaited": draft.awaited.iter().map(|awaited| json!({
                "file": awaited.file,
                "threshold": awaited.threshold,
                "signed": awaited.signed.iter().map(name).collect::<Vec<_>>(),
                "unsigned": awaited.keys.iter().filter(|key| !awaited.signed.contains(key)).map(name).collect::<Vec<_>>(),
                "missing": awaited.missing(),
            })).collect::<Vec<_>>(),
        })
    };
    let view = json!({
        "id": status.pin.to_string(),
        "in_force": status.published.as_ref().map(published),
        "draft": status.draft.as_ref().map(draft),
    });
    output::print(format, &view, |view| text(status, view));
}

fn name_of(status: &Status, key: caii_trust::KeyId) -> String {
    let charters = [status.draft.as_ref().map(|draft| &draft.charter), status.published.as_ref().map(|p| &p.charter)];
    let steward = charters.into_iter().flatten().find_map(|charter| charter.steward(key));
    steward.map_or_else(|| key.to_string(), |steward| steward.name.clone())
}

fn rules_json(charter: &Rules) -> Value {
    serde_json::from_slice(&charter.to_json()).expect("a charter's JSON is JSON")
}

fn text(status: &Status, view: &Value) -> String {
    let mut lines = vec![format!("charter  {}", status.pin)];
    match &status.published {
        None => lines.push("in force nothing yet".to_owned()),
        Some(published) => {
            let fresh = published.fresh_until.map_or("never".to_owned(), format_time);
            lines.push(format!(
                "in force version {}, signed until {}, fresh until {fresh}",
                published.version,
                format_time(published.expires)
            ));
            lines.extend(rules_text(&published.charter, published.threshold));
            for revocation in published.revocations.iter() {
                let (at, why) = (format_time(revocation.issued), &revocation.why);
                lines.push(format!("revoked  {} by {} on {at}: {why}", revocation.what, revocation.by));
            }
        }
    }
    if let Some(draft) = &status.draft {
        lines.push(format!("\ndraft    version {}, to hold until {}", draft.version, format_time(draft.expires)));
        let threshold = draft.awaited.first().map_or(0, |awaited| awaited.threshold);
        lines.extend(rules_text(&draft.charter, threshold));
        for awaited in view["draft"]["awaited"].as_array().into_iter().flatten() {
            let names = |field: &str| {
                let names: Vec<&str> =
                    awaited[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
            };
            lines.push(format!(
                "         {}: {} signed; {} more of {} missing; {} may still sign",
                awaited["file"].as_str().unwrap_or_default(),
                names("signed"),
                awaited["missing"],
                awaited["threshold"],
                names("unsigned")
            ));
        }
    }
    lines.join("\n")
}

fn rules_text(charter: &Rules, threshold: u32) -> Vec<String> {
    let row = |steward: &Steward| {
        let about = charter.bodies.iter().find(|body| body.name == steward.body).map_or("", |body| body.about.as_str());
        vec![steward.name.clone(), steward.body.clone(), about.to_owned(), steward.key.id().to_string()]
    };
    let rows: Vec<_> = charter.stewards.iter().map(row).collect();
    let mut lines = vec![format!("name     {}", charter.name)];
    lines.extend(table(&["steward", "body", "", "key id"], &rows).lines().map(|line| format!("         {line}")));
    for mandate in &charter.certify {
        let (k, n) = (mandate.threshold, mandate.stewards.len());
        lines.push(format!("certify  for {}: {k} of {n} ({})", mandate.region, mandate.stewards.join(", ")));
    }
    lines.push(format!("revoke   any one of {}", charter.revoke.join(", ")));
    lines.push(format!("change   {threshold} of {}", charter.stewards.len()));
    let days = charter.certification_valid_max.0 / 86_400_000;
    lines.push(format!("require  runtime {} or newer; certifications of {days} days at most", charter.runtime_min));
    lines
}
