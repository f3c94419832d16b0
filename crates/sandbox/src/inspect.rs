//! What a program is, without compiling it: the check at submission, the same as the one before it is compiled.

use crate::accepted::{FEATURES, MAX_TABLE_ELEMENTS, MAX_TABLES, TABLE_ELEMENT_BYTES};
use crate::wasi;
use caii_model::{Bytes, Limits};
use wasmparser::types::EntityType;
use wasmparser::{Operator, Parser, Payload, ValType, Validator};

/// The largest program that is accepted.
pub const MAX_PROGRAM: Bytes = Bytes::mebi(64);
/// The export that is run once per device, before the snapshot.
pub const INITIALISER: &str = "wizer.initialize";
/// Bytes in a page of linear memory.
const PAGE: u64 = 1 << 16;

/// What an acceptable program is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Its size.
    pub size: Bytes,
    /// Whether it exports `wizer.initialize`.
    pub has_initialiser: bool,
    /// Linear memory that it starts with.
    pub memory_initial: Bytes,
    /// Linear memory that it will never exceed by its own word.
    pub memory_maximum: Option<Bytes>,
    /// Memory of the tables that it starts with; it counts against the same limit.
    pub tables_initial: Bytes,
    /// What it imports, as `module.name`, sorted: everything that it can ask of the host.
    pub imports: Vec<String>,
}

impl Inspection {
    /// Whether the program can start within these limits.
    ///
    /// # Errors
    /// [`ProgramError::InitialMemory`] when its initial memory and tables are beyond the limit.
    pub fn fits(&self, limits: &Limits) -> Result<(), ProgramError> {
        let (memory, tables, limit) = (self.memory_initial, self.tables_initial, limits.memory);
        if memory.0.saturating_add(tables.0) > limit.0 {
            return Err(ProgramError::InitialMemory { memory, tables, limit });
        }
        Ok(())
    }
}

