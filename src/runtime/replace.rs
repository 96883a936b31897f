//! Atomic replacement of files: checkpoints of a training, and compiled kernels.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Maximum number of draft names that may already exist, each left by a process that crashed.
const TRIES: usize = 1000;

/// Replaces a file by these bytes atomically: other processes, and any process after a crash, read either the complete
/// old contents or the complete new ones.
///
/// Writes to a draft in the same folder, syncs it, and renames it over `file`.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    // Other threads and other processes may replace the same file.
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let mut tries = 0;
    let (draft, mut to) = loop {
        let mut name = file.file_name().map(OsString::from).unwrap_or_default();
        name.push(format!(".{}-{}.part", std::process::id(), DRAFTS.fetch_add(1, Ordering::Relaxed)));
        let draft = file.with_file_name(name);
        match File::options().write(true).create_new(true).open(&draft) {
            Ok(to) => break (draft, to),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    };
    // Some file systems rename before they write, and would leave an empty file if the power fails.
    let written = to.write_all(bytes).and_then(|()| to.sync_all());
    // Some systems cannot rename or remove an open file.
    drop(to);
    written.and_then(|()| fs::rename(&draft, file)).inspect_err(|_| {
        fs::remove_file(&draft).ok();
    })?;
    sync_folder(file);
    Ok(())
}

/// Syncs the folder so that the rename survives a power failure. Errors are only logged: the file is complete either
/// way.
fn sync_folder(file: &Path) {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
        log::debug!("the folder {} cannot be synchronized: {error}", folder.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in a folder, sorted.
    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("it is there");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("readable").file_name().into_string().expect("UTF-8");
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn drafts_of_others_are_passed_over_and_stay() {
        let folder = std::env::temp_dir().join(format!("gibbs-replace-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("there is room");
        let file = folder.join("file");
        // Drafts left by a crashed process with the same id; this process tries the same names first.
        let stale = |i: usize| folder.join(format!("file.{}-{i}.part", std::process::id()));
        for i in 0..500 {
            fs::write(stale(i), "stale").expect("there is room");
        }
        for contents in ["old", "new"] {
            replace(&file, contents.as_bytes()).expect("there is room");
            assert_eq!(fs::read_to_string(&file).expect("it is there"), contents);
        }
        assert!((0..500).all(|i| fs::read_to_string(stale(i)).expect("it is there") == "stale"));
        assert_eq!(names(&folder).len(), 501, "and no draft is left behind");
        fs::remove_dir_all(&folder).expect("it is ours");
    }

    #[test]
    fn a_file_that_cannot_be_replaced_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("gibbs-replace-nothing-{}", std::process::id()));
        let taken = folder.join("taken");
        fs::create_dir_all(&taken).expect("there is room");
        replace(&taken, b"a file").expect_err("it is a folder");
        assert_eq!(names(&folder), ["taken"]);
        assert_eq!(replace(&folder.join("none/file"), b"").map_err(|e| e.kind()), Err(ErrorKind::NotFound));
        fs::remove_dir_all(&folder).expect("it is ours");
    }
}
