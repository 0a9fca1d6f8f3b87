//! Reading and writing the `.npy` arrays of a dataset: integers, one or two axes, C order.
//!
//! Strict and safe: memory grows with the bytes that are really there, never with what a header claims, and what is compressed
//! may not unfold without limit. The files
//! written are byte for byte those of numpy (format 1.0, data aligned to 64 bytes).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::bounded::Unpacked;

/// Headers of integer arrays are about 100 bytes; numpy's own limit for safe reading is 10,000.
const MAX_HEADER: usize = 10_000;

/// Why an array cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NpyError {
    /// The file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Not an npy file, or one of a kind that no dataset has.
    #[error("{}: expected {expected}, got {got}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What a dataset has.
        expected: &'static str,
        /// What the file has.
        got: String,
    },
    /// The data are shorter or longer than the header says.
    #[error("{}: expected {expected} bytes of data for shape {shape:?} of {item} bytes each, got {got}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The header's shape.
        shape: Vec<usize>,
        /// Bytes of one element.
        item: usize,
        /// Bytes that the header promises.
        expected: u64,
        /// Bytes found; for a file that is too long, one more than expected.
        got: u64,
    },
    /// A number that does not fit the type it is read as.
    #[error("{}: expected elements from {min} to {max}, got {got} at index {index}", path.display())]
    Range {
        /// The file.
        path: PathBuf,
        /// Smallest legal element.
        min: i64,
        /// Largest legal element.
        max: i64,
        /// The element found.
        got: i64,
        /// Where, counted in elements.
        index: usize,
    },
}

/// An element type that is read.
#[derive(Clone, Copy, Debug)]
struct Kind {
    size: usize,
    signed: bool,
}

impl Kind {
    fn from_descr(descr: &str) -> Option<Self> {
        let name = descr.strip_prefix(['<', '|']).unwrap_or(descr);
        let signed = name.starts_with('i');
        let size =
            name.strip_prefix(['u', 'i']).filter(|size| ["1", "2", "4", "8"].contains(size))?.parse().ok()?;
        // Elements of several bytes say in which order these are.
        (size == 1 || descr.starts_with('<')).then_some(Self { size, signed })
    }
}

/// An array as read: integers of one of the usual types.
#[derive(Clone, Debug)]
pub struct IntArray {
    path: PathBuf,
    kind: Kind,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl IntArray {
    /// Reads `path`; gzip is recognised by its first bytes.
    ///
    /// # Errors
    /// [`NpyError`] if the file cannot be read or is no integer array of one or two axes in C order.
    pub fn read(path: &Path) -> Result<Self, NpyError> {
        let io = |source| NpyError::Io { path: path.to_owned(), source };
        let mut file = BufReader::new(File::open(path).map_err(io)?);
        if file.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]) {
            Self::from_reader(Unpacked::new(file), path)
        } else {
            Self::from_reader(file, path)
        }
    }

    /// Reads an array from a stream; `name` stands for the file in messages.
    ///
    /// # Errors
    /// As [`IntArray::read`].
    pub fn from_reader(mut reader: impl Read, name: &Path) -> Result<Self, NpyError> {
        let path = name.to_owned();
        let io = |source| NpyError::Io { path: name.to_owned(), source };
        let wrong = |expected, got: String| NpyError::Header { path: name.to_owned(), expected, got };
        let mut start = Vec::new();
        reader.by_ref().take(8).read_to_end(&mut start).map_err(io)?;
        if start.len() < 8 || !start.starts_with(b"\x93NUMPY") {
            return Err(wrong("an npy file (starting with \\x93NUMPY)", "something else".to_owned()));
        }
        let width = match start[6] {
            1 => 2,
            2 | 3 => 4,
            version => return Err(wrong("npy format 1, 2 or 3", format!("format {version}"))),
        };
        let mut length = [0u8; 4];
        reader.read_exact(&mut length[..width]).map_err(io)?;
        let header_length = u32::from_le_bytes(length) as usize;
        if header_length > MAX_HEADER {
            return Err(wrong("a header of at most 10,000 bytes", format!("{header_length} bytes")));
        }
        let mut header = vec![0u8; header_length];
        reader.read_exact(&mut header).map_err(io)?;
        let header = String::from_utf8_lossy(&header).into_owned();
        let Some(fields) = Fields::parse(&header) else {
            let expected = "a header with 'descr', 'fortran_order' and 'shape'";
            return Err(wrong(expected, format!("{:?}", header.trim_end())));
        };
        let Some(kind) = Kind::from_descr(&fields.descr) else {
            return Err(wrong(
                "little-endian integers ('|u1', '<i4', ...)",
                format!("elements of type {:?}", fields.descr),
            ));
        };
        if fields.fortran_order && fields.shape.len() > 1 {
            return Err(wrong("C order", "Fortran order".to_owned()));
        }
        let shape = fields.shape;
        if !matches!(shape.len(), 1 | 2) {
            return Err(wrong("one or two axes", format!("shape {shape:?}")));
        }
        let expected = shape
            .iter()
            .try_fold(kind.size as u64, |product, &n| product.checked_mul(n as u64))
            .filter(|&bytes| bytes < u64::MAX);
        let Some(expected) = expected else {
            return Err(wrong("a size that can be addressed", format!("shape {shape:?}")));
        };
        let mut bytes = Vec::new();
        reader.take(expected + 1).read_to_end(&mut bytes).map_err(io)?;
        let got = bytes.len() as u64;
        if got != expected {
            return Err(NpyError::Truncated { path, shape, item: kind.size, expected, got });
        }
        Ok(Self { path, kind, shape, bytes })
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements in C order as numbers from 0 to `max`.
    ///
    /// # Errors
    /// [`NpyError::Range`] with the first element that is outside.
    pub fn into_u8(self, max: u8) -> Result<Vec<u8>, NpyError> {
        if self.kind.size == 1 && !self.kind.signed {
            return match self.bytes.iter().position(|&v| v > max) {
                None => Ok(self.bytes),
                Some(index) => Err(self.out_of_range(0, i64::from(max), i64::from(self.bytes[index]), index)),
            };
        }
        self.convert(0, i64::from(max), |v| v as u8)
    }

    /// The elements in C order as numbers from 0 to `max`.
    ///
    /// # Errors
    /// [`NpyError::Range`] with the first element that is outside.
    pub fn into_u32(self, max: u32) -> Result<Vec<u32>, NpyError> {
        self.convert(0, i64::from(max), |v| v as u32)
    }

    fn convert<T>(&self, min: i64, max: i64, cast: impl Fn(i64) -> T) -> Result<Vec<T>, NpyError> {
        let mut out = Vec::with_capacity(self.bytes.len() / self.kind.size);
        for (index, item) in self.bytes.chunks_exact(self.kind.size).enumerate() {
            let value = self.element(item);
            if value < min || value > max {
                return Err(self.out_of_range(min, max, value, index));
            }
            out.push(cast(value));
        }
        Ok(out)
    }

    fn element(&self, item: &[u8]) -> i64 {
        let mut wide = [0u8; 8];
        wide[..item.len()].copy_from_slice(item);
        let value = u64::from_le_bytes(wide);
        if !self.kind.signed {
            return i64::try_from(value).unwrap_or(i64::MAX);
        }
        let unused = 64 - 8 * item.len();
        (value << unused) as i64 >> unused
    }

    fn out_of_range(&self, min: i64, max: i64, got: i64, index: usize) -> NpyError {
        NpyError::Range { path: self.path.clone(), min, max, got, index }
    }
}

