// SPDX-License-Identifier: Apache-2.0
//! Rules about the text of single files. Must not read the disk.

use crate::SourceFile;

/// Product files may have so many lines: beyond it there is surely a second concept in the file.
const MAX_LINES: usize = 800;

/// Files whose second concept is known and waits to be moved: path and today's length, which may only shrink.
const KNOWN_LONG: &[(&str, usize)] = &[];

/// Folders in which file APIs may stand, each with its reason.
const FILE_API_ROOMS: &[(&str, &str)] = &[
    ("broker/disk/", "the disk adapter itself"),
    ("broker/runtime/src/config.rs", "reads the one configuration file before a disk port exists"),
    ("broker/runtime/src/memory.rs", "reads the cgroup's memory limit, which is no data of ours"),
    ("broker/server/src/metrics.rs", "reads the process's own memory from the kernel, which is no data of ours"),
];

/// Words that must not stand in the tree, with what is wrong about them. Written in halves so that this file passes.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("/wo", "rk/", "a path of somebody's machine"),
    ("/ro", "ot/.", "a path of somebody's machine"),
    ("static.crates", ".io", "a registry host"),
    ("proxy.golang", ".org", "a registry host"),
    ("repo1.maven", ".org", "a registry host"),
    ("repo.maven.apache", ".org", "a registry host"),
    ("deb.debian", ".org", "a registry host"),
    ("registry.npmjs", ".org", "a registry host"),
    ("files.pythonhosted", ".org", "a registry host"),
];

/// Rust, shell, TOML, Docker and other program files, and scripts whatever their name, that do not open with the licence
/// line.
pub fn missing_licence_lines(files: &[SourceFile]) -> Vec<String> {
    let wanted = |file: &SourceFile| {
        let endings = [".rs", ".toml", ".sh", ".java", ".go", ".c", ".py", "Makefile", "Dockerfile"];
        endings.iter().any(|ending| file.path.ends_with(ending)) || file.text.starts_with("#!")
    };
    files
        .iter()
        .filter(|file| wanted(file))
        .filter(|file| !file.text.lines().take(3).any(|line| line.contains("SPDX-License-Identifier: Apache-2.0")))
        .map(|file| format!("{}: no SPDX line among its first three", file.path))
        .collect()
}

/// Rust files that do not say their purpose in a `//!` line before the first item.
pub fn missing_purpose_lines(files: &[SourceFile]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.is_rust())
        .filter(|file| {
            let opening = file
                .text
                .lines()
                .find(|line| !line.trim().is_empty() && !line.starts_with("// ") && !line.starts_with("#!"));
            !opening.is_some_and(|line| line.starts_with("//! ") && line.len() > 12)
        })
        .map(|file| format!("{}: does not open with a //! line that says its purpose", file.path))
        .collect()
}

/// Product files over the limit, and entries of the list of known ones that are no longer true.
pub fn files_too_long(files: &[SourceFile]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_product_code()) {
        let lines = file.text.lines().count();
        let limit = KNOWN_LONG.iter().find(|(path, _)| *path == file.path).map_or(MAX_LINES, |(_, limit)| *limit);
        if lines > limit {
            complaints.push(format!("{}: {lines} lines, at most {limit}: move its second concept out", file.path));
        }
    }
    complaints
}

/// Uses of file APIs in the broker outside the disk adapter.
pub fn file_apis_outside_the_adapter(files: &[SourceFile]) -> Vec<String> {
    let apis =
        ["std::fs", "tokio::fs", "rustix::fs", "File::open", "File::create", "File::options", "OpenOptions::new"];
    files
        .iter()
        .filter(|file| file.path.starts_with("broker/") && file.is_product_code())
        .filter(|file| !FILE_API_ROOMS.iter().any(|(room, _)| file.path.starts_with(room)))
        .flat_map(|file| {
            let code = file.code_without_tests();
            let named = code.lines().enumerate().filter_map(move |(number, line)| {
                let found = apis.iter().find(|api| line.contains(*api) && !line.trim_start().starts_with("//"))?;
                Some(format!("{}:{}: {found} outside the disk adapter", file.path, number + 1))
            });
            let grouped = imports_fs_in_a_group(code)
                .then(|| format!("{}: imports fs in a group, outside the disk adapter", file.path));
            named.chain(grouped)
        })
        .collect()
}

