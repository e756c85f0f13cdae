// SPDX-License-Identifier: Apache-2.0
//! Derive macro that turns a struct with version attributes into a codec for one Kafka message struct.
//! It knows the shape of a message only; the bytes are written and read by `odradek-wire`, whose crate
//! root the generated code refers to as `crate`. It must not know any particular message.
//!
//! ```text
//! #[derive(Clone, Debug, PartialEq, Wire)]
//! #[wire(versions = "3-13", flexible = "9+")]          // on the root struct of a message only
//! pub struct ExampleRequest {
//!     #[wire(versions = "4+", nullable = "5+", default = None, ignorable)]
//!     pub name: Option<Text>,
//!     #[wire(versions = "12+", tag = 0, tagged = "12+", default = -1)]
//!     pub epoch: i32,
//! }
//! ```
//!
//! Field attributes (the rules are those of Kafka's message generator, `MessageDataGenerator.java`):
//! - `versions`: message versions that have the field (default: all). In other versions decoding leaves the
//!   default, and encoding any other value than the default is an error, unless the field is `ignorable`.
//! - `nullable`: versions in which null may stand; the field is an `Option`.
//! - `tag`, `tagged`: number, and versions in which the field is a tagged one, sent only if not the default.
//! - `default`: an expression; without it zero, empty, or (for `Option`) an empty value that is not null,
//!   as Kafka has it; null for `records`.
//! - `records`: bytes that the encoder passes on as a segment of its own, never copied.
//! - `kafka_name` (on the struct): its name in Kafka's message definition where ours differs.

mod attributes;
mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `Default` (with Kafka's default values), the field codec and, for a root struct, `Message`.
#[proc_macro_derive(Wire, attributes(wire))]
pub fn derive_wire(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::expand(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}