/// The fields of a header, which is a literal of Python: with other quotes, brackets and truths it is JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Fields {
    fn parse(header: &str) -> Option<Self> {
        let text: String = header.chars().filter(|c| !c.is_whitespace()).collect();
        let pairs = [
            ("'", "\""),
            ("(", "["),
            (")", "]"),
            ("True", "true"),
            ("False", "false"),
            (",]", "]"),
            (",}", "}"),
        ];
        let json = pairs.iter().fold(text, |text, (python, json)| text.replace(python, json));
        serde_json::from_str(&json).ok()
    }
}

/// Writes bytes as an array of `|u1` with the given shape.
///
/// # Errors
/// [`NpyError::Io`] if the file cannot be written.
pub fn write_u8(path: &Path, shape: &[usize], data: &[u8]) -> Result<(), NpyError> {
    write(path, "|u1", shape, |out| out.write_all(data))
}

/// Writes bytes as they come: `data` must write as many as `shape` says.
pub(crate) fn write_u8_with(
    path: &Path,
    shape: &[usize],
    data: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), NpyError> {
    write(path, "|u1", shape, data)
}

/// Writes numbers as an array of `<i4` with one axis.
///
/// # Errors
/// [`NpyError::Io`] if the file cannot be written, or a number is beyond `i32::MAX`.
pub fn write_i32(path: &Path, data: &[u32]) -> Result<(), NpyError> {
    write(path, "<i4", &[data.len()], |out| {
        for &value in data {
            let value = i32::try_from(value)
                .map_err(|_| io::Error::other(format!("{value} does not fit 32 bits")))?;
            out.write_all(&value.to_le_bytes())?;
        }
        Ok(())
    })
}

