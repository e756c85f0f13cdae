// SPDX-License-Identifier: Apache-2.0
//! The rule of arrows: a crate uses only what its list allows. Must not read the disk.

use std::collections::{BTreeMap, BTreeSet};

use crate::SourceFile;

/// For each package, what its code may use (`[dependencies]`) and what its tests may use beside that.
#[derive(Debug)]
pub struct AllowedDependencies {
    packages: BTreeMap<String, BTreeSet<String>>,
    for_tests: BTreeSet<String>,
}

impl AllowedDependencies {
    /// Reads `allowed-dependencies.toml`: `[packages]` with a list each, and `for-tests`.
    ///
    /// # Panics
    /// When the list is not of that form: then nothing could be checked.
    pub fn parse(text: &str) -> Self {
        let table: toml::Table = text.parse().expect("the list of allowed dependencies is TOML");
        let names = |value: &toml::Value| -> BTreeSet<String> {
            let list = value.as_array().expect("a list of package names");
            list.iter().map(|name| name.as_str().expect("a package name").to_owned()).collect()
        };
        let packages = table["packages"].as_table().expect("a table of packages");
        Self {
            packages: packages.iter().map(|(package, list)| (package.clone(), names(list))).collect(),
            for_tests: names(&table["for-tests"]),
        }
    }
}

/// Dependencies that a manifest has and the list lacks, list entries that no manifest has any more, and packages that
/// the list does not know.
pub fn undeclared_dependencies(manifests: &[SourceFile], allowed: &AllowedDependencies) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    for manifest in manifests.iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let table: toml::Table = match manifest.text.parse() {
            Ok(table) => table,
            Err(error) => {
                complaints.push(format!("{}: {error}", manifest.path));
                continue;
            }
        };
        let Some(package) = table.get("package").and_then(|p| p.get("name")).and_then(|name| name.as_str()) else {
            continue;
        };
        seen.insert(package.to_owned());
        let Some(list) = allowed.packages.get(package) else {
            complaints.push(format!("{package}: not in the list of allowed dependencies"));
            continue;
        };
        // Also those of one platform, `[target.'cfg(...)'.dependencies]`.
        let platforms = table.get("target").and_then(|targets| targets.as_table());
        let tables: Vec<&toml::Table> = std::iter::once(&table)
            .chain(platforms.into_iter().flat_map(|targets| targets.values().filter_map(|target| target.as_table())))
            .collect();
        let used = |section: &str| -> BTreeSet<String> {
            let sections = tables.iter().filter_map(|table| table.get(section).and_then(|section| section.as_table()));
            sections.flat_map(|section| section.keys().cloned()).collect()
        };
        let mut product = used("dependencies");
        product.extend(used("build-dependencies"));
        for name in product.difference(list) {
            complaints.push(format!("{package}: uses {name}, which its list does not allow"));
        }
        for name in list.difference(&product) {
            complaints.push(format!("{package}: its list allows {name}, which it does not use"));
        }
        for name in used("dev-dependencies") {
            let ours = name.starts_with("odradek-");
            if !ours && !list.contains(&name) && !allowed.for_tests.contains(&name) {
                complaints.push(format!("{package}: its tests use {name}, which the list does not allow"));
            }
        }
    }
    for package in allowed.packages.keys().filter(|package| !seen.contains(*package)) {
        complaints.push(format!("{package}: in the list, but there is no such package"));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_that_is_not_listed_is_a_complaint() {
        let allowed = AllowedDependencies::parse("for-tests = []\n[packages]\na = [\"bytes\", \"gone\"]\nmissing = []");
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nbytes = \"1\"\ntokio = \"1\"\n[dev-dependencies]\nx = \"1\"\n[target.'cfg(unix)'.dependencies]\nnix = \"1\"";
        let files = [SourceFile { path: "a/Cargo.toml".to_owned(), text: manifest.to_owned() }];
        let complaints = undeclared_dependencies(&files, &allowed).join("\n");
        for part in ["uses tokio", "uses nix", "allows gone", "tests use x", "missing: in the list"] {
            assert!(complaints.contains(part), "{part} not in {complaints}");
        }
    }
}
