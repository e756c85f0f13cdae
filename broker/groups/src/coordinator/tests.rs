// SPDX-License-Identifier: Apache-2.0
//! The coordinator as its callers see it: text scenarios (`testdata/*.txt`) and random orders of events.
//!
//! A scenario holds commands (`> …`) and below each what came out. `REWRITE=1 cargo test -p odradek-groups` writes the
//! outcome into the files: read the difference before accepting it.

mod foreign;
mod property;
mod script;

/// Runs a scenario file and compares, or rewrites it.
#[expect(clippy::disallowed_methods, reason = "a developer's own rewrite of test data")]
fn scenario(name: &str, text: &str) {
    let outcome = script::run(text);
    if std::env::var_os("REWRITE").is_some() {
        let path = format!("{}/testdata/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, &outcome).expect("the scenario can be written");
        return;
    }
    for (line, (expected, found)) in text.lines().zip(outcome.lines()).enumerate() {
        assert_eq!(expected, found, "{name}.txt line {}", line + 1);
    }
    assert_eq!(text, outcome, "{name}.txt: lines are missing or too many");
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                scenario(stringify!($name), include_str!(concat!("../../testdata/", stringify!($name), ".txt")));
            }
        )*
    };
}

scenarios! {
    joining
    rebalancing
    static_members
    leaving
    committing
    expiring
    refused_appends
    restarting
    deleted_topics
    describing
    rewriting
    loading
}
