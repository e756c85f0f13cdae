// SPDX-License-Identifier: Apache-2.0
//! Bytes from a hostile or broken peer, against every API, version and direction: an error or a message,
//! never a panic, and never more memory than the decoder's limit for a frame of that length.

mod bodies;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bodies::{Body, DIRECTIONS, versions};
use bytes::Bytes;
use odradek_wire::decode::{MAX_DEPTH, allocation_limit};
use odradek_wire::generate::Source;
use odradek_wire::messages::MetadataRequest;
use odradek_wire::private::{FIRST_PRIVATE_KEY, PrivateApiKey, PrivateHeader, QuorumMessage};
use odradek_wire::{AnyRequest, AnyResponse, ApiKey, DecodeError, Decoder, Message, RequestHeader, frame};

/// The system's allocator, counting what this thread holds and the most it held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // During the end of a thread there is nothing to count in.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

#[allow(unsafe_code)]
// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes held at once, beyond those held before, while `work` runs.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    let result = work();
    let peak = PEAK.with(Cell::get) - before;
    (result, usize::try_from(peak).unwrap_or(0))
}

/// Memory beside vectors while decoding: the owner of the frame's bytes once it is shared, error values.
const BESIDE_VECTORS: usize = 1024;

/// Decodes as a server does, and holds the memory it takes to the limit.
fn decode(bytes: &[u8], key: ApiKey, version: i16, direction: &str) -> Result<(), DecodeError> {
    let frame = Bytes::copy_from_slice(bytes);
    let length = frame.len();
    let (result, peak) = peak_of(move || {
        let mut decoder = Decoder::new(frame);
        if direction == "request" {
            AnyRequest::decode(&mut decoder, key, version).map(|_| ())?;
        } else {
            AnyResponse::decode(&mut decoder, key, version).map(|_| ())?;
        }
        decoder.finish()
    });
    let limit = allocation_limit(length) + BESIDE_VECTORS;
    assert!(peak <= limit, "{} v{version} {direction}: {peak} bytes for a frame of {length}", key.name());
    result
}

/// Calls `test` with some valid messages of every key, version and direction, of up to 4 KiB, so that each can
/// be spoilt in many ways in little time.
fn for_all(values: u64, mut test: impl FnMut(&Bytes, ApiKey, i16, &str, &mut Source)) {
    for &key in ApiKey::ALL {
        for direction in DIRECTIONS {
            for version in versions(key) {
                let mut tested = 0;
                let mut seed = ((version as u64) << 16) | key.code() as u64;
                while tested < values {
                    seed += 1 << 32;
                    let mut source = Source::new(seed);
                    let bytes = Body::generate(&mut source, key, version, direction).encode(version);
                    if bytes.len() <= 4096 {
                        test(&bytes, key, version, direction, &mut source);
                        tested += 1;
                    }
                }
            }
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let mut cut = 0;
    for_all(6, |bytes, key, version, direction, source| {
        // Every cut of short messages, some of long ones.
        let step = 1 + bytes.len() / 400;
        let mut length = source.below(step as u64) as usize;
        while length < bytes.len() {
            let result = decode(&bytes[..length], key, version, direction);
            assert!(result.is_err(), "{} v{version} {direction}, {length} of {} bytes", key.name(), bytes.len());
            cut += 1;
            length += step;
        }
    });
    assert!(cut > 10_000, "{cut}");
}

#[test]
fn bytes_behind_the_end_are_an_error() {
    for_all(3, |bytes, key, version, direction, _| {
        let longer = [bytes, &[0][..]].concat();
        assert!(matches!(decode(&longer, key, version, direction), Err(DecodeError::TrailingBytes { left: 1, .. })));
    });
}

#[test]
fn random_bytes_never_panic() {
    for_all(40, |_, key, version, direction, source| {
        let length = source.below(300);
        let mut bytes: Vec<u8> = (0..length).map(|_| source.bits() as u8).collect();
        // Half of them begin with small numbers, to get past the first count.
        if source.one_in(2) {
            bytes.iter_mut().take(40).for_each(|byte| *byte &= 3);
        }
        let _ = decode(&bytes, key, version, direction);
    });
}

/// Hostile lengths and counts in every place: two, four and variable bytes of it, over every part of a
/// valid message.
#[test]
fn hostile_lengths_everywhere() {
    const HOSTILE: [&[u8]; 9] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xfe],
        &[0xff, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0],
        &[0x7f, 0xff],
        &[0xff, 0xfe],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    ];
    for_all(3, |bytes, key, version, direction, source| {
        let step = 1 + bytes.len() / 50;
        let mut place = source.below(step as u64) as usize;
        while place < bytes.len() {
            for hostile in HOSTILE {
                let mut changed = bytes.to_vec();
                let end = (place + hostile.len()).min(changed.len());
                changed[place..end].copy_from_slice(&hostile[..end - place]);
                let _ = decode(&changed, key, version, direction);
                let mut grown = bytes.to_vec();
                grown.splice(place..place, hostile.iter().copied());
                let _ = decode(&grown, key, version, direction);
            }
            place += step;
        }
    });
}

