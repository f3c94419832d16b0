//! Talking to a pool: where it is, and requests with their errors.

use crate::error::CliError;
use caii_model::Digest;
use caii_node::views::BlobView;
use clap::Args;
use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Which pool to talk to. Without any of these: the one that `caii pool up` made on this machine.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which pool")]
pub(crate) struct PoolArgs {
    /// Address of the pool, as `https://host:7443` or `http://127.0.0.1:7480`.
    #[arg(long, global = true, value_name = "URL", env = "CAII_POOL")]
    pub(crate) pool: Option<String>,
    /// API key.
    #[arg(long, global = true, value_name = "KEY", env = "CAII_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// SHA-256 of the pool's TLS certificate; without it the certificate must be one that this machine trusts.
    #[arg(long, global = true, value_name = "HEX", env = "CAII_FINGERPRINT")]
    pub(crate) fingerprint: Option<String>,
    /// Directory of a pool on this machine.
    #[arg(long, global = true, value_name = "DIR", env = "CAII_POOL_DIR")]
    pub(crate) pool_dir: Option<PathBuf>,
}

/// A pool is waited for so long before it says anything.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A pool that can be asked.
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
}

/// The pool that `caii pool up` made on this machine.
pub(crate) fn local_pool(args: &PoolArgs) -> Result<caii_node::pool::ClientFile, CliError> {
    let dir = args.pool_dir.clone().unwrap_or_else(|| crate::commands::default_dir("pool"));
    let path = dir.join("client.toml");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(CliError::NoPool { looked: path });
        }
        Err(error) => return Err(CliError::file("read", &path, error)),
    };
    toml::from_str(&text).map_err(|error| CliError::Usage(format!("{} is damaged: {error}", path.display())))
}

/// OpenAI's shape of an error.
#[derive(serde::Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(serde::Deserialize)]
struct ErrorDetail {
    message: String,
    code: Option<String>,
}

