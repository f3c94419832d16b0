//! From sources to a ready workload: gather the files, find the model among them, convert and check it, write the
//! blobs.

use crate::bert::{self, BertConfig, ConvertError, Pooling};
use crate::fetch::{self, Fetch, FetchError, Files};
use crate::onnx::{self, OnnxError};
use crate::tokenizer::{self, TokenizerError};
use crate::{Source, WeightsError};
use caii_model::Digest;
use serde::Deserialize;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) struct Limits {
    /// One download, or all that is unpacked from one archive.
    pub(crate) bytes: u64,
    /// One JSON or text file.
    pub(crate) json: u64,
    /// Files in a directory or archive.
    pub(crate) files: usize,
    /// Directories within directories.
    pub(crate) depth: u32,
}

pub(crate) const LIMITS: Limits = Limits { bytes: 8 << 30, json: 64 << 20, files: 20_000, depth: 6 };

/// What is to be prepared.
#[derive(Debug, Clone)]
pub struct Request {
    /// The model's name in the pool; without it, the package's, directory's or file's.
    pub name: Option<String>,
    /// Where the files come from. Most models need one source; several are gathered into one tree (say, an ONNX file
    /// and a tokenizer.json by URL).
    pub sources: Vec<Source>,
    /// What the model file itself (safetensors or ONNX) must hash to.
    pub sha256: Option<Digest>,
    /// How token vectors become one; without it, what the model's files say.
    pub pooling: Option<Pooling>,
    /// The most tokens of an input; without it, what the model's files say.
    pub max_tokens: Option<u32>,
}

/// What preparing needs from its caller.
pub struct Tools<'a> {
    /// Downloads a URL.
    pub fetch: &'a Fetch<'a>,
    /// The Python interpreter that runs pip; `python3` for nearly everyone.
    pub python: OsString,
    /// Told, in a line, what is being done.
    pub say: &'a dyn Fn(&str),
}

/// A blob of a workload, ready to upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedBlob {
    /// Its name under `/data` in the guest.
    pub name: &'static str,
    /// The file on this machine.
    pub path: PathBuf,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A model made ready for the inference guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The model's name in the pool.
    pub name: String,
    /// `model.onnx`, `tokenizer.json` and `model.json`.
    pub blobs: Vec<PreparedBlob>,
    /// Numbers in an embedding.
    pub dimensions: u32,
    /// The most tokens of an input, special tokens included; longer ones are cut.
    pub max_tokens: u32,
    /// The digest of the model file as it was found, before conversion.
    pub source_digest: Digest,
    /// The licence that the model's card or package names.
    pub license: Option<String>,
    /// What was done, for people: architecture, pooling, origin.
    pub description: String,
}

/// A model could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The request has no source.
    #[error("no source: give a file or directory, a URL with its digest, or pypi:NAME==VERSION")]
    NoSource,
    /// The name cannot be one.
    #[error(
        "`{0}` cannot be a model's name: 1 to 100 of letters, digits, `.`, `_` and `-`, the first a letter or digit (give --name)"
    )]
    Name(String),
    /// The files could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The sources hold no model that can be used.
    #[error("found no model: {wanted}. The sources hold {seen}")]
    NoModel {
        /// What was looked for.
        wanted: String,
        /// What is there.
        seen: String,
    },
    /// The sources hold several.
    #[error("found several models, give one of them: {}", .0.join(", "))]
    Several(Vec<String>),
    /// A file beside the model is missing.
    #[error("the model `{model}` has no {missing} beside it; give it as a further source")]
    Beside {
        /// The model file.
        model: String,
        /// The file that is missing.
        missing: &'static str,
    },
    /// A file could not be read or written.
    #[error("cannot read or write `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is larger than any of its kind.
    #[error("`{path}` has {size} bytes; such a file has at most {limit}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A file beside the model is damaged.
    #[error("`{path}` cannot be used")]
    Json {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The model has a stage that is not implemented.
    #[error("the model's {path} names {what}, which is not supported; mean and cls pooling with normalisation are")]
    Stage {
        /// The file.
        path: String,
        /// The stage.
        what: String,
    },
    /// The most tokens of an input are unknown or out of range.
    #[error("{0}")]
    MaxTokens(String),
    /// The weights could not be converted.
    #[error("converting `{model}`")]
    Convert {
        /// The model file.
        model: String,
        /// Why.
        #[source]
        source: ConvertError,
    },
    /// The ONNX file cannot be used.
    #[error("using `{model}`")]
    Onnx {
        /// The model file.
        model: String,
        /// Why.
        #[source]
        source: OnnxError,
    },
    /// The tokenizer cannot be used.
    #[error("using the tokenizer of `{model}`")]
    Tokenizer {
        /// The model file.
        model: String,
        /// Why.
        #[source]
        source: TokenizerError,
    },
}