#[test]
fn counts_are_checked_before_anything_is_allocated() {
    // 2^31-1 topics in eight bytes, in both encodings.
    for (version, bytes) in
        [(1, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0][..]), (12, &[0xff, 0xff, 0xff, 0xff, 7, 0, 0, 0])]
    {
        let frame = Bytes::copy_from_slice(bytes);
        let (result, peak) = peak_of(|| MetadataRequest::decode_whole(frame, version));
        assert!(matches!(result, Err(DecodeError::CountTooLarge { .. })), "{result:?}");
        assert!(peak < BESIDE_VECTORS, "{peak}");
    }
    // One element too many: three names of two bytes at least, in four bytes.
    let short = MetadataRequest::decode_whole(Bytes::from_static(&[0, 0, 0, 3, 0, 0, 0, 0]), 1);
    assert_eq!(short, Err(DecodeError::CountTooLarge { count: 3, at: 4, left: 4 }));
    let negative = MetadataRequest::decode_whole(Bytes::from_static(&[0xff, 0xff, 0xff, 0xfe]), 1);
    assert_eq!(negative, Err(DecodeError::NegativeLength { length: -2, at: 4 }));
    let overflow = MetadataRequest::decode_whole(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x1f]), 12);
    assert_eq!(overflow, Err(DecodeError::VarintTooLong { at: 0 }));
    // A count that the bytes could hold, of elements that take far more memory than bytes.
    let mut many = vec![0; 32 << 20];
    many[..4].copy_from_slice(&(((32 << 20) - 4) / 2_i32).to_be_bytes());
    let length = many.len();
    let frame = Bytes::from(many);
    let (result, peak) = peak_of(|| MetadataRequest::decode_whole(frame, 1));
    assert!(matches!(result, Err(DecodeError::AllocationLimit { .. })), "{result:?}");
    assert!(peak < length, "{peak}");
}

#[test]
fn names_that_have_to_be_mended_are_bounded() {
    let mended = |count: i32, length: i16| {
        let mut bytes = count.to_be_bytes().to_vec();
        for _ in 0..count {
            bytes.extend(length.to_be_bytes());
            bytes.extend(vec![0xff; length as usize]);
        }
        // Holds the memory to the limit too.
        decode(&bytes, ApiKey::Metadata, 1, "request")
    };
    // Each bad byte becomes three, and what is mended must fit a plain string again.
    assert_eq!(mended(1, 10_922), Ok(()));
    assert_eq!(mended(1, 10_923), Err(DecodeError::NotUtf8 { at: 6 }));
    assert_eq!(mended(100, 10), Ok(()));
    for (count, length) in [(100_000, 1), (10_000, 1), (300, 32_767)] {
        assert!(mended(count, length).is_err(), "{count} names of {length} bytes");
    }
}

#[test]
fn tagged_fields_stay_within_the_frame() {
    // Announced: 2^32-1 tagged fields; one of 2^31 bytes; one that ends outside the frame.
    for tail in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[1, 0, 0x80, 0x80, 0x80, 0x80, 0x08], &[1, 0, 2, 0]] {
        let bytes = [&[1, 1, 0][..], tail].concat();
        assert!(MetadataRequest::decode_whole(bytes.into(), 12).is_err());
    }
}

#[test]
fn nesting_is_bounded() {
    let mut decoder = Decoder::new(Bytes::new());
    for _ in 0..MAX_DEPTH {
        assert_eq!(decoder.enter_struct(), Ok(()));
    }
    assert_eq!(decoder.enter_struct(), Err(DecodeError::TooDeep));
}

