//! `caii workload`: what a program could do, and what stewards certified of it.

use super::charter::{Dir, Passphrase, read_envelope, read_key, settle};
use super::delivery;
use super::job::{Scope as ScopeArg, digest_file, name_and_file};
use crate::client::{Client, PoolArgs};
use crate::error::CliError;
use crate::manifest_file;
use crate::output::{self, Format, now_ms, thousands};
use caii_governance::{Expiry, Repository, Signer as _, verify_files};
use caii_model::{
    BlobRef, Bytes, DataTier, Digest, Fuel, Limits, Manifest, Millis, Region, RuntimeClass, RuntimeVersion, Scope,
    Timestamp, UseCategory,
};
use caii_node::views::{CertificationView, ManifestView, UseView};
use caii_sandbox::Inspection;
use caii_trust::{
    Build, Certification, Certified, Charter, Envelope, Facts, LocalPolicy, PAYLOAD_TYPE, Revocation,
    RevocationStatement, Revoked, Statement, Uncertified, decide, format_time,
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Workload {
    /// Say what a program is and what it could do, before anybody signs it.
    Inspect(Inspect),
    /// Certify a program as a steward: alone, in any order, offline.
    Certify(Box<Certify>),
    /// Who certified a program, and how many are missing: by files, or as the pool has it.
    Status(Status),
    /// Check that a program is certified: exit status 0 if so, 1 and a sentence if not.
    Verify(Check),
    /// Stop a program, or a steward's key, for ever. One steward is enough.
    Revoke(Revoke),
    /// Get a workload's manifest from the pool, for stewards to inspect and certify.
    Fetch {
        /// Its digest, as `sha256:…`.
        workload: Digest,
        /// Where the manifest goes.
        #[arg(short, long, value_name = "FILE", default_value = "manifest.json")]
        out: PathBuf,
    },
    /// Bring certifications and revocations to the pool. Devices verify them by themselves.
    Send {
        /// What stewards signed.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Certify a workload as the pool's admin, in a pool whose charter is its own.
    Allow {
        /// Its digest, as `sha256:…`.
        workload: Digest,
    },
}

/// A program with how it is to be run. What is certified is all of this, not the program alone.
#[derive(Debug, Args)]
struct Subject {
    /// A program (.wasm), or a manifest as `caii workload inspect --write` makes it.
    file: PathBuf,
    #[command(flatten)]
    shape: Shape,
}

#[derive(Debug, Args)]
struct Shape {
    /// With a program: its name; default: that of the file.
    #[arg(long)]
    name: Option<String>,
    /// With a program: what one run of it sees.
    #[arg(long, value_enum)]
    scope: Option<ScopeArg>,
    /// With a program: records in an item; default: 1.
    #[arg(long, value_name = "N")]
    records_per_item: Option<u32>,
    /// With a program: a file that it may read as /data/NAME. May be repeated.
    #[arg(long = "data", value_name = "NAME=FILE", value_parser = name_and_file)]
    data: Vec<(String, PathBuf)>,
    /// With a program: an argument for it. May be repeated.
    #[arg(long = "arg", value_name = "ARG", allow_hyphen_values = true)]
    args: Vec<String>,
    /// With a program: memory of one run, in MiB.
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// With a program: fuel of one run.
    #[arg(long, value_name = "UNITS")]
    fuel: Option<u64>,
    /// With a program: wall time of one run.
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    item_timeout: Option<Millis>,
    /// With a program: run it without making NaNs canonical.
    #[arg(long)]
    vetted: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    subject: Subject,
    /// With a manifest: the program that it names, to look into it too.
    #[arg(long, value_name = "WASM")]
    program: Option<PathBuf>,
    /// Write the manifest to a file that stewards can sign.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Certify {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    dir: Dir,
    /// The steward's key.
    #[arg(long, value_name = "FILE")]
    key: String,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Where the certification goes; default: beside the file, as FILE.STEWARD.dsse.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// What it may be used for. May be repeated.
    #[arg(long = "use", value_name = "USE", required = true)]
    uses: Vec<UseCategory>,
    /// On which data: t0 (public), t1 (internal), t2 (encrypted), t3 (attested hardware). May be repeated.
    #[arg(long = "tier", value_name = "TIER", required = true)]
    tiers: Vec<DataTier>,
    /// Where. May be repeated.
    #[arg(long = "region", value_name = "REGION", default_value = "any")]
    regions: Vec<Region>,
    /// For how long.
    #[arg(long, value_name = "TIME", default_value = "180d", value_parser = super::duration)]
    valid: Millis,
    /// SHA-256 of the source archive that the program is built from.
    #[arg(long, value_name = "DIGEST", requires = "build_command")]
    source: Option<Digest>,
    /// The command that builds the program out of that source.
    #[arg(long, value_name = "COMMAND", requires = "source")]
    build_command: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    judged: Judged,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// A program (.wasm), a manifest as `caii workload inspect --write` makes it, or the digest of a workload that the
    /// pool has (sha256:…).
    what: PathBuf,
    #[command(flatten)]
    shape: Shape,
    /// With a file: the charter's directory.
    #[arg(long = "charter", value_name = "DIR", env = "CAII_CHARTER")]
    charter: Option<PathBuf>,
    #[command(flatten)]
    judged: Judged,
}

/// By what a program is judged, and for where.
#[derive(Debug, Args)]
struct Judged {
    /// A certification. May be repeated; default: every .dsse beside the file that is about this workload.
    #[arg(long = "certification", value_name = "DSSE")]
    certifications: Vec<PathBuf>,
    /// The charter's id, as a join ticket pins it; default: that of the directory, whoever made it.
    #[arg(long, value_name = "DIGEST")]
    pin: Option<Digest>,
    /// Where it would run.
    #[arg(long, value_name = "REGION", default_value = "any")]
    region: Region,
    /// Look at an old copy of the charter too: what was revoked since then is not known.
    #[arg(long)]
    stale_ok: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// A program, its manifest, a workload's digest (sha256:…), or a steward's key (key:ID or key:NAME).
    what: String,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    dir: Dir,
    /// The steward's key.
    #[arg(long, value_name = "FILE")]
    key: String,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Why, for everybody to read.
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Also write the revocation to a file, for the pool's operator to take over by `caii charter merge`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) async fn run(command: Workload, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    match command {
        Workload::Inspect(inspect) => look(&inspect, format)?,
        Workload::Certify(certify) => sign(&certify, format)?,
        Workload::Status(status) => {
            let view = match status.what.to_str().and_then(|what| what.strip_prefix("sha256:")) {
                Some(_) => in_pool(&status, pool).await?,
                None => {
                    let Status { what: file, shape, charter, judged } = status;
                    let dir = charter.ok_or_else(|| {
                        let message =
                            "give the charter's directory (--charter), or the digest of a workload that the pool has";
                        CliError::Usage(message.to_owned())
                    })?;
                    decided(&Check { subject: Subject { file, shape }, dir: Dir { dir }, judged }).await?.0
                }
            };
            output::print(format, &view, certification_text);
        }
        Workload::Verify(check) => {
            let (view, decision) = decided(&check).await?;
            decision?;
            output::print(format, &view, certification_text);
        }
        Workload::Revoke(revoke) => stop(&revoke, format)?,
        Workload::Fetch { workload, out } => delivery::fetch(&Client::new(pool)?, workload, &out, format).await?,
        Workload::Send { files } => delivery::send(&Client::new(pool)?, &files, format).await?,
        Workload::Allow { workload } => delivery::allow(&Client::new(pool)?, workload, format).await?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Shape {
    fn is_given(&self) -> bool {
        let Self { name, scope, records_per_item, data, args, memory, fuel, item_timeout, vetted } = self;
        let shaped = name.is_some() || scope.is_some() || records_per_item.is_some() || memory.is_some();
        shaped || fuel.is_some() || item_timeout.is_some() || *vetted || !data.is_empty() || !args.is_empty()
    }
}

/// What the pool says of a workload that it has.
async fn in_pool(status: &Status, pool: &PoolArgs) -> Result<CertificationView, CliError> {
    let Status { what, shape, judged, .. } = status;
    let Judged { certifications, pin, region, stale_ok } = judged;
    if shape.is_given() || !certifications.is_empty() || pin.is_some() || *stale_ok {
        let message = "the pool judges by its own files; of the options only --region goes with a digest";
        return Err(CliError::Usage(message.to_owned()));
    }
    let digest: Digest = what
        .to_string_lossy()
        .parse()
        .map_err(|error: caii_model::DigestParseError| CliError::Usage(format!("`{}` is {error}", what.display())))?;
    let path = format!("/caii/v1/workloads/{}/certification?region={region}", digest.hex());
    Client::new(pool)?.get(&path).await
}

/// The manifest, and the program if it is at hand.
fn load(file: &Path, shape: &Shape) -> Result<(Manifest, Option<Vec<u8>>), CliError> {
    let is_program = file.extension().is_some_and(|end| end == "wasm" || end == "wat");
    if !is_program {
        if shape.is_given() {
            let message = "a manifest says by itself how its program is run; the options for that go with a .wasm";
            return Err(CliError::Usage(message.to_owned()));
        }
        return Ok((manifest_file::read(file)?, None));
    }
    let program = std::fs::read(file).map_err(|error| CliError::file("read", file, error))?;
    let stem = file.file_stem().map_or("program".into(), |stem| stem.to_string_lossy().into_owned());
    let mut blobs = Vec::new();
    for (name, path) in &shape.data {
        let (digest, size) = digest_file(path).map_err(|error| CliError::file("read", path, error))?;
        blobs.push(BlobRef { name: name.clone(), digest, size });
    }
    let default = Limits::default();
    let manifest = Manifest {
        name: shape.name.clone().unwrap_or(stem),
        program: Digest::of(&program),
        program_size: Bytes(program.len() as u64),
        runtime: RuntimeClass::Wasm,
        scope: match (shape.scope, shape.records_per_item) {
            (Some(ScopeArg::Task), _) => Scope::Task,
            (_, Some(0)) => return Err(CliError::Usage("an item has at least one record".to_owned())),
            (_, records) => Scope::Item { records: records.unwrap_or(1) },
        },
        blobs,
        args: shape.args.clone(),
        limits: Limits {
            memory: shape.memory.map_or(default.memory, Bytes::mebi),
            fuel_per_item: shape.fuel.map_or(default.fuel_per_item, Fuel),
            wall_per_item: shape.item_timeout.unwrap_or(default.wall_per_item),
            ..default
        },
        meter: if shape.vetted { caii_sandbox::vetted_meter_id() } else { caii_sandbox::meter_id() },
    };
    Ok((manifest, Some(program)))
}

fn inspected(manifest: &Manifest, program: &[u8]) -> Result<Inspection, CliError> {
    if Digest::of(program) != manifest.program || program.len() as u64 != manifest.program_size.0 {
        return Err(CliError::Usage("this is not the program that the manifest names".to_owned()));
    }
    let refused = |error: caii_sandbox::ProgramError| CliError::Usage(error.to_string());
    let inspection = caii_sandbox::inspect(program).map_err(refused)?;
    inspection.fits(&manifest.limits).map_err(refused)?;
    Ok(inspection)
}

fn look(inspect: &Inspect, format: Format) -> Result<(), CliError> {
    let (manifest, program) = load(&inspect.subject.file, &inspect.subject.shape)?;
    let program = match &inspect.program {
        Some(path) => Some(std::fs::read(path).map_err(|error| CliError::file("read", path, error))?),
        None => program,
    };
    let inspection = program.map(|program| inspected(&manifest, &program)).transpose()?;
    let file = ManifestView::from(&manifest);
    if let Some(path) = &inspect.write {
        let text = serde_json::to_string_pretty(&file).expect("strings and numbers become JSON") + "\n";
        std::fs::write(path, text).map_err(|error| CliError::file("write", path, error))?;
        eprintln!("the manifest is in {}", path.display());
    }
    let words = in_words(&manifest, inspection.as_ref());
    let view = json!({
        "digest": manifest.digest().to_string(),
        "manifest": file,
        "imports": inspection.as_ref().map(|inspection| &inspection.imports),
        "initialiser": inspection.as_ref().map(|inspection| inspection.has_initialiser),
        "words": words,
    });
    output::print(format, &view, |_| {
        format!("workload  {}\nname      {}\n\n{}", manifest.digest(), manifest.name, words.join("\n"))
    });
    Ok(())
}

/// What a steward ought to know before signing, in sentences.
fn in_words(manifest: &Manifest, inspection: Option<&Inspection>) -> Vec<String> {
    let limits = &manifest.limits;
    let mut words = vec![
        format!("Its program is {} with {}.", manifest.program, manifest.program_size),
        match manifest.scope {
            Scope::Item { records: 1 } => "Each run sees one record.".to_owned(),
            Scope::Item { records } => format!("Each run sees {records} records."),
            Scope::Task => "Each run sees all records of a task.".to_owned(),
        },
    ];
    for blob in &manifest.blobs {
        words.push(format!("It reads /data/{} ({}, {}).", blob.name, blob.size, blob.digest));
    }
    if !manifest.args.is_empty() {
        words.push(format!("It is given the arguments {:?}.", manifest.args));
    }
    words.push(format!(
        "A run may use {} units of fuel, {} of memory and {}, and write {} of output and {} of messages; starting it may \
         use {} units of fuel.",
        thousands(limits.fuel_per_item.0),
        limits.memory,
        limits.wall_per_item,
        limits.output_per_item,
        limits.stderr_per_item,
        thousands(limits.fuel_init.0)
    ));
    words.push(match caii_sandbox::FloatNan::of_meter(manifest.meter) {
        Some(caii_sandbox::FloatNan::Canonical) => {
            "Its results are the same on every machine to the last bit.".to_owned()
        }
        Some(caii_sandbox::FloatNan::Native) => {
            "It is run without making NaNs canonical: somebody has to have made sure that no output depends on one."
                .to_owned()
        }
        None => format!("Its meter {} is not one of this release, which would not run it.", manifest.meter.0),
    });
    match inspection {
        None => words.push("The program itself was not looked into; give it with --program.".to_owned()),
        Some(inspection) => {
            if inspection.has_initialiser {
                words.push("It has an initialiser, which runs once on each device before the first record.".to_owned());
            }
            words.push(match inspection.imports.as_slice() {
                [] => "It asks the host for nothing: it can only compute.".to_owned(),
                imports => format!("It asks the host for {}.", imports.join(", ")),
            });
        }
    }
    words.push(
        "Whatever it asks for: it has no network, no file that it could write, a clock that stands still and randomness \
         that follows from its input. What it could do is to waste the fuel and memory above, to answer wrongly, and to \
         put into its results anything that its records hold."
            .to_owned(),
    );
    words
}

fn steward_of<'a>(charter: &'a Charter, key: &caii_governance::SoftwareKey) -> Result<&'a str, CliError> {
    let steward = charter.steward(key.public().id()).map(|steward| steward.name.as_str());
    steward.ok_or_else(|| CliError::Usage(format!("the key of {} is no steward's in this charter", key.name)))
}

fn sign(certify: &Certify, format: Format) -> Result<(), CliError> {
    let (manifest, program) = load(&certify.subject.file, &certify.subject.shape)?;
    if let Some(program) = &program {
        inspected(&manifest, program)?;
    }
    let charter = Repository::open(&certify.dir.dir)?.charter()?;
    let key = read_key(Path::new(&certify.key), &certify.passphrase)?;
    let name = steward_of(&charter, &key)?.to_owned();
    if certify.valid > charter.certification_valid_max {
        let days = charter.certification_valid_max.0 / 86_400_000;
        return Err(CliError::Usage(format!("the charter allows certifications of {days} days at most; give --valid")));
    }
    let issued = Timestamp(now_ms() / 1_000 * 1_000);
    let certification = Certification {
        workload: manifest.digest(),
        name: manifest.name.clone(),
        charter: charter.id,
        runtime: manifest.runtime,
        meter: manifest.meter,
        limits: manifest.limits,
        uses: certify.uses.iter().copied().collect(),
        data_tiers: certify.tiers.iter().copied().collect(),
        regions: certify.regions.iter().cloned().collect(),
        issued,
        expires: issued + certify.valid,
        build: certify.source.zip(certify.build_command.clone()).map(|(source, command)| Build { source, command }),
    };
    let payload = certification.to_json();
    // What cannot be read again would count nowhere: say so now.
    Statement::from_json(&payload).map_err(|error| CliError::Usage(error.to_string()))?;
    let envelope = signed(payload, &key)?;
    let out = certify.out.clone().unwrap_or_else(|| beside(&certify.subject.file, &format!("{name}.dsse")));
    write_new(&out, &envelope.to_json())?;
    let view = json!({
        "workload": certification.workload.to_string(),
        "steward": name,
        "expires": format_time(certification.expires),
        "file": out,
    });
    output::print(format, &view, |_| {
        let until = format_time(certification.expires);
        format!("{name} certified {} ({}) until {until}, in {}", manifest.name, certification.workload, out.display())
    });
    Ok(())
}

fn signed(payload: Vec<u8>, key: &caii_governance::SoftwareKey) -> Result<Envelope, CliError> {
    let mut envelope = Envelope::unsigned(PAYLOAD_TYPE, payload);
    let signature = key.sign(&envelope.signed_bytes()).map_err(caii_governance::GovernanceError::from)?;
    envelope.add(key.public().id(), signature);
    Ok(envelope)
}

fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    name.into()
}

