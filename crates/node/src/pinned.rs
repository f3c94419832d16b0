//! HTTPS to a pool whose certificate's fingerprint is known: no authority, no name and no date is asked. Beside it, HTTPS as
//! everybody has it, for whoever is not a pool.
//!
//! The join ticket and the pool's `client.toml` carry the SHA-256 of the certificate. A server that shows any other one,
//! or cannot sign with its key, is refused. Dates are not looked at, so a machine whose clock is wrong can still talk.

use caii_model::Digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// How long connecting may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The server showed another certificate than the one that is known.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the server shows certificate {}, expected {}: it is another pool, or something stands between", found.short(),
    expected.short()
)]
pub struct ForeignCertificate {
    /// SHA-256 of the certificate that is known.
    pub expected: Digest,
    /// SHA-256 of the one that was shown.
    pub found: Digest,
}

/// A client that talks to a server with this certificate only (SHA-256 of its DER). Set timeouts for answers yourself.
pub fn client(certificate: Digest) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(config(certificate))
        .https_only(true)
        .http1_only()
        // The pool is named by its fingerprint; a proxy or another host that it sends us to cannot show it.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
}

/// A client for servers whose certificates this machine trusts, and for plain HTTP.
pub fn trusting() -> reqwest::ClientBuilder {
    let mut roots = rustls::RootCertStore::empty();
    // Certificates that cannot be read are not trusted; a server that needs one of them is then refused by name.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).http1_only()
}

/// Whether this is why a request failed: trying again is pointless then.
pub fn foreign_certificate(error: &reqwest::Error) -> Option<ForeignCertificate> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause)))) =
            error.downcast_ref()
        {
            return cause.downcast_ref::<ForeignCertificate>().cloned();
        }
        // An `io::Error` has what it wraps beside its source, not as its source.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn config(certificate: Digest) -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { certificate, provider }))
        .with_no_client_auth()
}

#[derive(Debug)]
struct Pinned {
    certificate: Digest,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = Digest::of(end_entity);
        if found == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        let cause = ForeignCertificate { expected: self.certificate, found };
        Err(CertificateError::Other(OtherError(Arc::new(cause))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
