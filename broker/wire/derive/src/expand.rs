// SPDX-License-Identifier: Apache-2.0
//! Turns the parsed attributes into the implementations: `Default`, `Field`, `Nullable`, for a root struct
//! `Message`, and for tests `Generate`. It must not know any particular message.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Fields, Result};

use crate::attributes::{StructAttributes, Versions, WireField};

/// All implementations for one struct.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let attributes = StructAttributes::parse(&input.attrs)?;
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new_spanned(input, "Wire is for structs"));
    };
    let Fields::Named(named) = &data.fields else {
        return Err(syn::Error::new_spanned(input, "a message struct has named fields"));
    };
    let fields = named.named.iter().map(WireField::parse).collect::<Result<Vec<_>>>()?;
    let mut tagged: Vec<&WireField> = fields.iter().filter(|field| field.tag.is_some()).collect();
    tagged.sort_by_key(|field| field.tag);
    if let Some(pair) = tagged.windows(2).find(|pair| pair[0].tag == pair[1].tag) {
        return Err(syn::Error::new(pair[1].name.span(), "this tag is taken"));
    }

    let mut output = default_impl(input, &fields);
    output.extend(field_impl(input, &fields, &tagged));
    output.extend(message_impl(input, &attributes));
    output.extend(generate_impl(input, &attributes, &fields));
    Ok(output)
}