/// Whether `fs` is among what `use std::{...}` or the same of tokio or rustix imports.
fn imports_fs_in_a_group(code: &str) -> bool {
    ["std", "tokio", "rustix"].iter().any(|root| {
        code.split(&format!("use {root}::{{")).skip(1).any(|rest| {
            let group = rest.split(';').next().unwrap_or_default();
            group.split(|character: char| !character.is_alphanumeric() && character != '_').any(|word| word == "fs")
        })
    })
}

/// Rooms named for nothing in particular.
pub fn catch_all_rooms(files: &[SourceFile]) -> Vec<String> {
    let names = ["common", "util", "utils", "helper", "helpers", "misc"];
    files
        .iter()
        .filter(|file| {
            let path = file.path.trim_end_matches(".rs");
            path.split('/').any(|part| names.contains(&part))
        })
        .map(|file| format!("{}: name the room for what it holds", file.path))
        .collect()
}

/// Words that betray a machine or a registry.
pub fn forbidden_words(files: &[SourceFile]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        for (first, second, what) in FORBIDDEN {
            let word = format!("{first}{second}");
            if file.text.contains(&word) {
                complaints.push(format!("{}: has {word:?}, {what}", file.path));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Vec<SourceFile> {
        vec![SourceFile { path: path.to_owned(), text: text.to_owned() }]
    }

    #[test]
    fn each_rule_complains_of_what_it_is_for() {
        assert_eq!(missing_licence_lines(&file("a/src/lib.rs", "//! Purpose of it.\n")).len(), 1);
        assert_eq!(missing_purpose_lines(&file("a/src/lib.rs", "// SPDX\nuse x;\n//! Purpose.")).len(), 1);
        assert_eq!(files_too_long(&file("a/src/lib.rs", &"x\n".repeat(801))).len(), 1);
        assert_eq!(file_apis_outside_the_adapter(&file("broker/log/src/lib.rs", "let f = std::fs::read(p);")).len(), 1);
        let grouped = "use std::{\n    collections::BTreeMap,\n    fs,\n};\n";
        assert_eq!(file_apis_outside_the_adapter(&file("broker/log/src/lib.rs", grouped)).len(), 1);
        // Code below something that is for tests only is still code.
        let below = "#[cfg(test)]\nuse x;\nlet f = std::fs::read(p);\n#[cfg(test)]\nmod tests { std::fs::read(p) }";
        assert_eq!(file_apis_outside_the_adapter(&file("broker/log/src/lib.rs", below)).len(), 1);
        assert_eq!(missing_licence_lines(&file("setup/tool", "#!/usr/bin/env bash\nset -e\n")).len(), 1);
        assert_eq!(catch_all_rooms(&file("broker/log/src/utils.rs", "")).len(), 1);
        assert_eq!(forbidden_words(&file("a.md", &["see /wo", "rk/main"].concat())).len(), 1);
    }

    #[test]
    fn each_rule_lets_good_files_pass() {
        type Rule = fn(&[SourceFile]) -> Vec<String>;
        let good =
            file("broker/log/src/lib.rs", "// SPDX-License-Identifier: Apache-2.0\n//! Keeps records.\nuse x;\n");
        let rules: [Rule; 6] = [
            missing_licence_lines,
            missing_purpose_lines,
            files_too_long,
            file_apis_outside_the_adapter,
            catch_all_rooms,
            forbidden_words,
        ];
        for rule in rules {
            assert_eq!(rule(&good), Vec::<String>::new());
        }
        assert_eq!(files_too_long(&file("a/tests/big.rs", &"x\n".repeat(2000))), Vec::<String>::new());
    }
}
