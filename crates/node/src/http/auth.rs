//! Who asks.

use super::error::ApiError;
use crate::pool::Shared;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use caii_model::{Account, Digest, Role};
use std::sync::Arc;

/// The holder of the API key that came with the request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) account: Account,
    pub(crate) role: Role,
}

impl Caller {
    /// Whose things it may see and change: nothing here means everybody's.
    pub(crate) fn scope(&self) -> Option<Account> {
        match self.role {
            Role::Admin => None,
            Role::Requester => Some(self.account.clone()),
        }
    }
}

/// The holder of an admin key.
pub(crate) struct Admin(pub(crate) Caller);

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, pool: &Arc<Shared>) -> Result<Self, ApiError> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let secret = header.and_then(|value| {
            let (scheme, secret) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
        });
        let unauthorised = |code, message: &str| ApiError::new(StatusCode::UNAUTHORIZED, code, message);
        let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
            return Err(unauthorised(
                "missing_api_key",
                "You didn't provide an API key. Send it in the header `Authorization: Bearer sk-caii-…`; \
                 `caii key create` makes one.",
            ));
        };
        let hash = Digest::of(secret.as_bytes());
        let find = move |coordinator: &caii_coordinator::Coordinator, _: &mut dyn caii_store::Store| {
            let key = coordinator.key_by_secret_hash(&hash)?;
            Some(Self { account: key.account.clone(), role: key.role })
        };
        pool.handle.read(find).await?.ok_or_else(|| {
            unauthorised("invalid_api_key", "Incorrect API key provided: it is unknown to this pool or was revoked.")
        })
    }
}

impl FromRequestParts<Arc<Shared>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, pool: &Arc<Shared>) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, pool).await?;
        match caller.role {
            Role::Admin => Ok(Self(caller)),
            Role::Requester => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "admin_only",
                "This needs an admin key; the pool's own is in `client.toml` in its directory.",
            )),
        }
    }
}
