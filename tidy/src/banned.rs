// SPDX-License-Identifier: Apache-2.0
//! Calls that a `clippy.toml` bans. Clippy itself is exact, and runs in `make lint`; this rule only looks for the names, so
//! that an ordinary `cargo test` finds them too. Must not read the disk.

use crate::SourceFile;

/// Product code that calls what the nearest `clippy.toml` above it bans. A file that argues for an exception
/// (`#[expect(clippy::disallowed_methods, reason = ...)]`) is left to clippy.
pub fn banned_calls(files: &[SourceFile]) -> Vec<String> {
    let lists: Vec<(&str, Vec<String>)> = files
        .iter()
        .filter_map(|file| Some((file.path.strip_suffix("clippy.toml")?, banned_methods(&file.text))))
        .collect();
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_product_code()) {
        if file.text.contains("(clippy::disallowed_methods") {
            continue;
        }
        // The longest folder is the nearest.
        let above = lists.iter().filter(|(folder, _)| file.path.starts_with(folder));
        let Some((folder, banned)) = above.max_by_key(|(folder, _)| folder.len()) else { continue };
        for (number, line) in file.code_without_tests().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for path in banned.iter().filter(|path| calls(code, path)) {
                complaints.push(format!("{}:{}: {path}, which {folder}clippy.toml bans", file.path, number + 1));
            }
        }
    }
    complaints
}

/// The paths of `disallowed-methods`.
fn banned_methods(text: &str) -> Vec<String> {
    let table: toml::Table = text.parse().expect("clippy.toml is TOML");
    let list = table.get("disallowed-methods").and_then(|list| list.as_array());
    let path = |entry: &toml::Value| entry.get("path").unwrap_or(entry).as_str().map(str::to_owned);
    list.into_iter().flatten().filter_map(path).collect()
}

/// Whether the line has the path's last two names, as code that imports the first of them writes it.
fn calls(code: &str, path: &str) -> bool {
    let names: Vec<&str> = path.rsplit("::").take(2).collect();
    let [function, owner] = names[..] else { return false };
    let wanted = format!("{owner}::{function}");
    let part_of_a_name = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(&wanted).any(|(at, _)| {
        !part_of_a_name(code[..at].chars().next_back()) && !part_of_a_name(code[at + wanted.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(code: &str) -> usize {
        let file = |path: &str, text: &str| SourceFile { path: path.to_owned(), text: text.to_owned() };
        let strict = "disallowed-methods = [{ path = \"std::time::Instant::now\", reason = \"x\" }, \"std::fs::read\"]";
        banned_calls(&[
            file("clippy.toml", "disallowed-methods = [\"std::thread::sleep\"]"),
            file("broker/clippy.toml", strict),
            file("broker/log/src/lib.rs", code),
        ])
        .len()
    }

    #[test]
    fn a_banned_call_is_a_complaint_and_what_only_looks_like_one_is_not() {
        assert_eq!(complaints("let t = Instant::now();"), 1);
        assert_eq!(complaints("let t = std::time::Instant::now();\nlet b = fs::read(p);"), 2);
        for good in [
            "let t = MyInstant::now();",
            "let text = fs::read_to_string(p);",
            "// Instant::now() is banned",
            "thread::sleep(d);", // The nearer list replaces the other.
            "#[expect(clippy::disallowed_methods, reason = \"argued\")]\nlet t = Instant::now();",
            "#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }",
        ] {
            assert_eq!(complaints(good), 0, "{good}");
        }
    }
}
