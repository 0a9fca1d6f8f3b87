//! Reading what strangers wrote: no more memory than the bytes at hand justify.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

/// What any compressed file may unfold to.
const FLOOR: u64 = 1 << 26;
/// What else for each of its bytes. Token arrays, mostly padding, reach 100; an array of nothing but zeros 1,000.
const RATIO: u64 = 200;
/// The longest record of a table: far above the 1,250 bytes of a 25x25 puzzle with its solution.
pub(crate) const MAX_RECORD: u64 = 1 << 20;

/// The content of a gzip stream, up to 64 MiB and 200 times its length.
pub(crate) struct Unpacked<R> {
    decoder: MultiGzDecoder<Counted<R>>,
    unpacked: u64,
    floor: u64,
}

/// Counts the bytes that are taken from a reader.
struct Counted<R> {
    reader: R,
    count: u64,
}

impl<R: BufRead> Unpacked<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { decoder: MultiGzDecoder::new(Counted { reader, count: 0 }), unpacked: 0, floor: FLOOR }
    }
}

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.unpacked += read as u64;
        let packed = self.decoder.get_ref().count;
        let limit = self.floor.saturating_add(packed.saturating_mul(RATIO));
        if self.unpacked > limit {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "expected a compressed file that unfolds to at most {} MiB and {RATIO} times its size, got more than {limit} bytes from {packed}; if it is what it should be, unpack it first",
                    FLOOR >> 20
                ),
            ));
        }
        Ok(read)
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.count += read as u64;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.count += amount as u64;
        self.reader.consume(amount);
    }
}

/// How many bytes a record may still take, shared between the one who reads bytes and the one who reads records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget(Arc<AtomicU64>);

impl Budget {
    /// A record is complete: the next one may be as long again.
    pub(crate) fn renew(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A reader that fails when a record does not end.
pub(crate) struct Metered<R> {
    reader: R,
    budget: Budget,
}

impl<R: Read> Metered<R> {
    pub(crate) fn new(reader: R, budget: &Budget) -> Self {
        Self { reader, budget: budget.clone() }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let used = self.budget.0.fetch_add(read as u64, Ordering::Relaxed);
        if read > 0 && used > MAX_RECORD {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "expected records of at most {MAX_RECORD} bytes, got a longer one; look for a quote that does not end, or for blank lines without end"
                ),
            ));
        }
        Ok(read)
    }
}

/// A text file of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        let what = format!("expected at most {limit} bytes, got more");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn honest_files_unfold_and_bombs_do_not() {
        let mut text = String::new();
        Unpacked::new(&packed(b"hello")[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        // 10 MiB from 10 kB: a thousandfold.
        let bomb = packed(&vec![0; 10 << 20]);
        let unfold = |floor| {
            let mut out = Vec::new();
            let mut reader = Unpacked { floor, ..Unpacked::new(&bomb[..]) };
            let result = reader.read_to_end(&mut out).map_err(|error| error.to_string());
            (result, out.len())
        };
        assert_eq!(unfold(1 << 24), (Ok(10 << 20), 10 << 20));
        let (result, length) = unfold(1 << 20);
        assert!(result.unwrap_err().contains("unpack it first"));
        assert!(length < 4 << 20, "{length}");
    }

    #[test]
    fn records_must_end() {
        let budget = Budget::default();
        let mut reader = Metered::new(io::repeat(b'x'), &budget);
        let mut buffer = vec![0; 1 << 19];
        for _ in 0..20 {
            reader.read_exact(&mut buffer).unwrap();
            budget.renew();
        }
        assert!((0..4).any(|_| reader.read_exact(&mut buffer).is_err()));
    }

    #[test]
    fn texts_are_limited() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        assert_eq!(read_text(file.path(), 5).unwrap(), "12345");
        assert!(read_text(file.path(), 4).unwrap_err().to_string().contains("at most 4 bytes"));
    }
}