/// What was signed is not replaced by accident.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    made.and_then(|mut file| std::io::Write::write_all(&mut file, bytes))
        .map_err(|error| CliError::file("write", path, error))
}

/// What a device in this place that trusts this charter would decide.
async fn decided(check: &Check) -> Result<(CertificationView, Result<Certified, Uncertified>), CliError> {
    let judged = &check.judged;
    let (manifest, program) = load(&check.subject.file, &check.subject.shape)?;
    if let Some(program) = &program {
        inspected(&manifest, program)?;
    }
    let facts = Facts::of(&manifest);
    let repository = Repository::open(&check.dir.dir)?;
    let pin = judged.pin.unwrap_or(repository.pin());
    let expiry = if judged.stale_ok { Expiry::Shown } else { Expiry::Refused };
    let mut trusted = verify_files(pin, &repository.files()?, expiry).await?;
    let now = Timestamp(now_ms());
    if judged.stale_ok && trusted.fresh_until < now {
        eprintln!(
            "this copy of the charter was fresh until {}; what was revoked since is not known",
            format_time(trusted.fresh_until)
        );
        trusted.fresh_until = now;
    }
    let runtime: RuntimeVersion = caii_sandbox::WASMTIME_VERSION.parse().expect("the engine's version has three parts");
    let mut policy = LocalPolicy::open(judged.region.clone(), runtime);
    // Whether it is certified at all is asked, not whether some contributor allows it.
    policy.data_tiers = DataTier::ALL.iter().copied().collect();
    let envelopes = envelopes(check, facts.workload())?;
    let decision = decide(&trusted, now, &facts, &envelopes, &policy);
    Ok((CertificationView::of(&trusted, facts.workload(), &judged.region, &decision), decision))
}