impl Client {
    pub(crate) fn new(args: &PoolArgs) -> Result<Self, CliError> {
        let (url, key, fingerprint) = match (&args.pool, &args.key) {
            (Some(url), Some(key)) => (url.clone(), key.clone(), args.fingerprint.clone()),
            (Some(_), None) => {
                return Err(CliError::Usage("--pool needs an API key too: give --key or set CAII_KEY".into()));
            }
            (None, key) => {
                let file = local_pool(args)?;
                (file.url, key.clone().unwrap_or(file.key), Some(file.fingerprint))
            }
        };
        let fingerprint = fingerprint.map(|hex| hex.parse::<Digest>()).transpose();
        let fingerprint = fingerprint.map_err(|error| CliError::Usage(format!("--fingerprint: {error}")))?;
        let http = match fingerprint {
            Some(fingerprint) if url.starts_with("https://") => caii_node::pinned::client(fingerprint),
            _ => caii_node::pinned::trusting(),
        };
        let http = http.read_timeout(ANSWER_TIMEOUT).build();
        let http = http.map_err(|source| CliError::Unreachable { url: url.clone(), source })?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), key })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// A file's bytes.
    pub(crate) async fn get_bytes(&self, path: &str) -> Result<Vec<u8>, CliError> {
        let response = self.send(self.request(Method::GET, path)).await?;
        Ok(response.bytes().await.map_err(|error| self.unreachable(error))?.to_vec())
    }

    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, CliError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// Posts bytes as they are.
    pub(crate) async fn post_bytes<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<T, CliError> {
        self.json(self.request(Method::POST, path).body(body)).await
    }

    /// For requests without a body and without an answer worth reading.
    pub(crate) async fn call(&self, method: Method, path: &str) -> Result<(), CliError> {
        self.send(self.request(method, path)).await.map(drop)
    }

    /// Uploads a file through the OpenAI API; returns its id.
    pub(crate) async fn upload(&self, path: &Path, purpose: &'static str) -> Result<String, CliError> {
        let name = path.file_name().map_or("input".into(), |name| name.to_string_lossy().into_owned());
        let (body, size) = file_body(path).await?;
        let part = reqwest::multipart::Part::stream_with_length(body, size).file_name(name);
        let form = reqwest::multipart::Form::new().text("purpose", purpose).part("file", part);
        let file: serde_json::Value = self.json(self.request(Method::POST, "/v1/files").multipart(form)).await?;
        file["id"].as_str().map(str::to_owned).ok_or_else(|| self.strange("a file without an id"))
    }

    /// Stores a blob unless the pool has it.
    pub(crate) async fn put_blob(&self, path: &Path, digest: Digest) -> Result<(), CliError> {
        let at = format!("/caii/v1/blobs/{}", digest.hex());
        let has = self.request(Method::HEAD, &at).send().await.map_err(|error| self.unreachable(error))?;
        if has.status() == StatusCode::OK {
            return Ok(());
        }
        let (body, size) = file_body(path).await?;
        let request = self.request(Method::PUT, &at).header("content-length", size).body(body);
        let _: BlobView = self.json(request).await?;
        Ok(())
    }

    /// Downloads a file's content. It appears under its name only when it is whole. `-` is standard output.
    pub(crate) async fn download(&self, file: &str, to: &Path) -> Result<(), CliError> {
        let response = self.send(self.request(Method::GET, &format!("/v1/files/{file}/content"))).await?;
        let mut chunks = response.bytes_stream();
        if to == Path::new("-") {
            let mut out = tokio::io::stdout();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|error| self.unreachable(error))?;
                out.write_all(&chunk).await.map_err(|error| CliError::file("write to", to, error))?;
            }
            return out.flush().await.map_err(|error| CliError::file("write to", to, error));
        }
        let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let partial = tempfile::NamedTempFile::new_in(dir).map_err(|error| CliError::file("write in", dir, error))?;
        let file = partial.reopen().map_err(|error| CliError::file("write", to, error))?;
        let mut out = tokio::fs::File::from_std(file);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.unreachable(error))?;
            out.write_all(&chunk).await.map_err(|error| CliError::file("write", to, error))?;
        }
        out.sync_all().await.map_err(|error| CliError::file("write", to, error))?;
        make_readable(partial.path()).map_err(|error| CliError::file("write", to, error))?;
        partial.persist(to).map_err(|error| CliError::file("write", to, error.error))?;
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key)
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CliError> {
        let response = self.send(request).await?;
        let body = response.bytes().await.map_err(|error| self.unreachable(error))?;
        serde_json::from_slice(&body).map_err(|error| self.strange(&error.to_string()))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|error| self.unreachable(error))?;
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => Err(CliError::Refused {
                code: body.error.code.unwrap_or_else(|| status.as_str().to_owned()),
                message: body.error.message,
            }),
            Err(_) => Err(self.strange(&format!("status {status}"))),
        }
    }

    fn unreachable(&self, source: reqwest::Error) -> CliError {
        CliError::Unreachable { url: self.url.clone(), source }
    }

    fn strange(&self, detail: &str) -> CliError {
        CliError::Strange { url: self.url.clone(), detail: detail.to_owned() }
    }
}

async fn file_body(path: &Path) -> Result<(reqwest::Body, u64), CliError> {
    let file = tokio::fs::File::open(path).await.map_err(|error| CliError::file("read", path, error))?;
    let meta = file.metadata().await.map_err(|error| CliError::file("read", path, error))?;
    if !meta.is_file() {
        return Err(CliError::Usage(format!("{} is not a file", path.display())));
    }
    let stream = tokio_util::io::ReaderStream::with_capacity(file, 1 << 16);
    Ok((reqwest::Body::wrap_stream(stream), meta.len()))
}

/// Temporary files are private; results are as readable as the user's other files.
#[cfg(unix)]
fn make_readable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_: &Path) -> std::io::Result<()> {
    Ok(())
}
