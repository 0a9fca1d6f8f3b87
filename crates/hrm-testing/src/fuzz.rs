//! Damaged and arbitrary bytes for a reader: flips, cuts, insertions, doublings, splices of valid files. On stable Rust, without
//! feedback from coverage: libFuzzer needs a nightly compiler, which is not part of this project.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Gives `read` damaged forms of `valid` files for a moment, or for `HRM_FUZZ_SECONDS`. It may refuse them, and must not panic.
/// Bytes that made it panic are left in the folder for temporary files.
///
/// # Panics
/// If `read` does.
pub fn fuzz(name: &str, valid: &[Vec<u8>], read: impl Fn(&[u8])) {
    let seconds = std::env::var("HRM_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0.3);
    // Another seed each time, where somebody asked for it.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let seed = if seconds > 1.0 { now } else { 1 };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (start, mut tries) = (Instant::now(), 0u64);
    while start.elapsed() < Duration::from_secs_f64(seconds) || tries < 50 {
        let bytes = damaged(valid, &mut rng);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| read(&bytes))) {
            let path = std::env::temp_dir().join(format!("fuzz-{name}-{tries}"));
            let _ = std::fs::write(&path, &bytes);
            eprintln!("{name}: seed {seed}, try {tries}: the bytes are in {}", path.display());
            resume_unwind(panic);
        }
        tries += 1;
    }
    println!("{name}: {tries} inputs in {:.1} s", start.elapsed().as_secs_f64());
}

fn damaged(valid: &[Vec<u8>], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = match rng.random_range(0..16) {
        0 => (0..rng.random_range(0..200)).map(|_| rng.random()).collect(),
        _ => valid[rng.random_range(0..valid.len())].clone(),
    };
    for _ in 0..rng.random_range(1..5) {
        let len = bytes.len();
        let at = rng.random_range(0..=len);
        let some = rng.random_range(0..=(len - at).min(40));
        match rng.random_range(0..8) {
            0 if at < len => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < len => {
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b'"', b'['][rng.random_range(0..9)]
            }
            2 => drop(bytes.drain(at..at + some)),
            3 => {
                let part = bytes[at..at + some].to_vec();
                bytes.splice(at..at, part);
            }
            4 => bytes.truncate(at),
            5 => {
                let other = &valid[rng.random_range(0..valid.len())];
                let from = rng.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            6 => bytes[at..at + some].fill(rng.random()),
            _ => {
                // A number that is larger than it was.
                let digits = bytes.iter().skip(at).position(u8::is_ascii_digit);
                if let Some(digit) = digits {
                    let many = vec![b'9'; rng.random_range(1..25)];
                    bytes.splice(at + digit..at + digit, many);
                }
            }
        }
    }
    bytes
}