fn envelopes(check: &Check, workload: Digest) -> Result<Vec<Envelope>, CliError> {
    if !check.judged.certifications.is_empty() {
        return check.judged.certifications.iter().map(|path| read_envelope(path)).collect();
    }
    let dir = match check.subject.file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut found = Vec::new();
    let read = |error| CliError::file("read", dir, error);
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.extension().is_none_or(|end| end != "dsse") {
            continue;
        }
        let envelope = read_envelope(&path)?;
        let about = match Statement::from_json(&envelope.payload) {
            Ok(Statement::Certification(certification)) => Some(certification.workload),
            Ok(Statement::Revocation(_)) | Err(_) => None,
        };
        if about == Some(workload) {
            found.push((path, envelope));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found.into_iter().map(|(_, envelope)| envelope).collect())
}

fn certification_text(view: &CertificationView) -> String {
    let mut lines = vec![format!("workload     {}", view.workload)];
    let stewards = view.signed.as_deref().unwrap_or_default();
    let names: Vec<String> = stewards.iter().map(|steward| format!("{} ({})", steward.name, steward.body)).collect();
    match &view.why {
        Some(why) => lines.push(format!("certified    no: {why}")),
        None => {
            let threshold = view.threshold.unwrap_or_default();
            let pairs = view.scope.as_deref().unwrap_or_default();
            let pair = |pair: &UseView| {
                let tier =
                    pair.tier.parse().map_or_else(|_| pair.tier.clone(), |tier: DataTier| tier.meaning().to_owned());
                format!("{} on {tier}", pair.r#use)
            };
            lines.push(format!("certified    by {}; it takes {threshold}", names.join(", ")));
            lines.push(format!("for          {}", pairs.iter().map(pair).collect::<Vec<_>>().join("; ")));
            lines.push(format!("until        {} at the latest", view.until.as_deref().unwrap_or_default()));
            lines.extend(view.not_counted.iter().map(|text| format!("not counted  {text}")));
        }
    }
    lines.join("\n")
}

fn stop(revoke: &Revoke, format: Format) -> Result<(), CliError> {
    let repository = Repository::open(&revoke.dir.dir)?;
    let charter = repository.charter()?;
    let what = match revoke.what.strip_prefix("key:") {
        Some(key) => match charter.steward_named(key) {
            Some(steward) => Revoked::Key(steward.key.id()),
            None => Revoked::Key(key.parse().map_err(|_| {
                CliError::Usage(format!("`{key}` is neither a steward's name nor the id of a key (64 hex digits)"))
            })?),
        },
        None => match revoke.what.strip_prefix("sha256:") {
            Some(_) => Revoked::Workload(
                revoke
                    .what
                    .parse()
                    .map_err(|error: caii_model::DigestParseError| CliError::Usage(error.to_string()))?,
            ),
            None => Revoked::Workload(load(Path::new(&revoke.what), &revoke.shape)?.0.digest()),
        },
    };
    let key = read_key(Path::new(&revoke.key), &revoke.passphrase)?;
    steward_of(&charter, &key)?;
    let issued = Timestamp(now_ms() / 1_000 * 1_000);
    let statement = RevocationStatement { what, charter: charter.id, issued, why: revoke.why.clone() };
    let envelope = signed(statement.to_json(), &key)?;
    let revocation = Revocation::read(&charter, &envelope).map_err(caii_governance::GovernanceError::from)?;
    if let Some(out) = &revoke.out {
        write_new(out, &envelope.to_json())?;
    }
    let is_new = repository.add_revocation(&envelope)?;
    settle(&repository)?;
    let view = json!({
        "what": what.to_string(),
        "by": revocation.by,
        "why": revocation.why,
        "new": is_new,
        "file": revoke.out,
    });
    output::print(format, &view, |_| {
        let again = if is_new { "" } else { " (it was already)" };
        format!("{} is revoked{again}: {}", revocation.what, revocation.why)
    });
    Ok(())
}
