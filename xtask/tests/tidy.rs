//! Rules of the house that neither the compiler nor clippy knows.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// A longer file wants to be two.
const MAX_LINES: usize = 400;

#[test]
fn no_source_file_is_longer_than_the_limit() {
    let long: Vec<_> = files("rs").into_iter().filter(|(_, text)| text.lines().count() > MAX_LINES).collect();
    let names: Vec<_> =
        long.iter().map(|(path, text)| format!("{}: {}", path.display(), text.lines().count())).collect();
    assert!(names.is_empty(), "more than {MAX_LINES} lines: {names:#?}");
}

#[test]
fn no_file_names_a_home_directory() {
    // Put together here, so that this file does not find itself.
    let homes = ["home", "root", "Users"].map(|dir| format!("/{dir}/"));
    let texts = ["rs", "toml", "md", "sh", "run"].into_iter().flat_map(files);
    let found: Vec<_> =
        texts.filter(|(_, text)| homes.iter().any(|home| text.contains(home))).map(|(p, _)| p).collect();
    assert!(found.is_empty(), "a path of one machine: {found:?}");
}

/// Path and text of all files of the workspace whose name ends so.
fn files(ending: &str) -> Vec<(PathBuf, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace");
    let mut found = Vec::new();
    collect(top, ending, &mut found).expect("the workspace can be read");
    found
}

fn collect(dir: &Path, ending: &str, found: &mut Vec<(PathBuf, String)>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            if name != "target" && name != ".git" {
                collect(&path, ending, found)?;
            }
        } else if path.extension().unwrap_or(&name) == ending {
            found.push((path.clone(), fs::read_to_string(&path)?));
        }
    }
    Ok(())
}
