// SPDX-License-Identifier: Apache-2.0
//! Reading the files that git tracks. Must not know the rules.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file of the tree.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Path from the root of the repository, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl SourceFile {
    /// Whether it is Rust code.
    pub fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// Whether it is Rust code that ships: neither a test nor an example nor a benchmark.
    pub fn is_product_code(&self) -> bool {
        let aside = ["/tests/", "/benches/", "/examples/", "/tests.rs"];
        self.is_rust() && !aside.iter().any(|part| format!("/{}", self.path).contains(part))
    }

    /// The text up to the module of unit tests, which closes a file.
    pub fn code_without_tests(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()
    }
}

/// The root of the repository.
fn root() -> PathBuf {
    // Cargo's word at run time counts: clones that share a build folder share this library too.
    let tidy = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    tidy.parent().expect("the tidy crate lies one below the root").to_owned()
}

/// All text files that git tracks or would track, except lock files.
///
/// # Panics
/// When git or a file cannot be read: then nothing was checked.
pub fn tracked_files() -> Vec<SourceFile> {
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output()
        .expect("git lists the tree");
    assert!(listing.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&listing.stderr));
    let paths = String::from_utf8(listing.stdout).expect("paths are UTF-8");
    let files: Vec<_> = paths
        .split_terminator('\0')
        .filter(|path| Path::new(path).extension().is_none_or(|extension| extension != "lock" && extension != "sum"))
        .filter_map(|path| {
            // A file deleted but not yet committed is listed and gone; one that is no text is not ours to read.
            let text = std::fs::read_to_string(root().join(path)).ok()?;
            Some(SourceFile { path: path.to_owned(), text })
        })
        .collect();
    assert!(files.len() > 50, "only {} files found: the listing is broken", files.len());
    files
}
