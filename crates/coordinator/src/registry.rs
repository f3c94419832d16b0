//! Keys, tickets, devices, workloads, models and files: what is added, listed and removed.

use crate::draft::Draft;
use crate::{Change, Reply};
use caii_model::*;

const KEYS_MAX: usize = 100_000;
const TICKETS_MAX: usize = 100_000;
const DEVICES_MAX: usize = 2_000_000;
const WORKLOADS_MAX: usize = 100_000;
const MODELS_MAX: usize = 10_000;
const FILES_MAX: usize = 1_000_000;
const BLOBS_PER_WORKLOAD_MAX: usize = 16;
const ARGS_MAX: usize = 64;
const TICKET_USES_MAX: u32 = 1_000_000;
const TICKET_VALID_MAX: Millis = Millis(366 * 24 * 3_600_000);
/// Wasm memories are counted in pages of 64 KiB and addressed with 32 bits.
const MEMORY_MAX: Bytes = Bytes::mebi(4096);

impl Draft<'_> {
    pub(crate) fn key_create(&mut self, name: String, account: Account, role: Role, secret_hash: Digest) {
        let answer = self.try_key_create(name, account, role, secret_hash);
        self.reply(answer.map(Reply::Key));
    }

    fn try_key_create(
        &mut self,
        name: String,
        account: Account,
        role: Role,
        secret_hash: Digest,
    ) -> Result<Key, Refusal> {
        text("name", &name, 0, 100)?;
        room("keys", self.catalog().keys.len(), KEYS_MAX)?;
        if self.catalog().keys.values().any(|key| key.secret_hash == secret_hash) {
            return Err(field("secret", "another key has it; draw a new one".into()));
        }
        let id = KeyId(self.catalog().next.key);
        let key = Key { id, name, account, role, secret_hash, created: self.now(), revoked: None };
        self.record(Change::KeyCreated(key.clone()));
        Ok(key)
    }

    pub(crate) fn key_revoke(&mut self, id: KeyId) {
        let usable_admin = |key: &&Key| key.role == Role::Admin && key.revoked.is_none();
        let answer = match self.catalog().keys.get(&id) {
            None => Err(Refusal::KeyUnknown(id)),
            Some(key) if key.revoked.is_some() => Ok(Reply::KeyRevoked(id)),
            Some(key) if usable_admin(&key) && self.catalog().keys.values().filter(usable_admin).count() == 1 => {
                Err(Refusal::KeyLastAdmin(id))
            }
            Some(_) => {
                self.record(Change::KeyRevoked(id, self.now()));
                Ok(Reply::KeyRevoked(id))
            }
        };
        self.reply(answer);
    }

    pub(crate) fn ticket_issue(&mut self, account: Account, secret_hash: Digest, valid_for: Millis, uses_max: u32) {
        let answer = self.try_ticket_issue(account, secret_hash, valid_for, uses_max);
        self.reply(answer.map(Reply::Ticket));
    }

    fn try_ticket_issue(
        &mut self,
        account: Account,
        secret_hash: Digest,
        valid_for: Millis,
        uses_max: u32,
    ) -> Result<Ticket, Refusal> {
        room("tickets", self.catalog().tickets.len(), TICKETS_MAX)?;
        if self.catalog().tickets_by_hash.contains_key(&secret_hash) {
            return Err(field("secret", "another ticket has it; draw a new one".into()));
        }
        if !(1..=TICKET_USES_MAX).contains(&uses_max) {
            return Err(field("uses", format!("give a number from 1 to {TICKET_USES_MAX}")));
        }
        if !(Millis(1)..=TICKET_VALID_MAX).contains(&valid_for) {
            return Err(field("expires", format!("give a time of at most {TICKET_VALID_MAX}")));
        }
        let id = TicketId(self.catalog().next.ticket);
        let ticket = Ticket { id, account, secret_hash, expires: self.now() + valid_for, uses_max, uses: 0 };
        self.record(Change::TicketIssued(ticket.clone()));
        Ok(ticket)
    }

    pub(crate) fn ticket_revoke(&mut self, id: TicketId) {
        let now = self.now();
        let answer = match self.catalog().tickets.get(&id) {
            None => Err(Refusal::TicketUnknown),
            Some(ticket) => {
                if ticket.expires > now {
                    self.record(Change::TicketRevoked(id, now));
                }
                Ok(Reply::Done)
            }
        };
        self.reply(answer);
    }

    pub(crate) fn enrol(&mut self, secret_hash: Digest, public_key: [u8; 32], name: String) {
        let answer = self.try_enrol(secret_hash, public_key, name);
        self.reply(answer.map(Reply::Device));
    }

    fn try_enrol(&mut self, secret_hash: Digest, public_key: [u8; 32], name: String) -> Result<DeviceId, Refusal> {
        text("name", &name, 0, 64)?;
        let catalog = self.catalog();
        let ticket = catalog.tickets_by_hash.get(&secret_hash).and_then(|id| catalog.tickets.get(id));
        let ticket = ticket.ok_or(Refusal::TicketUnknown)?;
        let id = caii_trust::device_id(&public_key);
        // Joining again with the same key is how an agent that lost the answer finds out that it has joined.
        if catalog.devices.get(&id).is_some_and(|device| device.public_key == public_key) {
            return Ok(id);
        }
        if self.now() >= ticket.expires {
            return Err(Refusal::TicketExpired(ticket.id, ticket.expires));
        }
        if ticket.uses >= ticket.uses_max {
            return Err(Refusal::TicketSpent(ticket.id, ticket.uses_max));
        }
        room("devices", catalog.devices.len(), DEVICES_MAX)?;
        let device = Device { id, public_key, owner: ticket.account.clone(), name, enrolled: self.now() };
        let ticket = ticket.id;
        self.record(Change::DeviceEnrolled(device.clone(), ticket));
        if self.is_open() {
            self.log_device(&device);
        }
        Ok(id)
    }

    pub(crate) fn workload_add(&mut self, manifest: Manifest) {
        let answer = self.try_workload_add(manifest);
        self.reply(answer.map(Reply::Workload));
    }

    fn try_workload_add(&mut self, manifest: Manifest) -> Result<Digest, Refusal> {
        check_manifest(&manifest)?;
        if manifest.meter != self.config().meter && !self.config().meters_vetted.contains(&manifest.meter) {
            return Err(Refusal::MeterForeign { expected: self.config().meter, found: manifest.meter });
        }
        let digest = manifest.digest();
        if !self.catalog().workloads.contains_key(&digest) {
            room("workloads", self.catalog().workloads.len(), WORKLOADS_MAX)?;
            self.record(Change::WorkloadAdded(manifest));
        }
        Ok(digest)
    }

    pub(crate) fn model_add(&mut self, model: Model) {
        let answer = self.try_model_add(model);
        self.reply(answer.map(Reply::Model));
    }

    fn try_model_add(&mut self, mut model: Model) -> Result<Model, Refusal> {
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"._-/:".contains(&b);
        if !(1..=100).contains(&model.name.len()) || !model.name.bytes().all(valid) {
            return Err(field("name", "use 1 to 100 letters, digits, `.`, `_`, `-`, `/` and `:`".into()));
        }
        text("source", &model.source, 0, 200)?;
        if !self.catalog().workloads.contains_key(&model.workload) {
            return Err(Refusal::WorkloadUnknown(model.workload));
        }
        if let Some(present) = self.catalog().models.get(&model.name) {
            model.added = present.added;
            model.source.clone_from(&present.source);
            return if *present == model { Ok(model) } else { Err(Refusal::ModelExists(model.name)) };
        }
        room("models", self.catalog().models.len(), MODELS_MAX)?;
        model.added = self.now();
        self.record(Change::ModelAdded(model.clone()));
        Ok(model)
    }

    pub(crate) fn model_remove(&mut self, name: String) {
        if !self.catalog().models.contains_key(&name) {
            return self.reply(Err(Refusal::ModelUnknown(name)));
        }
        self.record(Change::ModelRemoved(name));
        self.reply(Ok(Reply::Done));
    }

    pub(crate) fn file_create(
        &mut self,
        owner: Account,
        filename: String,
        purpose: FilePurpose,
        digest: Digest,
        size: Bytes,
    ) {
        let checked =
            text("filename", &filename, 1, 255).and_then(|()| room("files", self.catalog().files.len(), FILES_MAX));
        match checked {
            Err(refusal) => self.reply(Err(refusal)),
            Ok(()) => {
                let file = self.new_file(owner, filename, purpose, digest, size);
                self.reply(Ok(Reply::File(file)));
            }
        }
    }

    /// Records a file with the next id.
    pub(crate) fn new_file(
        &mut self,
        owner: Account,
        filename: String,
        purpose: FilePurpose,
        digest: Digest,
        size: Bytes,
    ) -> FileMeta {
        let id = FileId(self.catalog().next.file);
        let file = FileMeta { id, owner, filename, purpose, digest, size, created: self.now() };
        self.record(Change::FileCreated(file.clone()));
        file
    }

    pub(crate) fn file_delete(&mut self, owner: Option<Account>, file: FileId) {
        let known = self.coordinator().file(owner.as_ref(), file).is_some();
        let reader = self.catalog().jobs.values().find(|job| job.spec.input == Some(file)).map(|job| job.id);
        let answer = match (known, reader) {
            (false, _) => Err(Refusal::FileUnknown(file)),
            (true, Some(job)) => Err(Refusal::FileInUse(file, job)),
            (true, None) => {
                self.record(Change::FileDeleted(file, self.now()));
                Ok(Reply::Done)
            }
        };
        self.reply(answer);
    }
}