#[test]
fn headers_and_sizes_from_anyone() {
    let mut source = Source::new(3);
    for _ in 0..100_000 {
        let length = source.below(40);
        let mut bytes: Vec<u8> = (0..length).map(|_| source.bits() as u8).collect();
        if let [first, key, high, low, ..] = bytes.as_mut_slice() {
            (*first, *high) = (0, 0);
            *key &= 63;
            *low &= 15;
        }
        let _ = RequestHeader::decode(&mut Decoder::new(bytes.into()));
    }
    assert_eq!(frame::check_size([0xff; 4], 100), Err(frame::FrameError::Negative(-1)));
    assert_eq!(
        frame::check_size(*b"GET ", frame::MAX_REQUEST_SIZE),
        Err(frame::FrameError::TooLarge { size: 0x4745_5420, max: frame::MAX_REQUEST_SIZE })
    );
    assert_eq!(frame::check_size([0, 0, 0, 100], 100), Ok(100));
}

/// Decodes a private message as request and as response, and holds the memory it takes to the limit.
fn decode_private(bytes: &[u8], key: PrivateApiKey) -> [Result<(), DecodeError>; 2] {
    let frame = Bytes::copy_from_slice(bytes);
    let length = frame.len();
    let (results, peak) = peak_of(move || key.decode_both(&frame));
    let limit = allocation_limit(length) + BESIDE_VECTORS;
    assert!(peak <= limit, "{}: {peak} bytes for a frame of {length}", key.name());
    results
}

#[test]
fn private_messages_are_bounded_like_public_ones() {
    let mut cut = 0;
    for &key in PrivateApiKey::ALL {
        for seed in 0..40 {
            let mut source = Source::new(seed << 32 | u64::from(key.code().cast_unsigned()));
            for (direction, bytes) in key.generate_both(&mut source).into_iter().enumerate() {
                if bytes.len() > 4096 {
                    continue;
                }
                for length in 0..bytes.len() {
                    let result = &decode_private(&bytes[..length], key)[direction];
                    assert!(result.is_err(), "{}, {length} of {} bytes", key.name(), bytes.len());
                    cut += 1;
                }
                for place in 0..bytes.len() {
                    for hostile in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff, 0xff, 0x7f], &[0xff, 0xff], &[0x7f]] {
                        let mut changed = bytes.to_vec();
                        let end = (place + hostile.len()).min(changed.len());
                        changed[place..end].copy_from_slice(&hostile[..end - place]);
                        let _ = decode_private(&changed, key);
                    }
                }
                let longer = [&bytes, &[0][..]].concat();
                let result = &decode_private(&longer, key)[direction];
                assert!(matches!(result, Err(DecodeError::TrailingBytes { left: 1, .. })), "{result:?}");
            }
            let length = source.below(300);
            let random: Vec<u8> = (0..length).map(|_| source.bits() as u8).collect();
            let _ = decode_private(&random, key);
        }
    }
    assert!(cut > 5_000, "{cut}");
}

#[test]
fn a_quorum_message_with_hostile_counts_allocates_nothing() {
    let message = QuorumMessage::default().to_bytes(0).expect("encodes");
    // Its last byte is the number of tagged fields. One: the answer to a fetch (tag 1) with 2^28 batches.
    let mut bytes = message[..message.len() - 1].to_vec();
    let body = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x00];
    bytes.extend([1, 1, body.len() as u8]);
    bytes.extend(body);
    let frame = Bytes::from(bytes);
    let (result, peak) = peak_of(|| QuorumMessage::decode_whole(frame, 0));
    assert!(matches!(result, Err(DecodeError::CountTooLarge { .. })), "{result:?}");
    assert!(peak < BESIDE_VECTORS, "{peak}");
}

#[test]
fn private_headers_from_anyone() {
    let mut source = Source::new(5);
    let mut read = 0;
    for _ in 0..100_000 {
        let length = source.below(40);
        let mut bytes: Vec<u8> = (0..length).map(|_| source.bits() as u8).collect();
        if let [high, low, ..] = bytes.as_mut_slice() {
            let key = FIRST_PRIVATE_KEY + source.below(12) as i16;
            [*high, *low] = key.to_be_bytes();
        }
        // A client id of no or a few bytes, and few tagged fields, so that some get to the end.
        bytes.iter_mut().skip(8).for_each(|byte| *byte &= 3);
        read += usize::from(PrivateHeader::decode(&mut Decoder::new(bytes.into())).is_ok());
    }
    assert!(read > 0, "some of them are headers");
    assert!(!PrivateHeader::is_private(&[0x27]));
    assert!(!PrivateHeader::is_private(&[0, 1, 0]));
    assert!(PrivateHeader::is_private(&FIRST_PRIVATE_KEY.to_be_bytes()));
}
