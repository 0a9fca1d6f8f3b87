//! TensorBoard event files: scalars as protocol buffers in the record format of TensorFlow.
//!
//! The few messages that scalars need are written by hand; their field numbers are those of `event.proto` and
//! `summary.proto`. A record is its length, the masked CRC-32C of the length, the bytes, and the masked CRC of those.

use std::{
    fs, io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::disk::Log;

/// What every name of an event file contains.
const MARK: &str = "events.out.tfevents.";

/// An event file that scalars are appended to.
#[derive(Debug)]
pub struct EventWriter {
    file: Log,
}

impl EventWriter {
    /// Starts a file in a run's folder for the steps from `first_step` on. TensorBoard forgets what earlier files say
    /// about those steps: a resumed run does them again.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(folder: &Path, first_step: u64) -> io::Result<Self> {
        // TensorBoard reads the files of a folder by name, so a new name must come last.
        let mut seconds = seconds_now() as u64;
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(MARK));
            if let Some(taken) = rest.and_then(|rest| rest.split('.').next()?.parse::<u64>().ok()) {
                seconds = seconds.max(taken + 1);
            }
        }
        let name = format!("{MARK}{seconds:010}.{}.{}", super::environment::host(), std::process::id());
        let mut file = Log::open(&folder.join(name))?;
        let mut events = record(&event(0, |event| event.bytes(3, b"brain.Event:2")));
        events.extend(record(&event(first_step, |event| {
            // SessionLog { status: START }
            event.message(7, |log| log.varint(1, 1));
        })));
        file.append(&events)?;
        Ok(Self { file })
    }

    /// Appends values of a step.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn scalars<'a>(
        &mut self,
        step: u64,
        scalars: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> io::Result<()> {
        let event = event(step, |event| {
            event.message(5, |summary| {
                for (tag, value) in scalars {
                    summary.message(1, |entry| {
                        entry.bytes(1, tag.as_bytes());
                        entry.fixed(2, 5, &(value as f32).to_le_bytes());
                    });
                }
            });
        });
        self.file.append(&record(&event))
    }
}

fn seconds_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// An `Event` of now with its payload.
fn event(step: u64, payload: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut event = Message(Vec::new());
    event.fixed(1, 1, &seconds_now().to_le_bytes());
    event.varint(2, step);
    payload(&mut event);
    event.0
}

/// A message of protocol buffers under construction.
struct Message(Vec<u8>);

impl Message {
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.raw_varint(field << 3 | wire_type);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    /// A double (wire type 1) or a float (5), little-endian.
    fn fixed(&mut self, field: u64, wire_type: u64, bytes: &[u8]) {
        self.key(field, wire_type);
        self.0.extend_from_slice(bytes);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.raw_varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, fill: impl FnOnce(&mut Message)) {
        let mut inner = Message(Vec::new());
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// A CRC that may itself be part of what another CRC covers.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit over a table made at compile time.
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc, &byte| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of a message: number, and the varint or the bytes.
    fn fields(mut data: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
        fn varint(data: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let byte = data[0];
                *data = &data[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        }
        let mut found = Vec::new();
        while !data.is_empty() {
            let key = varint(&mut data);
            let (number, bytes) = match key & 7 {
                0 => (varint(&mut data), 0),
                1 => (0, 8),
                2 => (0, varint(&mut data) as usize),
                5 => (0, 4),
                other => panic!("wire type {other}"),
            };
            found.push((key >> 3, number, data[..bytes].to_vec()));
            data = &data[bytes..];
        }
        found
    }

    fn records(mut data: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while !data.is_empty() {
            let length = u64::from_le_bytes(data[..8].try_into().unwrap()) as usize;
            let crc = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
            assert_eq!(crc(8), masked_crc(&data[..8]));
            assert_eq!(crc(12 + length), masked_crc(&data[12..12 + length]));
            found.push(data[12..12 + length].to_vec());
            data = &data[16 + length..];
        }
        found
    }

    #[test]
    fn checksums_are_castagnoli() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn scalars_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(dir.path(), 301).unwrap();
        writer.scalars(301, [("train/loss", 0.5), ("train/lr", 1e-4)]).unwrap();
        // A second file in the same second sorts behind the first.
        let mut second = EventWriter::create(dir.path(), 302).unwrap();
        second.scalars(1 << 40, [("a", -1.0)]).unwrap();
        let mut files: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let events = |file: usize| -> Vec<_> {
            records(&fs::read(&files[file]).unwrap()).iter().map(|record| fields(record)).collect()
        };
        let first = events(0);
        assert_eq!(first.len(), 3);
        assert_eq!(first[0][2], (3, 0, b"brain.Event:2".to_vec()));
        assert_eq!((first[1][1].1, fields(&first[1][2].2)), (301, vec![(1, 1, Vec::new())]));
        let time = f64::from_le_bytes(first[2][0].2[..].try_into().unwrap());
        assert!((seconds_now() - time).abs() < 60.0);
        assert_eq!((first[2][1].0, first[2][1].1), (2, 301));
        let values: Vec<_> = fields(&first[2][2].2).into_iter().map(|(_, _, value)| fields(&value)).collect();
        assert_eq!(values[0], [(1, 0, b"train/loss".to_vec()), (2, 0, 0.5f32.to_le_bytes().to_vec())]);
        assert_eq!(values[1], [(1, 0, b"train/lr".to_vec()), (2, 0, 1e-4f32.to_le_bytes().to_vec())]);
        assert_eq!(events(1)[2][1].1, 1 << 40);
    }
}
