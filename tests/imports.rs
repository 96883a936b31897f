//! Imports run one way: a room of `src` imports the rooms before it in [`ROOMS`], and none after it. Drivers reach a
//! backend through `runtime` only. ARCHITECTURE.md explains the rooms.

use std::path::{Path, PathBuf};

/// The rooms, from the lowest to the highest; those on one line may not import each other.
const ROOMS: &[&[&str]] = &[
    &["error"],
    &["lang"],
    &["interp"],
    &["model"],
    &["kernels"],
    &["runtime"],
    &["sampling"],
    &["control", "learning"],
    &["check", "weighted_mean"],
];

/// The rooms whose code must not name a backend.
const DRIVERS: [&str; 3] = ["sampling", "control", "learning"];

#[test]
fn imports_run_one_way() {
    let mut faults = Vec::new();
    let mut found = 0;
    for file in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let Some(room) = room_of(&file) else { continue };
        for (number, line) in code_of(&std::fs::read_to_string(&file).expect("a source file")) {
            for path in paths_in(&line) {
                found += 1;
                let target = path.split("::").next().unwrap_or_default();
                let at = format!("{}:{number}: {room} imports {path}", file.display());
                match level(target) {
                    Some(level_of_target) if target != room && level_of_target >= level(&room).expect("a room") => {
                        faults.push(at);
                    }
                    _ if DRIVERS.contains(&room.as_str())
                        && (path.starts_with("runtime::cpu") || path.starts_with("runtime::gpu")) =>
                    {
                        faults.push(at);
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(found > 300, "only {found} imports were read: the test no longer understands the sources");
    assert!(faults.is_empty(), "imports against the order of rooms:\n{}", faults.join("\n"));
}

/// The position of a room in the order; `None` for an item at the root of the crate.
fn level(room: &str) -> Option<usize> {
    ROOMS.iter().position(|rooms| rooms.contains(&room))
}

/// The room of a source file: the first folder below `src`, or the file itself.
fn room_of(file: &Path) -> Option<String> {
    let below = file.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).ok()?;
    let room = Path::new(below.components().next()?.as_os_str()).file_stem()?.to_str()?.to_owned();
    if room == "lib" {
        return None;
    }
    assert!(level(&room).is_some(), "src/{} is in no room: add it to ROOMS, and to ARCHITECTURE.md", below.display());
    Some(room)
}

/// All Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The lines of a file with their numbers, without comments, and without the tests at its end, which may import
/// anything.
fn code_of(source: &str) -> Vec<(usize, String)> {
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned());
    (1..).zip(lines.take_while(|line| !line.starts_with("mod tests {"))).collect()
}

/// The paths of a line that begin at the root of the crate, without `crate::`.
fn paths_in(line: &str) -> Vec<String> {
    let part_of_a_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    line.split("crate::").skip(1).map(|rest| rest.chars().take_while(|c| part_of_a_path(*c)).collect()).collect()
}