/// Why a program cannot run here. Each message says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// It is larger than [`MAX_PROGRAM`].
    #[error("the program has {size}; at most {MAX_PROGRAM} are accepted (strip debug information?)")]
    TooLarge {
        /// Its size.
        size: Bytes,
    },
    /// The bytes are something else.
    #[error("not a WebAssembly module: {0}")]
    NotWasm(&'static str),
    /// A module, but malformed or of a kind that is switched off.
    #[error("the WebAssembly module is not valid here: {0}")]
    Invalid(String),
    /// An export is missing or of the wrong kind.
    #[error("the program does not export {0}; build it as a WASI preview 1 command (target wasm32-wasip1)")]
    NoExport(&'static str),
    /// It imports what the host does not offer. All such imports are listed.
    #[error("the program imports what the sandbox does not offer: {}", .0.join(", "))]
    UnknownImports(Vec<String>),
    /// It starts with more memory than its limits allow.
    #[error("the program starts with {memory} of memory{}, more than its limit of {limit}", and_tables(*tables))]
    InitialMemory {
        /// Linear memory that it starts with.
        memory: Bytes,
        /// Memory of its tables.
        tables: Bytes,
        /// What its manifest allows.
        limit: Bytes,
    },
    /// Its tables are too many or too large.
    #[error("the program has too many tables or table elements: at most {MAX_TABLES} and {MAX_TABLE_ELEMENTS} each")]
    Tables,
    /// It has an initialiser, and does what a snapshot cannot hold.
    #[error("the program exports `{INITIALISER}` but uses {0}, which a snapshot cannot hold")]
    CannotSnapshot(&'static str),
}

fn and_tables(tables: Bytes) -> String {
    if tables == Bytes(0) { String::new() } else { format!(" and {tables} of tables") }
}

/// Checks that these bytes are a program that the sandbox can run, and says what it is like.
///
/// # Errors
/// The first reason found why not.
pub fn inspect(wasm: &[u8]) -> Result<Inspection, ProgramError> {
    let size = Bytes(wasm.len() as u64);
    if size > MAX_PROGRAM {
        return Err(ProgramError::TooLarge { size });
    }
    check_header(wasm)?;
    let invalid = |error: wasmparser::Error| ProgramError::Invalid(error.to_string());
    let types = Validator::new_with_features(FEATURES).validate_all(wasm).map_err(invalid)?;
    let types = types.as_ref();

    let mut unknown = Vec::new();
    let mut imports = Vec::new();
    for (module, name, entity) in types.core_imports().into_iter().flatten() {
        let EntityType::Func(id) = entity else {
            unknown.push(format!("{module}.{name} (not a function)"));
            continue;
        };
        let found = types[id].unwrap_func();
        match wasi::signature(module, name) {
            None => unknown.push(format!("{module}.{name}")),
            Some((params, results)) if (found.params(), found.results()) != (params, results) => {
                unknown.push(format!("{module}.{name} (as {found}, which is not its type)"));
            }
            Some(_) => imports.push(format!("{module}.{name}")),
        }
    }
    imports.sort();
    imports.dedup();
    if !unknown.is_empty() {
        unknown.sort();
        unknown.dedup();
        return Err(ProgramError::UnknownImports(unknown));
    }

    let export = |name: &str| {
        types.core_exports().into_iter().flatten().find(|(found, _)| *found == name).map(|(_, entity)| entity)
    };
    let is_command = |entity| match entity {
        EntityType::Func(id) => {
            let function = types[id].unwrap_func();
            function.params().is_empty() && function.results().is_empty()
        }
        _ => false,
    };
    if !export("_start").is_some_and(is_command) {
        return Err(ProgramError::NoExport("the function `_start` without parameters and results"));
    }
    let Some(EntityType::Memory(memory)) = export("memory") else {
        return Err(ProgramError::NoExport("its memory as `memory`"));
    };
    let has_initialiser = match export(INITIALISER) {
        None => false,
        Some(entity) if is_command(entity) => true,
        Some(_) => {
            return Err(ProgramError::NoExport("`wizer.initialize` as a function without parameters and results"));
        }
    };
    // Called before the initialiser. One that cannot be called would fail on every device and be blamed on each.
    if has_initialiser && export("_initialize").is_some_and(|entity| !is_command(entity)) {
        return Err(ProgramError::NoExport("`_initialize` as a function without parameters and results"));
    }

    let tables = types.table_count();
    let elements = || (0..tables).map(|index| types.table_at(index).initial);
    if tables as usize > MAX_TABLES || elements().any(|elements| elements > MAX_TABLE_ELEMENTS as u64) {
        return Err(ProgramError::Tables);
    }
    if has_initialiser {
        check_can_snapshot(wasm).map_err(invalid)?.map_or(Ok(()), |what| Err(ProgramError::CannotSnapshot(what)))?;
    }
    Ok(Inspection {
        size,
        has_initialiser,
        memory_initial: Bytes(memory.initial.saturating_mul(PAGE)),
        memory_maximum: memory.maximum.map(|pages| Bytes(pages.saturating_mul(PAGE))),
        tables_initial: Bytes(elements().sum::<u64>() * TABLE_ELEMENT_BYTES),
        imports,
    })
}

fn check_header(wasm: &[u8]) -> Result<(), ProgramError> {
    const MAGIC: &[u8] = b"\0asm";
    let text = wasm.trim_ascii_start();
    let text = text.starts_with(b"(") || text.starts_with(b";;");
    Err(ProgramError::NotWasm(match wasm {
        [] => "the file is empty",
        _ if text => "this is the text format; assemble it first (wat2wasm)",
        _ if wasm.starts_with(b"\x7fELF") => "this is a native program; compile for wasm32-wasip1",
        _ if !wasm.starts_with(MAGIC) => "it does not begin with `\\0asm`",
        _ if wasm.len() < 8 => "it ends within the header",
        [_, _, _, _, 1, 0, 0, 0, ..] => return Ok(()),
        [_, _, _, _, _, 0, 1, 0, ..] => "this is a component; build a core module (target wasm32-wasip1, not -wasip2)",
        _ => "an unknown version of the format",
    }))
}

/// A snapshot holds memory and globals only. What else an initialiser could change must not be changed at all, and
/// nothing tells which functions it reaches.
fn check_can_snapshot(wasm: &[u8]) -> Result<Option<&'static str>, wasmparser::Error> {
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::CodeSectionEntry(body) => {
                let mut operators = body.get_operators_reader()?;
                while !operators.eof() {
                    let what = match operators.read()? {
                        Operator::TableCopy { .. } => "table.copy",
                        Operator::TableInit { .. } => "table.init",
                        Operator::TableSet { .. } => "table.set",
                        Operator::TableGrow { .. } => "table.grow",
                        Operator::TableFill { .. } => "table.fill",
                        Operator::ElemDrop { .. } => "elem.drop",
                        Operator::DataDrop { .. } => "data.drop",
                        Operator::MemoryInit { .. } => "memory.init",
                        _ => continue,
                    };
                    return Ok(Some(what));
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals {
                    let ty = global?.ty;
                    if ty.mutable && matches!(ty.content_type, ValType::Ref(_)) {
                        return Ok(Some("a mutable global that holds a reference"));
                    }
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    if export?.name.starts_with("__wizer_") {
                        return Ok(Some("an export whose name begins with `__wizer_`"));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(None)
}
