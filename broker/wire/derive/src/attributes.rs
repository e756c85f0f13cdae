// SPDX-License-Identifier: Apache-2.0
//! Reads the `#[wire(...)]` attributes of a struct and of its fields into plain values.
//! It must not know how they are turned into code.

use syn::{Attribute, Expr, Field, Ident, LitInt, LitStr, Result, Type};

/// An inclusive range of message versions; `highest` is `i16::MAX` for an open end.
#[derive(Clone, Copy)]
pub(crate) struct Versions {
    pub(crate) lowest: i16,
    pub(crate) highest: i16,
}

impl Versions {
    pub(crate) const ALL: Self = Self { lowest: 0, highest: i16::MAX };

    /// Parses `"3"`, `"3+"` or `"3-7"`.
    fn parse(literal: &LitStr) -> Result<Self> {
        let text = literal.value();
        let number = |part: &str| {
            part.trim()
                .parse::<i16>()
                .map_err(|_| syn::Error::new(literal.span(), "versions are written \"3\", \"3+\" or \"3-7\""))
        };
        let range = if let Some(lowest) = text.strip_suffix('+') {
            Self { lowest: number(lowest)?, highest: i16::MAX }
        } else if let Some((lowest, highest)) = text.split_once('-') {
            Self { lowest: number(lowest)?, highest: number(highest)? }
        } else {
            let only = number(&text)?;
            Self { lowest: only, highest: only }
        };
        if range.lowest > range.highest {
            return Err(syn::Error::new(literal.span(), "the first version is above the last"));
        }
        Ok(range)
    }
}

/// What stands on the struct itself.
#[derive(Default)]
pub(crate) struct StructAttributes {
    /// Present on the root struct of a message: the versions that we can read and write.
    pub(crate) versions: Option<Versions>,
    /// The flexible versions of the message; none if absent.
    pub(crate) flexible: Option<Versions>,
    /// The struct's name in Kafka's definition, if it is not ours.
    pub(crate) kafka_name: Option<String>,
}

impl StructAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut parsed = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("wire")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("versions") {
                    parsed.versions = Some(Versions::parse(&meta.value()?.parse()?)?);
                } else if meta.path.is_ident("flexible") {
                    parsed.flexible = Some(Versions::parse(&meta.value()?.parse()?)?);
                } else if meta.path.is_ident("kafka_name") {
                    parsed.kafka_name = Some(meta.value()?.parse::<LitStr>()?.value());
                } else {
                    return Err(meta.error("known here: versions, flexible, kafka_name"));
                }
                Ok(())
            })?;
        }
        Ok(parsed)
    }
}

/// One field with all that its codec depends on.
pub(crate) struct WireField {
    pub(crate) name: Ident,
    /// The field's type; for a nullable field what stands inside the `Option`.
    pub(crate) inner: Type,
    pub(crate) optional: bool,
    pub(crate) versions: Versions,
    pub(crate) nullable: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) tagged: Option<Versions>,
    pub(crate) default: Option<Expr>,
    pub(crate) ignorable: bool,
    pub(crate) records: bool,
}

impl WireField {
    pub(crate) fn parse(field: &Field) -> Result<Self> {
        let name =
            field.ident.clone().ok_or_else(|| syn::Error::new_spanned(field, "a message struct has named fields"))?;
        let (inner, optional) = match option_inner(&field.ty) {
            Some(inner) => (inner.clone(), true),
            None => (field.ty.clone(), false),
        };
        let mut parsed = Self {
            name,
            inner,
            optional,
            versions: Versions::ALL,
            nullable: None,
            tag: None,
            tagged: None,
            default: None,
            ignorable: false,
            records: false,
        };
        for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("wire")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("versions") {
                    parsed.versions = Versions::parse(&meta.value()?.parse()?)?;
                } else if meta.path.is_ident("nullable") {
                    parsed.nullable = Some(Versions::parse(&meta.value()?.parse()?)?);
                } else if meta.path.is_ident("tagged") {
                    parsed.tagged = Some(Versions::parse(&meta.value()?.parse()?)?);
                } else if meta.path.is_ident("tag") {
                    parsed.tag = Some(meta.value()?.parse::<LitInt>()?.base10_parse()?);
                } else if meta.path.is_ident("default") {
                    parsed.default = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("ignorable") {
                    parsed.ignorable = true;
                } else if meta.path.is_ident("records") {
                    parsed.records = true;
                } else {
                    return Err(meta.error("known here: versions, nullable, tag, tagged, default, ignorable, records"));
                }
                Ok(())
            })?;
        }
        if parsed.tag.is_some() != parsed.tagged.is_some() {
            return Err(syn::Error::new_spanned(field, "tag and tagged go together"));
        }
        if parsed.optional != parsed.nullable.is_some() {
            return Err(syn::Error::new_spanned(field, "an Option needs nullable versions, and the other way round"));
        }
        if parsed.records && !parsed.optional {
            return Err(syn::Error::new_spanned(field, "records are Option<Bytes> or Option<Records>"));
        }
        Ok(parsed)
    }
}

/// `T` of a type written `Option<T>`.
fn option_inner(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let segment = path.path.segments.last()?;
    if segment.ident != "Option" {
        return None;
    }
    let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    match arguments.args.first()? {
        syn::GenericArgument::Type(inner) => Some(inner),
        _ => None,
    }
}
