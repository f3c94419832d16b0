//! The jail on systems other than Linux: there is none yet, and every layer says so.
//!
//! Compiled there, never run there. macOS has sandbox profiles and Windows has job objects and app containers; until one
//! of them is built and tried on such a machine, a contributor must allow a runner without a jail to lend it.

use super::{Confine, Confines, JailLayer};

#[derive(Debug, Default)]
pub(super) struct Elsewhere;

impl Elsewhere {
    fn unavailable() -> Result<(), String> {
        Err(format!("the jail for {} has not been built", std::env::consts::OS))
    }
}

impl Confine for Elsewhere {
    fn before_reading(&mut self, _layer: JailLayer) -> Result<(), String> {
        Self::unavailable()
    }

    fn before_compiling(&mut self, _layer: JailLayer, _confines: &Confines) -> Result<(), String> {
        Self::unavailable()
    }

    fn seal(&mut self, _prepares: bool) -> Result<(), String> {
        Self::unavailable()
    }
}
