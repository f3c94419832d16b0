//! What clients are told when something is not done: OpenAI's error shape, whoever asks.

use crate::pool::actor::AskError;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use caii_model::Refusal;
use serde_json::json;

/// An error answer.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) code: Option<String>,
    pub(crate) param: Option<String>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), code: Some(code.to_owned()), param: None }
    }

    /// The request breaks a rule.
    pub(crate) fn invalid(param: &str, code: &str, message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::BAD_REQUEST, code, message);
        if !param.is_empty() {
            error.param = Some(param.to_owned());
        }
        error
    }

    /// There is no such thing, or it is not the asker's.
    pub(crate) fn not_found(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// Nothing the client can do about it.
    pub(crate) fn internal(attempt: &str, error: &dyn std::error::Error) -> Self {
        let reason = crate::pool::actor::describe(error);
        tracing::error!(%reason, "cannot {attempt}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("The pool cannot {attempt}: {reason}"))
    }

    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        }
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        let message = error.to_string();
        match error {
            AskError::Refused(refusal) => refusal.into(),
            AskError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message),
            AskError::Restarted => Self::new(StatusCode::SERVICE_UNAVAILABLE, "restarted", message),
            AskError::Storage(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage", message),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::JobUnknown(_)
            | Refusal::FileUnknown(_)
            | Refusal::WorkloadUnknown(_)
            | Refusal::ModelUnknown(_)
            | Refusal::KeyUnknown(_)
            | Refusal::TicketUnknown
            | Refusal::DeviceUnknown(_) => StatusCode::NOT_FOUND,
            Refusal::JobEnded(_) | Refusal::FileInUse(..) | Refusal::ModelExists(_) | Refusal::KeyLastAdmin(_) => {
                StatusCode::CONFLICT
            }
            Refusal::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Refusal::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::NoDevice { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        let mut error = Self::new(status, refusal.code(), refusal.to_string());
        if let Refusal::FieldInvalid { field, .. } = &refusal {
            error.param = Some((*field).to_owned());
        }
        error
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({
            "error": {"message": self.message, "type": self.kind(), "param": self.param, "code": self.code}
        });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE || self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The coordinator answered another question: a defect of this program.
pub(crate) fn unexpected(reply: &caii_coordinator::Reply) -> ApiError {
    tracing::error!(?reply, "the coordinator gave an answer of the wrong kind");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The pool gave an answer of the wrong kind.")
}