/// A condition on `version`, simplified where a bound always holds.
fn within(versions: Versions) -> TokenStream {
    let Versions { lowest, highest } = versions;
    match (lowest, highest) {
        (i16::MIN..=0, i16::MAX) => quote!(true),
        (_, i16::MAX) => quote!(version >= #lowest),
        (i16::MIN..=0, _) => quote!(version <= #highest),
        _ => quote!((#lowest..=#highest).contains(&version)),
    }
}

/// Name of the function that yields a field's default value.
fn default_name(field: &WireField) -> syn::Ident {
    format_ident!("default_{}", field.name)
}

fn default_impl(input: &DeriveInput, fields: &[WireField]) -> TokenStream {
    let name = &input.ident;
    let values = fields.iter().map(|field| {
        let field_name = &field.name;
        let value = default_value(field);
        quote!(#field_name: #value)
    });
    quote! {
        impl Default for #name {
            fn default() -> Self {
                Self { #(#values),* }
            }
        }
    }
}

fn default_value(field: &WireField) -> TokenStream {
    let inner = &field.inner;
    match &field.default {
        Some(expression) => quote!(#expression),
        None if field.records => quote!(None),
        None if field.optional => quote!(Some(<#inner as Default>::default())),
        None => quote!(<#inner as Default>::default()),
    }
}

fn field_impl(input: &DeriveInput, fields: &[WireField], tagged: &[&WireField]) -> TokenStream {
    let name = &input.ident;
    let reads = fields.iter().map(read_field);
    let writes = fields.iter().map(|field| write_field(input, field));
    let sizes = fields.iter().map(size_field);

    let tag_reads = tagged.iter().map(|field| {
        let field_name = &field.name;
        let tag = field.tag.unwrap_or_default();
        let when = within(field.tagged.unwrap_or(Versions::ALL));
        let read = read_value(field);
        quote!(#tag if #when => { value.#field_name = #read; true })
    });
    let tag_counts = tagged.iter().map(|field| {
        let field_name = &field.name;
        let when = within(field.tagged.unwrap_or(Versions::ALL));
        let default = default_name(field);
        quote! {
            if #when && self.#field_name != #default() { tagged_fields += 1; }
        }
    });
    let tag_writes = tagged.iter().map(|field| {
        let field_name = &field.name;
        let tag = field.tag.unwrap_or_default();
        let when = within(field.tagged.unwrap_or(Versions::ALL));
        let default = default_name(field);
        let write = write_value(input, field);
        quote! {
            if #when && self.#field_name != #default() {
                encoder.put_tagged_field(#tag, |encoder| { #write Ok(()) })?;
            }
        }
    });
    // One function per field whose default is compared with: tagged fields, and those that must be at their
    // default in versions without them.
    let defaults = fields.iter().filter(|field| needs_default(field)).map(|field| {
        let function = default_name(field);
        let inner = &field.inner;
        let ty = if field.optional { quote!(Option<#inner>) } else { quote!(#inner) };
        let value = default_value(field);
        quote! {
            #[inline]
            fn #function() -> #ty { #value }
        }
    });
    let count_declaration =
        if tagged.is_empty() { quote!(let tagged_fields = 0;) } else { quote!(let mut tagged_fields = 0;) };
    let tag_loop = if tagged.is_empty() {
        quote!(decoder.skip_tagged_fields()?;)
    } else {
        quote! {
            for _ in 0..decoder.read_unsigned_varint()? {
                let tagged_field = decoder.begin_tagged_field()?;
                let known = match tagged_field.tag {
                    #(#tag_reads)*
                    _ => false,
                };
                decoder.end_tagged_field(&tagged_field, known)?;
            }
        }
    };

    quote! {
        const _: () = {
            #(#defaults)*

            #[allow(unused_variables, unused_mut, clippy::too_many_lines, clippy::cognitive_complexity, clippy::nonminimal_bool)]
            impl crate::field::Field for #name {
                fn read(decoder: &mut crate::decode::Decoder, version: i16) -> Result<Self, crate::decode::DecodeError> {
                    decoder.enter_struct()?;
                    let mut value = Self::default();
                    #(#reads)*
                    if decoder.is_flexible() {
                        #tag_loop
                    }
                    decoder.leave_struct();
                    Ok(value)
                }

                fn write(&self, encoder: &mut crate::encode::Encoder, version: i16) -> Result<(), crate::encode::EncodeError> {
                    #(#writes)*
                    if encoder.is_flexible() {
                        #count_declaration
                        #(#tag_counts)*
                        encoder.put_unsigned_varint(tagged_fields);
                        #(#tag_writes)*
                    }
                    Ok(())
                }

                fn min_size(version: i16, flexible: bool) -> usize {
                    let mut size = usize::from(flexible);
                    #(#sizes)*
                    size
                }
            }

            impl crate::field::Nullable for #name {
                fn read_nullable(decoder: &mut crate::decode::Decoder, version: i16) -> Result<Option<Self>, crate::decode::DecodeError> {
                    crate::field::read_nullable_struct(decoder, version)
                }

                fn write_nullable(value: Option<&Self>, encoder: &mut crate::encode::Encoder, version: i16) -> Result<(), crate::encode::EncodeError> {
                    crate::field::write_nullable_struct(value, encoder, version)
                }

                fn min_nullable_size(_version: i16, _flexible: bool) -> usize {
                    1
                }
            }
        };
    }
}

/// Whether the generated code compares the field with its default.
fn needs_default(field: &WireField) -> bool {
    field.tag.is_some() || (!field.ignorable && (field.versions.lowest > 0 || field.versions.highest < i16::MAX))
}

/// The condition under which the field stands among the ordinary, untagged ones.
fn ordinary(field: &WireField) -> TokenStream {
    let present = within(field.versions);
    match field.tagged {
        Some(tagged) => {
            let tagged = within(tagged);
            quote!(#present && !(#tagged))
        }
        None => present,
    }
}

fn is_always_tagged(field: &WireField) -> bool {
    field
        .tagged
        .is_some_and(|tagged| tagged.lowest <= field.versions.lowest && tagged.highest >= field.versions.highest)
}

fn read_field(field: &WireField) -> TokenStream {
    if is_always_tagged(field) {
        return TokenStream::new();
    }
    let name = &field.name;
    let when = ordinary(field);
    let read = read_value(field);
    quote!(if #when { value.#name = #read; })
}

/// An expression that reads the field's value from `decoder`.
fn read_value(field: &WireField) -> TokenStream {
    let inner = &field.inner;
    if let Some(nullable) = field.nullable {
        let when = within(nullable);
        quote! {
            if #when {
                <#inner as crate::field::Nullable>::read_nullable(decoder, version)?
            } else {
                Some(<#inner as crate::field::Field>::read(decoder, version)?)
            }
        }
    } else {
        quote!(<#inner as crate::field::Field>::read(decoder, version)?)
    }
}

fn write_field(input: &DeriveInput, field: &WireField) -> TokenStream {
    let name = &field.name;
    let ordinary_write = if is_always_tagged(field) {
        TokenStream::new()
    } else {
        let when = ordinary(field);
        let write = write_value(input, field);
        quote!(if #when { #write })
    };
    let absent_everywhere = field.versions.lowest <= 0 && field.versions.highest == i16::MAX;
    let refuse = if field.ignorable || absent_everywhere {
        TokenStream::new()
    } else {
        let present = within(field.versions);
        let default = default_name(field);
        let path = field_path(input, field);
        quote! {
            if !(#present) && self.#name != #default() {
                return Err(crate::encode::EncodeError::FieldNotInVersion { field: #path, version });
            }
        }
    };
    quote!(#ordinary_write #refuse)
}

/// Statements that write `self.<field>` to `encoder`.
fn write_value(input: &DeriveInput, field: &WireField) -> TokenStream {
    let name = &field.name;
    let inner = &field.inner;
    let Some(nullable) = field.nullable else {
        return quote!(crate::field::Field::write(&self.#name, encoder, version)?;);
    };
    let when = within(nullable);
    let path = field_path(input, field);
    let (some, any) = if field.records {
        (quote!(encoder.put_records(Some(present))?;), quote!(encoder.put_records(self.#name.as_ref())?;))
    } else {
        (
            quote!(crate::field::Field::write(present, encoder, version)?;),
            quote!(<#inner as crate::field::Nullable>::write_nullable(self.#name.as_ref(), encoder, version)?;),
        )
    };
    quote! {
        if #when {
            #any
        } else if let Some(present) = &self.#name {
            #some
        } else {
            return Err(crate::encode::EncodeError::NullNotAllowed { field: #path, version });
        }
    }
}

fn size_field(field: &WireField) -> TokenStream {
    if is_always_tagged(field) {
        return TokenStream::new();
    }
    let inner = &field.inner;
    let when = ordinary(field);
    let size = if let Some(nullable) = field.nullable {
        let nullable = within(nullable);
        quote! {
            if #nullable {
                <#inner as crate::field::Nullable>::min_nullable_size(version, flexible)
            } else {
                <#inner as crate::field::Field>::min_size(version, flexible)
            }
        }
    } else {
        quote!(<#inner as crate::field::Field>::min_size(version, flexible))
    };
    quote!(if #when { size += #size; })
}

fn field_path(input: &DeriveInput, field: &WireField) -> String {
    format!("{}.{}", input.ident, field.name)
}

fn message_impl(input: &DeriveInput, attributes: &StructAttributes) -> TokenStream {
    let Some(Versions { lowest, highest }) = attributes.versions else {
        return TokenStream::new();
    };
    let name = &input.ident;
    let text = name.to_string();
    let flexible = if let Some(flexible) = attributes.flexible {
        let lowest = flexible.lowest;
        quote!(Some(#lowest))
    } else {
        quote!(None)
    };
    quote! {
        impl crate::message::Message for #name {
            const NAME: &'static str = #text;
            const MIN_VERSION: i16 = #lowest;
            const MAX_VERSION: i16 = #highest;
            const FLEXIBLE_FROM: Option<i16> = #flexible;
        }
    }
}

/// Test support, compiled with the feature `generate` only: random values that a version can carry, and the
/// text that Kafka's own generated class prints for the same value.
fn generate_impl(input: &DeriveInput, attributes: &StructAttributes, fields: &[WireField]) -> TokenStream {
    let name = &input.ident;
    let values = fields.iter().map(|field| {
        let field_name = &field.name;
        let inner = &field.inner;
        let present = within(field.versions);
        let default = default_value(field);
        let random = if let Some(nullable) = field.nullable {
            let nullable = within(nullable);
            quote! {
                if (#nullable) && source.one_in(4) { None } else { Some(<#inner as crate::generate::Generate>::generate(source, version)) }
            }
        } else { quote!(<#inner as crate::generate::Generate>::generate(source, version)) };
        quote! {
            #field_name: if !(#present) || source.one_in(8) { #default } else { #random }
        }
    });
    let printed = fields.iter().enumerate().map(|(index, field)| {
        let field_name = &field.name;
        let label = format!("{}{}=", if index == 0 { "" } else { ", " }, camel_case(&field_name.to_string()));
        let value = if field.records {
            // Kafka prints an object identity for records.
            quote!(out.push_str("(records)");)
        } else if field.optional {
            quote! {
                match &self.#field_name {
                    Some(present) => crate::generate::Generate::print_like_kafka(present, out),
                    None => out.push_str("null"),
                }
            }
        } else {
            quote!(crate::generate::Generate::print_like_kafka(&self.#field_name, out);)
        };
        quote! { out.push_str(#label); #value }
    });
    let own_name = attributes.kafka_name.clone().unwrap_or_else(|| name.to_string());
    let title = if attributes.versions.is_some() { format!("{own_name}Data(") } else { format!("{own_name}(") };
    quote! {
        #[cfg(feature = "generate")]
        #[allow(unused_variables, clippy::too_many_lines, clippy::nonminimal_bool, clippy::overly_complex_bool_expr)]
        impl crate::generate::Generate for #name {
            fn generate(source: &mut crate::generate::Source, version: i16) -> Self {
                Self { #(#values),* }
            }

            fn print_like_kafka(&self, out: &mut String) {
                out.push_str(#title);
                #(#printed)*
                out.push(')');
            }
        }
    }
}

fn camel_case(snake: &str) -> String {
    let mut camel = String::new();
    let mut upper = false;
    for character in snake.chars() {
        if character == '_' {
            upper = true;
        } else if upper {
            camel.extend(character.to_uppercase());
            upper = false;
        } else {
            camel.push(character);
        }
    }
    camel
}
