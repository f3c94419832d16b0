//! A disk that loses power: what was not made durable is there, or not, or in part.

use super::*;

/// A directory's names, as programs see them and as the disk has them.
#[derive(Clone, Default)]
struct Names {
    seen: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    /// What was done since the directory was made durable, in order.
    since: Vec<(String, Option<Node>)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    File(usize),
    Dir(usize),
}

#[derive(Clone, Default)]
struct State {
    dirs: Vec<Names>,
    /// Bytes, and whether they are durable.
    files: Vec<(Vec<u8>, bool)>,
    ignore_file_syncs: bool,
    ignore_dir_syncs: bool,
}

#[derive(Clone)]
pub(super) struct Power(Arc<Mutex<State>>);

impl State {
    fn dir(&self, path: &str) -> io::Result<usize> {
        let mut at = 0;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            match self.dirs[at].seen.get(part) {
                Some(Node::Dir(dir)) => at = *dir,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            }
        }
        Ok(at)
    }

    fn place<'a>(&self, path: &'a str) -> io::Result<(usize, &'a str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.dir(parent)?, name))
    }

    fn file(&self, path: &str) -> io::Result<usize> {
        let (dir, name) = self.place(path)?;
        match self.dirs[dir].seen.get(name) {
            Some(Node::File(file)) => Ok(*file),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn name(&mut self, dir: usize, name: &str, node: Option<Node>) {
        let names = &mut self.dirs[dir];
        match node {
            Some(node) => _ = names.seen.insert(name.to_owned(), node),
            None => _ = names.seen.remove(name),
        }
        names.since.push((name.to_owned(), node));
    }
}

impl Disk for Power {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let state = self.0.lock().unwrap();
        Ok(state.files[state.file(path)?].0.clone())
    }

    fn list(&self, path: &str) -> io::Result<Vec<(String, bool)>> {
        let state = self.0.lock().unwrap();
        let names = &state.dirs[state.dir(path)?].seen;
        Ok(names.iter().map(|(name, node)| (name.clone(), matches!(node, Node::Dir(_)))).collect())
    }

    fn create(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let (dir, name) = state.place(path)?;
        match state.dirs[dir].seen.get(name) {
            Some(Node::File(file)) => {
                let file = *file;
                state.files[file] = (bytes.to_vec(), false);
            }
            _ => {
                state.files.push((bytes.to_vec(), false));
                let node = Node::File(state.files.len() - 1);
                state.name(dir, name, Some(node));
            }
        }
        Ok(())
    }

    fn sync_file(&mut self, path: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let file = state.file(path)?;
        state.files[file].1 |= !state.ignore_file_syncs;
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let file = state.file(from)?;
        let ((old, old_name), (new, new_name)) = (state.place(from)?, state.place(to)?);
        state.name(old, old_name, None);
        state.name(new, new_name, Some(Node::File(file)));
        Ok(())
    }

    fn make_dir(&mut self, path: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let (dir, name) = state.place(path)?;
        if !state.dirs[dir].seen.contains_key(name) {
            state.dirs.push(Names::default());
            let node = Node::Dir(state.dirs.len() - 1);
            state.name(dir, name, Some(node));
        }
        Ok(())
    }

    fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let dir = state.dir(path)?;
        if !state.ignore_dir_syncs {
            let names = &mut state.dirs[dir];
            names.durable = names.seen.clone();
            names.since.clear();
        }
        Ok(())
    }

    fn remove(&mut self, path: &str, dir: bool) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let (parent, name) = state.place(path)?;
        match (state.dirs[parent].seen.get(name), dir) {
            (Some(Node::File(_)), false) => {}
            (Some(Node::Dir(at)), true) if state.dirs[*at].seen.is_empty() => {}
            (Some(Node::Dir(_)), true) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            _ => return Err(io::ErrorKind::NotFound.into()),
        }
        state.name(parent, name, None);
        Ok(())
    }
}

impl Power {
    pub(super) fn new(ignore_file_syncs: bool, ignore_dir_syncs: bool) -> Self {
        let dirs = vec![Names::default()];
        Self(Arc::new(Mutex::new(State { dirs, ignore_file_syncs, ignore_dir_syncs, ..State::default() })))
    }

    /// The power is gone and comes back. Of what was not durable, a random part is there.
    fn lose(&self, seed: u64) {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |limit: usize| {
            // xorshift64
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 33) as usize % limit
        };
        let mut state = self.0.lock().unwrap();
        for names in &mut state.dirs {
            // A directory's changes become durable in their order.
            let done = below(names.since.len() + 1);
            for (name, node) in names.since.drain(..).take(done) {
                match node {
                    Some(node) => _ = names.durable.insert(name, node),
                    None => _ = names.durable.remove(&name),
                }
            }
            names.seen = names.durable.clone();
        }
        for (bytes, durable) in &mut state.files {
            if !*durable {
                bytes.truncate(below(bytes.len() + 1));
                *durable = true;
            }
        }
    }
}

/// Loses power at every third step, with what is left chosen by the seed; what went wrong first.
fn lose_power(sample: &sample::Sample, ignore_file_syncs: bool, ignore_dir_syncs: bool) -> Result<usize, String> {
    let mut losses = 0;
    for last in (0..).step_by(3) {
        let disk = Power::new(ignore_file_syncs, ignore_dir_syncs);
        let (died, shown) = live_and_die(&sample.events, disk.clone(), last);
        if !died {
            break;
        }
        disk.lose(last as u64);
        // And once more while the next process is at work.
        let (_, again) = live_and_die(&sample.events, disk.clone(), last % 23);
        continues(&Directory(disk.clone()), shown.as_deref()).map_err(|why| format!("step {last}: {why}"))?;
        disk.lose(last as u64 + 1);
        let shown = again.or(shown);
        recover(disk, sample, shown.as_deref()).map_err(|why| format!("step {last}: {why}"))?;
        losses += 1;
    }
    Ok(losses)
}

#[test]
fn without_power_nothing_that_was_shown_is_lost() {
    let sample = sample::small();
    let losses = lose_power(&sample, false, false).unwrap();
    println!("{losses} places to lose power at");
    assert!(losses > 60, "{losses}");
    // A disk that does not do what it says is found out, so the test could fail.
    let unwritten = lose_power(&sample, true, false).unwrap_err();
    let unnamed = lose_power(&sample, false, true).unwrap_err();
    println!("without syncing files: {unwritten}\nwithout syncing directories: {unnamed}");
}
