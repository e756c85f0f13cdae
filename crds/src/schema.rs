// SPDX-License-Identifier: Apache-2.0
//! Schema fragments that no Rust type yields by itself. Pure JSON, no Kubernetes objects.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Most settings in one `config`. Kafka has about 300 broker settings; nobody sets them all.
const SETTINGS_MAX: u32 = 256;

/// Most entries of a label, annotation or node-selector map.
const STRING_MAP_MAX: u32 = 64;

/// Settings by Kafka's names. A structural schema cannot say "string, number or boolean", so the
/// operator checks values and names the wrong ones in a condition.
pub(crate) fn settings(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": SETTINGS_MAX,
        "additionalProperties": {"x-kubernetes-preserve-unknown-fields": true},
    })
}

/// Resource quantities by resource name, as in a container's `resources`.
pub(crate) fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
            "x-kubernetes-int-or-string": true,
        },
    })
}

/// Labels, annotations, node selectors.
pub(crate) fn string_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": STRING_MAP_MAX,
        "additionalProperties": {"type": "string", "maxLength": 1024},
    })
}

/// `status.conditions` with the rules of the Kubernetes API conventions.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {
                    "type": "string",
                    "maxLength": 316,
                    "description": "What the condition speaks of.",
                },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "Whether it holds.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The generation of the spec that it speaks of.",
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "Why, in one word.",
                },
                "message": {
                    "type": "string",
                    "maxLength": 32768,
                    "description": "Why, in a sentence, and what to do next.",
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When the status last changed.",
                },
            },
        },
    })
}