/// Fetches, converts and checks a model and writes its blobs into the directory `out`, which is created. On failure
/// no blob is written; an unfinished download stays there and is resumed the next time.
///
/// # Errors
/// [`PrepareError`] says which file of which source cannot be used and what to do.
pub fn prepare(request: &Request, out: &Path, tools: &Tools<'_>) -> Result<Prepared, PrepareError> {
    let [first, ..] = request.sources.as_slice() else { return Err(PrepareError::NoSource) };
    let name = name_of(request.name.as_deref(), first)?;
    fs::create_dir_all(out).map_err(io_error(out))?;
    let scratch = tempfile::Builder::new().prefix(".prepare-").tempdir_in(out).map_err(io_error(out))?;
    let mut files = Files::new();
    for source in &request.sources {
        (tools.say)(&format!("fetching {source}"));
        fetch::collect(source, tools, out, scratch.path(), &mut files)?;
    }
    let tree = Tree::find(&files)?;

    let (source_digest, _) = fetch::digest_of(&tree.model.path)?;
    if let Some(expected) = request.sha256 {
        fetch::check_digest(&tree.model.path, expected, &format!("the model file `{}`", tree.model.name))?;
    }
    let model_path = scratch.path().join("model.onnx");
    let encoder = tree.encoder(request, &model_path, tools)?;
    let tokenizer = read(&tree.tokenizer)?;
    let truncation = tokenizer::check(&tokenizer, encoder.vocab)
        .map_err(|source| PrepareError::Tokenizer { model: tree.model.name.clone(), source })?;
    let max_tokens = tree.max_tokens(request, &encoder, truncation)?;

    let mut card = serde_json::Map::new();
    card.insert("name".into(), name.clone().into());
    card.insert("max_tokens".into(), max_tokens.into());
    card.insert("dimensions".into(), encoder.dimensions.into());
    card.insert("kind".into(), "embeddings".into());
    let card = serde_json::Value::Object(card).to_string();
    let written = |name: &str, bytes: &[u8]| {
        let path = scratch.path().join(name);
        fs::write(&path, bytes).map_err(io_error(&path))?;
        Ok::<_, PrepareError>((Digest::of(bytes), bytes.len() as u64))
    };
    let outcomes = [
        ("model.onnx", (encoder.digest, encoder.size)),
        ("tokenizer.json", written("tokenizer.json", &tokenizer)?),
        ("model.json", written("model.json", card.as_bytes())?),
    ];
    // All are complete before the first is in place.
    let mut blobs = Vec::new();
    for (name, (digest, size)) in outcomes {
        let (from, path) = (scratch.path().join(name), out.join(name));
        fs::rename(&from, &path).map_err(io_error(&path))?;
        blobs.push(PreparedBlob { name, path, digest, size });
    }
    for source in &request.sources {
        fetch::discard(source, out)?;
    }
    Ok(Prepared {
        description: format!("{}; from {} ({})", encoder.description, first, tree.model.name),
        license: tree.license()?,
        name,
        blobs,
        dimensions: encoder.dimensions,
        max_tokens,
        source_digest,
    })
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> PrepareError {
    let path = path.to_owned();
    move |source| PrepareError::Io { path, source }
}

fn name_of(given: Option<&str>, source: &Source) -> Result<String, PrepareError> {
    let stem = |path: &Path| {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
        name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let name = match (given, source) {
        (Some(name), _) => name.to_owned(),
        (None, Source::Pypi { name, .. }) => name.clone(),
        (None, Source::Path(path)) => stem(path),
        (None, Source::Url { url, .. }) => stem(Path::new(url.split('?').next().unwrap_or(url))),
    };
    let fits = (1..=100).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if fits { Ok(name) } else { Err(PrepareError::Name(name)) }
}

/// A file of the sources: its name in the tree and where it is.
#[derive(Debug, Clone)]
struct Found {
    name: String,
    path: PathBuf,
}

/// The model among the files of the sources, and what lies beside it.
#[derive(Debug)]
struct Tree<'a> {
    files: &'a Files,
    model: Found,
    tokenizer: Found,
}

/// A model file that is ready, and what was learnt from it.
struct Encoder {
    digest: Digest,
    size: u64,
    dimensions: u32,
    positions: Option<u32>,
    vocab: Option<u32>,
    description: String,
}

impl<'a> Tree<'a> {
    fn find(files: &'a Files) -> Result<Self, PrepareError> {
        let model = find_model(files)?;
        let tokenizer = beside(files, &model, "tokenizer.json")
            .ok_or_else(|| PrepareError::Beside { model: model.name.clone(), missing: "tokenizer.json" })?;
        Ok(Self { files, model, tokenizer })
    }

    /// Makes `model.onnx` from the model file.
    fn encoder(&self, request: &Request, to: &Path, tools: &Tools<'_>) -> Result<Encoder, PrepareError> {
        let config = beside(self.files, &self.model, "config.json");
        if self.model.name.ends_with(".onnx") {
            return self.checked_onnx(config, to);
        }
        let convert = |source| PrepareError::Convert { model: self.model.name.clone(), source };
        let config =
            config.ok_or_else(|| PrepareError::Beside { model: self.model.name.clone(), missing: "config.json" })?;
        let config = BertConfig::parse(&read(&config)?).map_err(convert)?;
        self.refuse_other_stages()?;
        let (pooling, told_by) = self.pooling(request)?;
        (tools.say)(&format!("converting {} to ONNX, {pooling} pooling ({told_by})", self.model.name));
        let (digest, size) = bert::convert_bert(&config, &self.model.path, pooling, to).map_err(convert)?;
        Ok(Encoder {
            digest,
            size,
            dimensions: config.hidden,
            positions: Some(config.positions),
            vocab: Some(config.vocab),
            description: format!(
                "BERT encoder, {} layers of {}, {pooling} pooling ({told_by}), normalised",
                config.layers, config.hidden
            ),
        })
    }

    fn checked_onnx(&self, config: Option<Found>, to: &Path) -> Result<Encoder, PrepareError> {
        #[derive(Deserialize)]
        struct Config {
            hidden_size: Option<u32>,
            max_position_embeddings: Option<u32>,
            vocab_size: Option<u32>,
        }
        let onnx = |source| PrepareError::Onnx { model: self.model.name.clone(), source };
        let config: Option<Config> = config.map(|found| parse(&found)).transpose()?;
        let dimensions = onnx::check_interface(&self.model.path)
            .map_err(onnx)?
            .or(config.as_ref().and_then(|config| config.hidden_size))
            .ok_or_else(|| onnx(OnnxError::Dimensions))?;
        let size = fs::copy(&self.model.path, to).map_err(io_error(to))?;
        Ok(Encoder {
            digest: fetch::digest_of(to)?.0,
            size,
            dimensions,
            positions: config.as_ref().and_then(|config| config.max_position_embeddings),
            vocab: config.as_ref().and_then(|config| config.vocab_size).filter(|&size| size > 0),
            description: "ONNX encoder as given".to_owned(),
        })
    }

    /// The pooling and what decided it.
    fn pooling(&self, request: &Request) -> Result<(Pooling, String), PrepareError> {
        #[derive(Deserialize)]
        struct Modes {
            pooling_mode: Option<String>,
            #[serde(flatten)]
            flags: serde_json::Map<String, serde_json::Value>,
        }
        if let Some(pooling) = request.pooling {
            return Ok((pooling, "as asked".to_owned()));
        }
        if let Some(found) = self.sibling("1_Pooling/config.json") {
            let modes: Modes = parse(&found)?;
            let on = |(name, value): (&String, &serde_json::Value)| {
                (value.as_bool() == Some(true)).then(|| name.strip_prefix("pooling_mode_").map(str::to_owned)).flatten()
            };
            let chosen =
                modes.pooling_mode.map_or_else(|| modes.flags.iter().filter_map(on).collect(), |mode| vec![mode]);
            return match chosen.as_slice() {
                [mode] if mode == "mean" || mode == "mean_tokens" => Ok((Pooling::Mean, found.name)),
                [mode] if mode == "cls" || mode == "cls_token" => Ok((Pooling::Cls, found.name)),
                other => {
                    Err(PrepareError::Stage { path: found.name, what: format!("pooling by {}", other.join(" + ")) })
                }
            };
        }
        // The bge models pool by the first token and are often passed on without the directory that says so.
        let names = [self.model.name.clone(), request.sources.iter().map(Source::to_string).collect()];
        if names.iter().any(|name| name.to_ascii_lowercase().contains("bge-")) {
            return Ok((Pooling::Cls, "as the bge models do; no 1_Pooling/config.json".to_owned()));
        }
        Ok((Pooling::Mean, "the usual one; no 1_Pooling/config.json".to_owned()))
    }

    /// modules.json lists a sentence-transformer's stages; a dense layer behind the pooling, say, cannot be left out.
    fn refuse_other_stages(&self) -> Result<(), PrepareError> {
        #[derive(Deserialize)]
        struct Module {
            #[serde(rename = "type")]
            kind: String,
        }
        let Some(found) = self.sibling("modules.json") else { return Ok(()) };
        let modules: Vec<Module> = parse(&found)?;
        let known = ["Transformer", "Pooling", "Normalize"];
        let other = modules.into_iter().find(|module| {
            let kind = module.kind.rsplit('.').next().unwrap_or(&module.kind);
            !known.contains(&kind)
        });
        other.map_or(Ok(()), |module| Err(PrepareError::Stage { path: found.name, what: module.kind }))
    }

    fn max_tokens(&self, request: &Request, encoder: &Encoder, truncation: Option<u64>) -> Result<u32, PrepareError> {
        #[derive(Deserialize)]
        struct SentenceBert {
            max_seq_length: Option<u32>,
        }
        let positions = encoder.positions.filter(|&positions| positions > 0);
        let limit = positions.unwrap_or(131_072);
        if let Some(asked) = request.max_tokens {
            return if (3..=limit).contains(&asked) {
                Ok(asked)
            } else {
                Err(PrepareError::MaxTokens(format!("max_tokens = {asked}: this model takes 3 to {limit}")))
            };
        }
        let said = match self.sibling("sentence_bert_config.json") {
            Some(found) => parse::<SentenceBert>(&found)?.max_seq_length,
            None => None,
        };
        let truncation = || truncation.and_then(|length| u32::try_from(length).ok());
        let length = said.or(positions).or_else(truncation).ok_or_else(|| {
            PrepareError::MaxTokens(
                "the model's files do not say how many tokens it takes: give --max-tokens, or its config.json"
                    .to_owned(),
            )
        })?;
        Ok(length.clamp(3, limit))
    }

    /// The licence in the model's card, else in the package's metadata.
    fn license(&self) -> Result<Option<String>, PrepareError> {
        let field = |text: &str, name: &str| {
            let line =
                text.lines().take(200).find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
            line.map(|value| value.trim_matches(['"', '\'']).chars().take(100).collect::<String>())
                .filter(|value| !value.is_empty())
        };
        if let Some(card) = self.sibling("README.md") {
            let text = String::from_utf8_lossy(&read(&card)?).into_owned();
            let front = text.strip_prefix("---").and_then(|rest| rest.split_once("\n---")).map(|(front, _)| front);
            if let Some(license) = front.and_then(|front| field(front, "license")) {
                return Ok(Some(license));
            }
        }
        let metadata = self.files.iter().find(|(name, _)| name.ends_with(".dist-info/METADATA"));
        if let Some((name, Some(path))) = metadata {
            let text = String::from_utf8_lossy(&read(&Found { name: name.clone(), path: path.clone() })?).into_owned();
            let head = text.split("\n\n").next().unwrap_or_default();
            return Ok(field(head, "License-Expression").or_else(|| field(head, "License")));
        }
        Ok(None)
    }

    /// A file in the model's own directory.
    fn sibling(&self, name: &str) -> Option<Found> {
        lookup(self.files, &format!("{}{name}", directory(&self.model.name)))
    }
}

/// The part of a name up to and with its last `/`.
fn directory(name: &str) -> &str {
    name.rfind('/').map_or("", |end| &name[..=end])
}

fn lookup(files: &Files, name: &str) -> Option<Found> {
    let path = files.get(name)?.clone()?;
    Some(Found { name: name.to_owned(), path })
}

/// A file in the model's directory, the one above, or, if there is only one of that name, anywhere.
fn beside(files: &Files, model: &Found, name: &str) -> Option<Found> {
    let own = directory(&model.name);
    let above = directory(own.strip_suffix('/').unwrap_or(own));
    lookup(files, &format!("{own}{name}")).or_else(|| lookup(files, &format!("{above}{name}"))).or_else(|| {
        let is_it = |file: &&String| file.rsplit('/').next() == Some(name) && !file.ends_with("1_Pooling/config.json");
        let mut all = files.keys().filter(is_it);
        match (all.next(), all.next()) {
            (Some(only), None) => lookup(files, only),
            _ => None,
        }
    })
}

fn find_model(files: &Files) -> Result<Found, PrepareError> {
    let with = |end: &str| files.keys().filter(|name| name.ends_with(end)).cloned().collect::<Vec<_>>();
    let weights = with(".safetensors");
    let exact: Vec<String> =
        weights.iter().filter(|name| name.rsplit('/').next() == Some("model.safetensors")).cloned().collect();
    let candidates = match (exact.is_empty(), weights.is_empty()) {
        (false, _) => exact,
        (true, false) => weights,
        (true, true) => with(".onnx"),
    };
    match candidates.as_slice() {
        [only] if only.contains("-00001-of-") => Err(sharded(only)),
        [only] => lookup(files, only).ok_or_else(|| no_model(files)),
        [] => Err(no_model(files)),
        [first, ..] if first.contains("-00001-of-") => Err(sharded(first)),
        several => Err(PrepareError::Several(several.iter().take(10).cloned().collect())),
    }
}

fn sharded(name: &str) -> PrepareError {
    PrepareError::NoModel {
        wanted: "the weights must be in one file (save the model with a larger shard size)".to_owned(),
        seen: format!("`{name}` and its other parts"),
    }
}

fn no_model(files: &Files) -> PrepareError {
    let wanted = "looked for *.safetensors with config.json, or *.onnx, with tokenizer.json";
    let pickled = files.keys().find(|name| name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth"));
    let wanted = match pickled {
        Some(name) => format!("{wanted}; `{name}` is a pickle, which can run code when opened: save it as safetensors"),
        None => wanted.to_owned(),
    };
    let mut seen: Vec<&str> = files.keys().map(String::as_str).take(8).collect();
    if files.len() > seen.len() {
        seen.push("…");
    }
    PrepareError::NoModel { wanted, seen: if seen.is_empty() { "no file".into() } else { seen.join(", ") } }
}

/// A small file's bytes.
fn read(found: &Found) -> Result<Vec<u8>, PrepareError> {
    let size = fs::metadata(&found.path).map_err(io_error(&found.path))?.len();
    if size > LIMITS.json {
        return Err(PrepareError::TooLarge { path: found.path.clone(), size, limit: LIMITS.json });
    }
    fs::read(&found.path).map_err(io_error(&found.path))
}

fn parse<T: serde::de::DeserializeOwned>(found: &Found) -> Result<T, PrepareError> {
    serde_json::from_slice(&read(found)?).map_err(|source| PrepareError::Json { path: found.name.clone(), source })
}

/// So that a caller can tell damaged weights from unsupported ones without looking through two layers.
impl PrepareError {
    /// The failure of the weights themselves, if that is what it was.
    pub fn weights(&self) -> Option<&WeightsError> {
        match self {
            PrepareError::Convert { source: ConvertError::Weights(error), .. } => Some(error),
            _ => None,
        }
    }
}
