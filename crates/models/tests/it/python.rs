//! ONNX Runtime and numpy from the Python registry, installed once beside the build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PACKAGES: [&str; 3] = ["onnxruntime==1.31.1", "onnx==1.23.2", "numpy"];

fn packages() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-packages-1");
        // Tests ask for them at the same time, in processes of their own.
        let lock = std::fs::File::create(home.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if !home.exists() {
            // Renamed when complete, so that an interrupted installation is not taken for one.
            let fresh = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
            let status = Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
                .arg(&fresh)
                .args(PACKAGES)
                .env("PIP_ROOT_USER_ACTION", "ignore")
                .status()
                .expect("python3 with pip is installed");
            assert!(status.success(), "pip could not install {PACKAGES:?}");
            std::fs::rename(&fresh, &home).unwrap();
        }
        home
    })
}

/// Fails unless the model, run by ONNX Runtime, agrees with reference.py.
pub(crate) fn assert_agrees(directory: &Path, onnx: &Path, pooling: &str, tolerance: &str) {
    let run = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/reference.py"))
        .arg(directory)
        .arg(onnx)
        .args([pooling, tolerance])
        .env("PYTHONPATH", packages())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    assert!(run.status.success(), "{said}");
}
