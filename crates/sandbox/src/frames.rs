//! The agent's end of a runner's output: frames from a pipe, in a buffer that leaves no trace.

use crate::protocol::{DecodeError, Frame, complete, decode};
use crate::wipe::{self, Wiped};
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStdout;
use zeroize::Zeroize as _;

pub(crate) enum FrameError {
    /// The pipe broke; why, the process's status tells better.
    Ended,
    Decode(DecodeError),
}

#[derive(Debug)]
pub(crate) struct FrameReader {
    stdout: ChildStdout,
    received: Wiped,
    consumed: usize,
    filled: usize,
}

impl FrameReader {
    const ROOM: usize = 128 << 10;

    pub(crate) fn new(stdout: ChildStdout) -> Self {
        Self { stdout, received: vec![0; Self::ROOM].into(), consumed: 0, filled: 0 }
    }

    /// Wipes what has been consumed; all of it, if nobody will consume the rest.
    pub(crate) fn wipe(&mut self, all: bool) {
        if all {
            self.consumed = self.filled;
        }
        self.received[..self.consumed].zeroize();
        self.received[self.filled..].zeroize();
    }

    /// The next frame, or nothing at the end. Losing the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        loop {
            let waiting = &self.received[self.consumed..self.filled];
            if let Some(length) = complete(waiting).map_err(FrameError::Decode)? {
                let start = self.consumed;
                self.consumed += length;
                let frame = decode(&self.received[start..self.consumed]).map_err(FrameError::Decode)?;
                return Ok(frame.map(|(frame, _)| frame));
            }
            self.received.copy_within(self.consumed..self.filled, 0);
            self.filled -= self.consumed;
            self.consumed = 0;
            if self.filled == self.received.len() {
                wipe::lengthen(&mut self.received, self.filled * 2);
            } else if self.filled == 0 && self.received.len() > 4 << 20 {
                self.received = vec![0; Self::ROOM].into();
            }
            match self.stdout.read(&mut self.received[self.filled..]).await.map_err(|_| FrameError::Ended)? {
                0 => return Ok(None),
                read => self.filled += read,
            }
        }
    }
}
