//! Newtyped ids. Each is written with a prefix that says what it names; numbers are counted up by the pool.

use std::fmt;
use std::str::FromStr;

/// The text was not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdParseError {
    /// The prefix that was expected.
    pub prefix: &'static str,
}

impl fmt::Display for IdParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an id of this kind: expected `{}` and a number", self.prefix)
    }
}

impl std::error::Error for IdParseError {}

macro_rules! counted_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let error = IdParseError { prefix: $prefix };
                let digits = text.strip_prefix($prefix).ok_or(error.clone())?;
                // `parse` alone would take a sign, and then two texts would name one thing.
                if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(error);
                }
                digits.parse().map(Self).map_err(|_| error)
            }
        }
    };
}

counted_id!(
    /// A job: one submission by a requester. A batch of the OpenAI API is a job too, written `batch_N` there.
    JobId,
    "job_"
);
counted_id!(
    /// A file that a requester uploaded or that a job produced.
    FileId,
    "file-"
);
counted_id!(
    /// An API key. Its secret is shown once; the pool keeps its hash.
    KeyId,
    "key_"
);
counted_id!(
    /// A join ticket's enrolment token.
    TicketId,
    "ticket_"
);

/// A task's place within its job, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskIndex(pub u32);

impl fmt::Display for TaskIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TaskIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.0)
    }
}

/// A task of a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The job that it belongs to.
    pub job: JobId,
    /// Its place there.
    pub index: TaskIndex,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.index)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let error = IdParseError { prefix: $prefix };
                let hex = text.strip_prefix($prefix).ok_or(error.clone())?;
                if hex.len() != 2 * $bytes || !hex.is_ascii() {
                    return Err(error);
                }
                let mut bytes = [0; $bytes];
                for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
                    let digit = |c: u8| (c as char).to_digit(16).ok_or(error.clone());
                    *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
                }
                Ok(Self(bytes))
            }
        }
    };
}

hex_id!(
    /// A device: the first 8 bytes of the SHA-256 of its public key.
    DeviceId,
    "dev_",
    8
);
hex_id!(
    /// A pool: the first 8 bytes of the SHA-256 of the coordinator's public key.
    PoolId,
    "pool_",
    8
);
hex_id!(
    /// One uninterrupted conversation between a device and a coordinator process. Known to these two alone: the device
    /// shows it to fetch blobs.
    SessionId,
    "session_",
    16
);
hex_id!(
    /// One run of a coordinator process. Requests that name another one are refused, so that nothing recorded before a
    /// restart can be replayed after it.
    BootId,
    "boot_",
    16
);
hex_id!(
    /// A lease.
    LeaseId,
    "lease_",
    8
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        assert_eq!("job_17".parse(), Ok(JobId(17)));
        assert_eq!(JobId(17).to_string(), "job_17");
        assert_eq!("dev_00ff00ff00ff00ff".parse::<DeviceId>().unwrap().to_string(), "dev_00ff00ff00ff00ff");
        for bad in ["job_", "job_+1", "job_-1", "file-1", "job_99999999999999999999", "17"] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
        assert!("dev_00".parse::<DeviceId>().is_err());
    }
}
