//! A device's directory with one workload in it.

use crate::guests::{BLOB, manifest};
use caii_model::Manifest;
use caii_sandbox::{DeviceSecret, Priority, Runner, RunnerSpec, StartError, meter_id};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

pub(crate) struct Device {
    directory: TempDir,
    /// The workload's; what tests change of it is what is started.
    pub(crate) manifest: Manifest,
}

impl Device {
    pub(crate) fn new(wasm: &[u8]) -> Self {
        let mut device = Self { directory: tempfile::tempdir().unwrap(), manifest: manifest(wasm, meter_id()) };
        fs::write(device.path("blob"), BLOB).unwrap();
        device.load(wasm);
        device
    }

    /// Another workload for the same device.
    pub(crate) fn load(&mut self, wasm: &[u8]) {
        fs::write(self.path("program"), wasm).unwrap();
        self.manifest = manifest(wasm, meter_id());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn spec(&self) -> RunnerSpec {
        let mut spec = RunnerSpec::new(
            env!("CARGO_BIN_EXE_caii-sandbox-runner").into(),
            vec![],
            self.manifest.clone(),
            self.path("program"),
            vec![("blob".into(), self.path("blob"))],
            self.path("cache"),
            DeviceSecret::new([5; 32]),
        );
        // Tests run beside compilers.
        spec.priority = Priority::Normal;
        spec
    }

    pub(crate) async fn start(&self) -> Result<Runner, StartError> {
        Ok(Runner::start(self.spec()).await?.0)
    }
}