fn check_manifest(manifest: &Manifest) -> Result<(), Refusal> {
    let wrong = |reason: String| Err(Refusal::ManifestInvalid(reason));
    let limits = &manifest.limits;
    if !(1..=100).contains(&manifest.name.chars().count()) {
        return wrong("its name must have 1 to 100 characters".into());
    }
    if let Scope::Item { records } = manifest.scope
        && !(1..=100_000).contains(&records)
    {
        return wrong("an item holds 1 to 100,000 records".into());
    }
    if manifest.blobs.len() > BLOBS_PER_WORKLOAD_MAX {
        return wrong(format!("it names more than {BLOBS_PER_WORKLOAD_MAX} blobs"));
    }
    for (place, blob) in manifest.blobs.iter().enumerate() {
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if !(1..=100).contains(&blob.name.len())
            || !blob.name.bytes().all(valid)
            || blob.name.bytes().all(|b| b == b'.')
        {
            return wrong(format!("`{}` is no blob name: use letters, digits, `.`, `_` and `-`", blob.name));
        }
        if manifest.blobs[..place].iter().any(|other| other.name == blob.name) {
            return wrong(format!("two blobs are called `{}`", blob.name));
        }
    }
    if manifest.args.len() > ARGS_MAX || manifest.args.iter().any(|arg| arg.len() > 4096 || arg.contains('\0')) {
        return wrong(format!("at most {ARGS_MAX} arguments of at most 4,096 bytes without NUL"));
    }
    if limits.memory > MEMORY_MAX || limits.memory.0 == 0 {
        return wrong(format!("memory must be between 1 B and {MEMORY_MAX}"));
    }
    if limits.fuel_per_item.0 == 0 || limits.fuel_per_item.0 > 1 << 60 || limits.fuel_init.0 > 1 << 60 {
        return wrong("fuel limits must be between 1 and 2^60".into());
    }
    if limits.output_per_item > Bytes::mebi(64) || limits.stderr_per_item > Bytes::mebi(1) {
        return wrong("output is limited to 64 MiB an item and standard error to 1 MiB".into());
    }
    if !(Millis(100)..=Millis(3_600_000)).contains(&limits.wall_per_item) {
        return wrong("wall time of an item must be between 100 ms and 1 h".into());
    }
    Ok(())
}

pub(crate) fn field(field: &'static str, reason: String) -> Refusal {
    Refusal::FieldInvalid { field, reason }
}

pub(crate) fn text(name: &'static str, text: &str, min: usize, max: usize) -> Result<(), Refusal> {
    let length = text.chars().count();
    if length < min || length > max || text.chars().any(char::is_control) {
        return Err(field(name, format!("use {min} to {max} characters and no control characters")));
    }
    Ok(())
}

fn room(what: &'static str, count: usize, limit: usize) -> Result<(), Refusal> {
    if count >= limit { Err(Refusal::TooMany { what, limit: limit as u64 }) } else { Ok(()) }
}
