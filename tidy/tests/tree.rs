// SPDX-License-Identifier: Apache-2.0
//! The rules of the tidy crate over the real tree.

use odradek_tidy::{
    AllowedDependencies, SourceFile, banned_calls, catch_all_rooms, file_apis_outside_the_adapter, files_too_long,
    forbidden_words, missing_licence_lines, missing_purpose_lines, tracked_files, undeclared_dependencies,
};

fn check(rule: impl Fn(&[SourceFile]) -> Vec<String>) {
    let complaints = rule(&tracked_files());
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn crates_use_only_what_their_list_allows() {
    let allowed = AllowedDependencies::parse(include_str!("../allowed-dependencies.toml"));
    check(|files| undeclared_dependencies(files, &allowed));
}

#[test]
fn files_open_with_the_licence_line() {
    check(missing_licence_lines);
}

#[test]
fn modules_say_their_purpose() {
    check(missing_purpose_lines);
}

#[test]
fn product_files_stay_readable() {
    check(files_too_long);
}

#[test]
fn file_apis_stand_in_the_disk_adapter_only() {
    check(file_apis_outside_the_adapter);
}

#[test]
fn no_crate_calls_what_its_clippy_toml_bans() {
    check(banned_calls);
}

#[test]
fn no_room_is_named_for_nothing() {
    check(catch_all_rooms);
}

#[test]
fn no_file_names_a_machine_or_a_registry() {
    check(forbidden_words);
}
