// SPDX-License-Identifier: Apache-2.0
//! Rules about the tree itself, run as ordinary tests: which crate may use which, what every file opens with, how long
//! a file may grow, where file APIs may stand, which calls and which words must not occur.
//!
//! Each rule is a pure function from the tree's text to a list of complaints, so that it can be shown to complain. The
//! tests in `tests/` run them over the real tree. Must not know what any crate does.

mod banned;
mod dependencies;
mod sources;
mod tree;

pub use banned::banned_calls;
pub use dependencies::{AllowedDependencies, undeclared_dependencies};
pub use sources::{
    catch_all_rooms, file_apis_outside_the_adapter, files_too_long, forbidden_words, missing_licence_lines,
    missing_purpose_lines,
};
pub use tree::{SourceFile, tracked_files};