fn write(
    path: &Path,
    descr: &str,
    shape: &[usize],
    data: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), NpyError> {
    let write = || -> io::Result<()> {
        let mut out = io::BufWriter::new(File::create(path)?);
        out.write_all(&header(descr, shape))?;
        data(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    };
    write().map_err(|source| NpyError::Io { path: path.to_owned(), source })
}

/// The header that numpy writes: padded with spaces to a multiple of 64, with room for the first axis to grow.
fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let axes: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let axes = if axes.len() == 1 { format!("{},", axes[0]) } else { axes.join(", ") };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({axes}), }}");
    let first = shape.first().map_or(0, |n| n.to_string().len());
    text.extend(std::iter::repeat_n(' ', 21usize.saturating_sub(first)));
    let padding = 64 - (10 + text.len() + 1) % 64;
    text.extend(std::iter::repeat_n(' ', padding));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<IntArray, String> {
        IntArray::from_reader(bytes, Path::new("a.npy")).map_err(|e| e.to_string())
    }

    fn array(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
        let mut bytes = header(descr, shape);
        bytes.extend(data);
        bytes
    }

    #[test]
    fn round_trip_and_types() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        write_u8(&path, &[2, 3], &[1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 128 + 6);
        let back = IntArray::read(&path).unwrap();
        assert_eq!(back.shape(), [2, 3]);
        assert_eq!(back.into_u8(6).unwrap(), [1, 2, 3, 4, 5, 6]);
        write_i32(&path, &[0, 7, 70_000]).unwrap();
        assert_eq!(IntArray::read(&path).unwrap().into_u32(70_000).unwrap(), [0, 7, 70_000]);
        assert!(write_i32(&path, &[u32::MAX]).is_err());
        let i64s = array("<i8", &[2], &[5, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
        let error = read(&i64s).unwrap().into_u8(9).unwrap_err().to_string();
        assert_eq!(error, "a.npy: expected elements from 0 to 9, got -1 at index 1");
        let error = read(&array("|u1", &[2], &[9, 10])).unwrap().into_u8(9).unwrap_err().to_string();
        assert_eq!(error, "a.npy: expected elements from 0 to 9, got 10 at index 1");
        assert_eq!(read(&array("<i4", &[1, 1], &[3, 0, 0, 0])).unwrap().into_u8(9).unwrap(), [3]);
    }

    #[test]
    fn same_bytes_as_numpy() {
        let Some(dir) = crate::testdata::data_dir() else {
            return;
        };
        let target = tempfile::tempdir().unwrap();
        for (name, axes) in [
            ("all__inputs", 2),
            ("all__labels", 2),
            ("all__group_indices", 1),
            ("all__puzzle_identifiers", 1),
        ] {
            let path = dir.join(format!("npy-sudoku/{name}.npy"));
            let array = IntArray::read(&path).unwrap();
            assert_eq!(array.shape().len(), axes);
            let copy = target.path().join(name);
            let shape = array.shape().to_vec();
            match axes {
                2 => write_u8(&copy, &shape, &array.into_u8(10).unwrap()).unwrap(),
                _ => write_i32(&copy, &array.into_u32(1000).unwrap()).unwrap(),
            }
            assert!(std::fs::read(&path).unwrap() == std::fs::read(&copy).unwrap(), "{name} differs");
        }
    }

    #[test]
    fn bad_files_are_refused() {
        let good = array("|u1", &[2, 2], &[1, 2, 3, 4]);
        assert!(read(&good).is_ok());
        let error = |bytes: &[u8]| read(bytes).unwrap_err();
        assert!(error(&good[..good.len() - 1]).contains("expected 4 bytes of data for shape [2, 2]"));
        assert!(error(&array("|u1", &[2, 2], &[1; 5])).contains("got 5"));
        assert!(error(&good[..20]).starts_with("a.npy: "));
        assert!(error(b"PK\x03\x04 not numpy").contains("expected an npy file"));
        assert!(error(b"").contains("expected an npy file"));
        assert!(error(&array("<f4", &[1], &[0; 4])).contains("\"<f4\""));
        assert!(error(&array(">i4", &[1], &[0; 4])).contains("\">i4\""));
        assert!(error(&array("|u1", &[1, 1, 1], &[0])).contains("one or two axes"));
        // Claims of 10^18 bytes cost nothing.
        assert!(error(&array("<i8", &[1 << 57, 4], &[0; 8])).contains("got 8"));
        assert!(error(&array("<i8", &[usize::MAX, usize::MAX], &[0; 8])).contains("addressed"));
        let mut huge_header = b"\x93NUMPY\x02\x00".to_vec();
        huge_header.extend(u32::MAX.to_le_bytes());
        assert!(error(&huge_header).contains("at most 10,000"));
        let fortran = String::from_utf8_lossy(&header("|u1", &[2, 2])[10..]).replace("False", "True ");
        let mut bytes = good[..10].to_vec();
        bytes.extend(fortran.as_bytes());
        bytes.extend([0; 4]);
        assert!(error(&bytes).contains("Fortran"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let mut with_magic = b"\x93NUMPY\x01\x00\x40\x00".to_vec();
            with_magic.extend(&bytes);
            let _ = read(&with_magic);
        }

        #[test]
        fn arbitrary_headers_never_panic(text in "[{}'descrfotanhp_ :,()0-9TrueFals|<ui]{0,80}") {
            let _ = Fields::parse(&text);
            let _ = Fields::parse(&format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({text}), }}"));
        }
    }
}
