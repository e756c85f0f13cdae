// SPDX-License-Identifier: Apache-2.0
//! The codecs: round trips, the forms that other writers use, damage, and bombs.

use std::io::Write as _;

use odradek_records::{Compression, DecompressError, compress, decompress};
use proptest::prelude::*;

const LIMIT: usize = 1024 * 1024;

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|i| b"odradek spool of thread "[(i + i / 700) % 24]).collect()
}

fn damaged(result: &Result<Vec<u8>, DecompressError>) -> bool {
    matches!(result, Err(DecompressError::Damaged { .. }))
}

#[test]
fn everything_compressed_reads_back_and_every_truncation_is_noticed() {
    for codec in Compression::ALL {
        for length in [0, 1, 100, 32 * 1024, 65_536, 65_537, 300_000] {
            let plain = text(length);
            let packed = compress(codec, &plain);
            assert!(decompress(codec, &packed, length) == Ok(plain), "{codec:?} {length}");
        }
        if codec == Compression::None {
            continue;
        }
        let plain = text(40_000);
        let packed = compress(codec, &plain);
        assert!(packed.len() < 20_000, "{codec:?} compresses");
        for cut in 0..packed.len() {
            // A cut between two blocks or inside the trailer cannot give other bytes than a beginning of the text.
            match decompress(codec, &packed[..cut], LIMIT) {
                Err(DecompressError::Damaged { .. }) => {}
                Ok(begin) => assert!(
                    plain.starts_with(&begin) && (codec == Compression::Snappy || begin.is_empty()),
                    "{codec:?} cut at {cut}"
                ),
                Err(error) => panic!("{codec:?} cut at {cut}: {error}"),
            }
        }
    }
}

#[test]
fn flipped_bits_never_panic_nor_exceed_the_limit() {
    for codec in Compression::ALL {
        let packed = compress(codec, &text(3_000));
        for bit in 0..packed.len() * 8 {
            let mut flipped = packed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(bytes) = decompress(codec, &flipped, 4_000) {
                assert!(bytes.len() <= 4_000);
            }
        }
    }
}

#[test]
fn the_limit_holds_to_the_byte() {
    for codec in Compression::ALL {
        let packed = compress(codec, &text(200_000));
        assert!(decompress(codec, &packed, 200_000).is_ok());
        assert_eq!(decompress(codec, &packed, 199_999), Err(DecompressError::TooLarge { limit: 199_999 }));
    }
}

#[test]
fn bombs_are_refused_at_the_limit() {
    let zeros = vec![0; 64 * LIMIT];
    for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd, Compression::Snappy] {
        let bomb = compress(codec, &zeros);
        assert!(bomb.len() < 4 * LIMIT, "{codec:?}: {}", bomb.len());
        assert_eq!(decompress(codec, &bomb, LIMIT), Err(DecompressError::TooLarge { limit: LIMIT }), "{codec:?}");
    }
    // A raw snappy block that declares 4 GiB in five bytes.
    assert!(damaged(&decompress(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0], LIMIT)));
}

#[test]
fn snappy_is_read_raw_and_in_concatenated_frames() {
    let plain = text(50_000);
    let raw = snap::raw::Encoder::new().compress_vec(&plain).expect("compresses");
    assert_eq!(decompress(Compression::Snappy, &raw, LIMIT).as_ref(), Ok(&plain));
    let framed = compress(Compression::Snappy, &plain);
    assert_eq!(&framed[..16], b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    let twice = [framed.clone(), framed].concat();
    assert_eq!(decompress(Compression::Snappy, &twice, LIMIT), Ok([plain.clone(), plain].concat()));
}

#[test]
fn gzip_members_and_zstd_frames_may_follow_each_other() {
    for codec in [Compression::Gzip, Compression::Zstd] {
        let (one, two) = (text(1_000), text(70_000));
        let packed = [compress(codec, &one), compress(codec, &two)].concat();
        assert!(decompress(codec, &packed, LIMIT) == Ok([one, two].concat()), "{codec:?}");
    }
    let trailing = [compress(Compression::Gzip, b"abc"), vec![0, 0, 0]].concat();
    assert_eq!(decompress(Compression::Gzip, &trailing, LIMIT), Ok(b"abc".to_vec()));
}

#[test]
fn zstd_of_the_highest_level_and_without_a_declared_size_is_read() {
    let plain = text(500_000);
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 22).expect("an encoder");
    encoder.write_all(&plain).expect("memory");
    let packed = encoder.finish().expect("memory");
    assert_eq!(decompress(Compression::Zstd, &packed, LIMIT), Ok(plain));
}

#[test]
fn lz4_is_read_with_every_block_size_and_checksum_but_not_with_linked_blocks() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let plain = text(700_000);
    let pack = |info: FrameInfo| {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&plain).expect("memory");
        encoder.finish().expect("memory")
    };
    for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
        for checksums in [false, true] {
            let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(size);
            let info = info.block_checksums(checksums).content_checksum(checksums);
            let info = info.content_size(checksums.then_some(plain.len() as u64));
            let packed = pack(info);
            assert_eq!(decompress(Compression::Lz4, &packed, LIMIT).as_ref(), Ok(&plain));
            let mut broken = packed.clone();
            broken[30] ^= 1;
            assert!(!checksums || damaged(&decompress(Compression::Lz4, &broken, LIMIT)));
            broken = packed;
            broken[5] ^= 1;
            assert!(damaged(&decompress(Compression::Lz4, &broken, LIMIT)));
        }
    }
    let linked = pack(FrameInfo::new().block_mode(BlockMode::Linked).block_size(BlockSize::Max64KB));
    assert!(damaged(&decompress(Compression::Lz4, &linked, LIMIT)));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), id in 0..5u8) {
        let codec = Compression::from_id(id).expect("a codec");
        if let Ok(out) = decompress(codec, &bytes, 10_000) {
            prop_assert!(out.len() <= 10_000);
        }
        prop_assert_eq!(decompress(codec, &compress(codec, &bytes), bytes.len()), Ok(bytes));
    }
}
