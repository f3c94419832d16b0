//! A control group for each runner, where the agent's own group was delegated to it: made by the agent, not the runner.
//!
//! A group can limit its children only if it holds no process itself. So the agent must sit in a leaf named `agent`
//! (systemd: `Delegate=memory pids`, `DelegateSubgroup=agent`), and runners get leaves beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The leaf that the agent's service manager puts the agent into.
const AGENT_LEAF: &str = "agent";
/// Threads of a runner, with room for those that compile on the largest machines.
const THREADS_MAX: u64 = 1_024;

/// A hierarchy of control groups: files to read and write, and directories that fill themselves.
pub(crate) trait Tree {
    /// Makes a group. The kernel puts its files into it.
    fn make(&self, group: &Path) -> io::Result<()>;
}

/// The kernel's.
#[derive(Debug)]
pub(crate) struct Kernel;

impl Tree for Kernel {
    fn make(&self, group: &Path) -> io::Result<()> {
        fs::create_dir(group)
    }
}

/// A runner's group; removed when dropped, once the runner is gone.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel removes only a group that is empty. One whose runner is still dying is removed by the next start.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Control groups of version 2 at a mount point.
#[derive(Debug)]
pub(crate) struct Version2<T> {
    tree: T,
    mount: PathBuf,
    own: PathBuf,
}

impl Version2<Kernel> {
    /// Of this machine and this process.
    pub(crate) fn of_this_process() -> Self {
        Self { tree: Kernel, mount: "/sys/fs/cgroup".into(), own: "/proc/self/cgroup".into() }
    }
}

impl<T: Tree> Version2<T> {
    /// The group that this agent may divide.
    fn delegated(&self) -> Result<PathBuf, String> {
        let unavailable = |error: io::Error| format!("cannot read the agent's control group: {error}");
        if !self.mount.join("cgroup.controllers").exists() {
            return Err("control groups of version 2 are not mounted at /sys/fs/cgroup".to_owned());
        }
        let own = fs::read_to_string(&self.own).map_err(unavailable)?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let own = Path::new(own.ok_or("the agent is in no control group of version 2")?);
        match (own.file_name(), own.parent()) {
            (Some(name), Some(parent)) if name == AGENT_LEAF => Ok(self.mount.join(parent)),
            _ => Err(format!("the agent's control group /{} is not a leaf named `{AGENT_LEAF}`", own.display())),
        }
    }

    /// Puts a process into a group of its own that may use so much memory, page cache included.
    pub(crate) fn confine(&self, pid: u32, memory: u64) -> Result<Group, String> {
        let parent = self.delegated()?;
        let controllers = fs::read_to_string(parent.join("cgroup.controllers"))
            .map_err(|error| format!("cannot read which controllers there are: {error}"))?;
        for wanted in ["memory", "pids"] {
            if !controllers.split_whitespace().any(|controller| controller == wanted) {
                return Err(format!("the controller `{wanted}` was not delegated to the agent"));
            }
        }
        let write = |path: PathBuf, text: &str| {
            // Never creates: a file that the kernel did not make is no limit.
            let written = fs::OpenOptions::new().write(true).open(&path);
            let written = written.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
            written.map_err(|error| format!("cannot write {}: {error}", path.display()))
        };
        write(parent.join("cgroup.subtree_control"), "+memory +pids")?;
        sweep(&parent);
        let path = parent.join(format!("runner-{pid}"));
        self.tree.make(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        let group = Group { path: path.clone() };
        write(path.join("memory.max"), &memory.to_string())?;
        // Kernels without swap have no such file.
        if path.join("memory.swap.max").exists() {
            write(path.join("memory.swap.max"), "0")?;
        }
        write(path.join("pids.max"), &THREADS_MAX.to_string())?;
        write(path.join("cgroup.procs"), &pid.to_string())?;
        Ok(group)
    }
}

/// Removes groups of runners that are gone.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("runner-") {
            // Those in use are busy and stay.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// Files as the kernel has them, in an ordinary directory.
    struct Fake {
        directory: TempDir,
    }

    /// A kernel that puts these files into a new group.
    struct Makes(&'static [&'static str]);

    impl Tree for Makes {
        fn make(&self, group: &Path) -> io::Result<()> {
            fs::create_dir(group)?;
            self.0.iter().try_for_each(|file| fs::write(group.join(file), ""))
        }
    }

    const FILES: &[&str] = &["memory.max", "memory.swap.max", "pids.max", "cgroup.procs"];

    impl Fake {
        fn new(own: &str, controllers: &str) -> Self {
            let fake = Self { directory: tempfile::tempdir().unwrap() };
            fs::create_dir_all(fake.path("mount/caii.service/agent")).unwrap();
            fake.write("own", own);
            fake.write("mount/cgroup.controllers", "cpu memory pids");
            fake.write("mount/caii.service/cgroup.controllers", controllers);
            fake.write("mount/caii.service/cgroup.subtree_control", "");
            fake
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.path("mount/caii.service").join(name)).unwrap()
        }

        fn confine(&self, files: &'static [&'static str]) -> Result<Group, String> {
            let (mount, own) = (self.path("mount"), self.path("own"));
            Version2 { tree: Makes(files), mount, own }.confine(77, 1 << 30)
        }

        fn refused(&self) -> String {
            self.confine(FILES).unwrap_err()
        }
    }

    #[test]
    fn a_runner_gets_a_group_beside_its_agent() {
        for files in [FILES, &["memory.max", "pids.max", "cgroup.procs"]] {
            let fake = Fake::new("1:name=systemd:/\n0::/caii.service/agent\n", "cpu memory pids\n");
            fs::create_dir(fake.path("mount/caii.service/runner-12")).unwrap();
            let group = fake.confine(files).unwrap();
            assert_eq!(fake.read("cgroup.subtree_control"), "+memory +pids");
            assert_eq!(fake.read("runner-77/memory.max"), "1073741824");
            assert_eq!(fake.read("runner-77/pids.max"), "1024");
            assert_eq!(fake.read("runner-77/cgroup.procs"), "77");
            if files.contains(&"memory.swap.max") {
                assert_eq!(fake.read("runner-77/memory.swap.max"), "0");
            }
            assert!(!fake.path("mount/caii.service/runner-12").exists(), "what an earlier runner left");
            // The kernel's files vanish with their group.
            files.iter().for_each(|file| fs::remove_file(group.path.join(file)).unwrap());
            drop(group);
            assert!(!fake.path("mount/caii.service/runner-77").exists());
        }
    }

    #[test]
    fn what_was_not_delegated_is_named() {
        let fake = Fake::new("0::/caii.service/agent\n", "cpu memory\n");
        assert!(fake.refused().contains("`pids` was not delegated"));
        assert!(!fake.path("mount/caii.service/runner-77").exists());
        let fake = Fake::new("0::/user.slice\n", "memory pids\n");
        assert!(fake.refused().contains("/user.slice is not a leaf named `agent`"));
        let fake = Fake::new("4:memory:/x\n", "memory pids\n");
        assert!(fake.refused().contains("no control group of version 2"));
        fs::remove_file(fake.path("mount/cgroup.controllers")).unwrap();
        assert!(fake.refused().contains("not mounted"));
    }

    #[test]
    fn a_file_that_the_kernel_did_not_make_is_no_limit() {
        let fake = Fake::new("0::/caii.service/agent\n", "cpu memory pids\n");
        assert!(fake.confine(&[]).unwrap_err().contains("memory.max"));
        assert!(!fake.path("mount/caii.service/runner-77").exists());
    }
}
