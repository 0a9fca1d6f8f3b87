//! Files of `torch.save`: tensors by name, each checked against what the file holds.
//!
//! burn-store has a reader of this format too. At 0.21 it takes missing, short and out-of-range storages for zeros, ignores
//! strides, checks no CRC-32, and overflows the stack or allocates what a hostile file claims; none of that can be seen from
//! outside. So the format is read here: the zip archive by the `zip` crate, which checks each entry's CRC-32, and the
//! pickle in it by [`pickle`], which knows only the few functions that a state dict needs.
//!
//! Two layouts are read: the zip archive of PyTorch since 1.6 (`NAME/data.pkl`, `NAME/data/KEY`), and the one of 0.1.10 to 1.5
//! (pickles one after the other, then the storages), which has no checksums. An archive's entries must be stored, as
//! `torch.save` stores them: so no file takes more memory than a few times its size.

mod pickle;

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use burn::tensor::{Bytes, DType, Shape, TensorData};
use zip::{CompressionMethod, ZipArchive};

use self::pickle::{Pickle, Storage, Tensor};
use crate::weights::{StateDict, WeightsError};

/// Magic number of the old layout, as its first pickle.
const OLD_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// A file's tensors take at most so many times its size: tied weights are there several times.
const MAX_GROWTH: u64 = 16;
/// They may take so much in any case.
const SMALL: u64 = 16 << 20;

type Result<T> = std::result::Result<T, String>;

/// Reads every tensor of a file of `torch.save`, by its keys, joined by dots.
///
/// # Errors
/// If it is absent, damaged, or no such file.
pub(crate) fn read(path: &Path) -> std::result::Result<StateDict, WeightsError> {
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    let format =
        |reason: String| WeightsError::Format { path: path.to_owned(), format: "PyTorch checkpoint", reason };
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let mut start = [0; OLD_MAGIC.len()];
    let mut file = BufReader::new(file);
    let dict = match file.read_exact(&mut start).and_then(|()| file.rewind()) {
        Ok(()) if start.starts_with(b"PK") => read_zip(file, metadata.len()),
        Ok(()) if start == OLD_MAGIC => read_old(file, metadata.len()),
        _ => Err("expected a zip archive, as PyTorch writes them since 1.6, or its layout of before; load the file in \
                  PyTorch and save it again: torch.save(model.state_dict(), file)"
            .to_owned()),
    };
    let dict = dict.map_err(format)?;
    if dict.is_empty() {
        return Err(format("it holds no tensors".to_owned()));
    }
    Ok(dict)
}

/// The tensors of a pickle by name, once their sizes are known to be reasonable for a file of `length` bytes.
fn named<'a>(pickle: &'a Pickle<'_>, length: u64) -> Result<BTreeMap<String, &'a Tensor>> {
    let mut named = BTreeMap::new();
    let mut bytes = 0u64;
    for (name, tensor) in pickle.tensors()? {
        let size = tensor.len() as u64;
        bytes = bytes.saturating_add(size.saturating_mul(tensor.storage.dtype.size() as u64));
        if bytes > SMALL.max(length.saturating_mul(MAX_GROWTH)) {
            return Err(format!("its tensors would take over {bytes} bytes, from a file of {length} bytes"));
        }
        if let Some(other) = named.insert(name, tensor) {
            return Err(format!("two of its tensors have one name (one of shape {:?})", other.shape));
        }
    }
    Ok(named)
}

/// Builds the tensors, storage by storage; `read` gives the bytes of a storage by its key.
fn collect(
    pickle: &Pickle<'_>,
    named: BTreeMap<String, &Tensor>,
    mut read: impl FnMut(&str, &Storage, u64) -> Result<Vec<u8>>,
) -> Result<StateDict> {
    let mut users: BTreeMap<&str, Vec<(String, &Tensor)>> = BTreeMap::new();
    for (name, tensor) in named {
        users.entry(pickle.key(&tensor.storage)).or_default().push((name, tensor));
    }
    let mut dict = StateDict::new();
    for (key, tensors) in users {
        let (first, storage) = (&tensors[0].0, tensors[0].1.storage);
        if tensors.iter().any(|(_, t)| (t.storage.dtype, t.storage.len) != (storage.dtype, storage.len)) {
            return Err(format!("storage {key} of {first} is told of in two ways"));
        }
        let size = (storage.len as u64).checked_mul(storage.dtype.size() as u64);
        let size = size.ok_or_else(|| format!("storage {key} of {first} is larger than any file"))?;
        let bytes = read(key, &storage, size).map_err(|e| format!("tensor {first}: {e}"))?;
        if bytes.len() as u64 != size {
            return Err(format!("tensor {first}: storage {key} has {} bytes; expected {size}", bytes.len()));
        }
        if matches!(storage.dtype, DType::Bool(_)) && bytes.iter().any(|byte| *byte > 1) {
            return Err(format!("tensor {first}: storage {key} has values that are neither true nor false"));
        }
        for (name, tensor) in tensors {
            let data = Bytes::from_bytes_vec(view(&bytes, tensor));
            let data = TensorData::from_bytes(data, Shape::from(tensor.shape.clone()), storage.dtype);
            dict.insert(name, data);
        }
    }
    Ok(dict)
}

/// The numbers of a tensor, the last dimension innermost.
fn view(storage: &[u8], tensor: &Tensor) -> Vec<u8> {
    let (size, count) = (tensor.storage.dtype.size(), tensor.len());
    if count == 0 {
        return Vec::new();
    }
    if tensor.is_contiguous() {
        return storage[tensor.offset * size..][..count * size].to_vec();
    }
    let mut bytes = Vec::with_capacity(count * size);
    let mut index = vec![0; tensor.shape.len()];
    for _ in 0..count {
        let at: usize = index.iter().zip(&tensor.strides).map(|(i, stride)| i * stride).sum();
        bytes.extend_from_slice(&storage[(tensor.offset + at) * size..][..size]);
        for (i, size) in index.iter_mut().zip(&tensor.shape).rev() {
            *i += 1;
            if *i < *size {
                break;
            }
            *i = 0;
        }
    }
    bytes
}

fn read_zip(mut file: BufReader<File>, length: u64) -> Result<StateDict> {
    // Its last record says how many entries there are, as far as two bytes can. Of two that have one name, PyTorch would take
    // the other one.
    let mut end = [0; 22];
    let read = file.seek(SeekFrom::End(-22)).and_then(|_| file.read_exact(&mut end));
    let entries = usize::from(u16::from_le_bytes([end[10], end[11]]));
    let mut archive = ZipArchive::new(file).map_err(|e| format!("broken zip archive: {e}"))?;
    if read.is_err() || !end.starts_with(b"PK\x05\x06") || archive.offset() != 0 {
        return Err("broken zip archive: something stands before it or after its end".to_owned());
    }
    if entries != archive.len().min(usize::from(u16::MAX)) {
        return Err(format!("two of its {entries} entries have one name"));
    }
    let pickles: Vec<String> = archive
        .file_names()
        .filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl"))
        .map(str::to_owned)
        .collect();
    let [name] = pickles.as_slice() else {
        return Err(format!("expected one data.pkl in the archive, found {}", pickles.len()));
    };
    let folder = name.strip_suffix("data.pkl").unwrap_or_default().to_owned();
    let order = format!("{folder}byteorder");
    if archive.index_for_name(&order).is_some() && entry(&mut archive, &order, 16)? != b"little" {
        return Err("its numbers have another byte order than little-endian".to_owned());
    }
    let bytes = entry(&mut archive, name, pickle::MAX_BYTES as u64)?;
    let pickle = pickle::read(&bytes)?;
    let named = named(&pickle, length)?;
    // The archive's own list of sizes, before anything is read.
    for storage in pickle.storages() {
        let key = pickle.key(storage);
        let size = (storage.len as u64).checked_mul(storage.dtype.size() as u64);
        let found = archive.index_for_name(&format!("{folder}data/{key}"));
        let found = found.and_then(|index| archive.by_index_raw(index).ok().map(|entry| entry.size()));
        match found {
            None => return Err(format!("storage {key} is missing")),
            Some(found) if Some(found) != size => {
                return Err(format!(
                    "storage {key} has {found} bytes; expected {} numbers of {} bytes",
                    storage.len,
                    storage.dtype.size()
                ));
            }
            Some(_) => {}
        }
    }
    collect(&pickle, named, |key, _, size| entry(&mut archive, &format!("{folder}data/{key}"), size))
}

/// The bytes of an archive's entry, of up to `most`, after its CRC-32 was compared.
fn entry(archive: &mut ZipArchive<BufReader<File>>, name: &str, most: u64) -> Result<Vec<u8>> {
    let broken = |e: &dyn std::fmt::Display| format!("{name} in the archive: {e}");
    let index = archive.index_for_name(name).ok_or_else(|| broken(&"it is missing"))?;
    if archive.by_index_raw(index).map_err(|e| broken(&e))?.compression() != CompressionMethod::Stored {
        return Err(broken(
            &"it is compressed, which torch.save does not do; load it in PyTorch and save it again",
        ));
    }
    let mut entry = archive.by_index(index).map_err(|e| broken(&e))?;
    if entry.size() > most {
        return Err(broken(&format!("it has {} bytes; expected up to {most}", entry.size())));
    }
    let mut bytes = Vec::new();
    // One byte more than it may have: reading up to the very end is what compares the CRC-32.
    (&mut entry).take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| broken(&e))?;
    if bytes.len() as u64 != entry.size() {
        return Err(broken(&format!("it has {} bytes; expected {}", bytes.len(), entry.size())));
    }
    Ok(bytes)
}

/// The layout before the archives: magic number, version, system, object, names of storages; then for each storage how
/// many numbers it has, and its numbers.
fn read_old(mut file: BufReader<File>, length: u64) -> Result<StateDict> {
    let mut head = Vec::new();
    (&mut file).take(pickle::MAX_BYTES as u64).read_to_end(&mut head).map_err(|e| e.to_string())?;
    let mut at = 0;
    let mut next = || -> Result<Pickle<'_>> {
        let pickle = pickle::read(&head[at..])?;
        at += pickle.length;
        Ok(pickle)
    };
    let (_magic, _version, system) = (next()?, next()?, next()?);
    if system.flag("little_endian") == Some(false) {
        return Err("its numbers have another byte order than little-endian".to_owned());
    }
    let (pickle, keys) = (next()?, next()?);
    let keys = keys.texts().ok_or("it has no list of storages")?;
    let named = named(&pickle, length)?;
    let storages: HashMap<&str, &Storage> =
        pickle.storages().map(|storage| (pickle.key(storage), storage)).collect();
    let mut places = HashMap::new();
    let mut place = at as u64;
    for key in keys {
        let storage = storages.get(key).ok_or_else(|| format!("nothing tells of storage {key}"))?;
        let mut count = [0; 8];
        file.seek(SeekFrom::Start(place))
            .and_then(|_| file.read_exact(&mut count))
            .map_err(|e| e.to_string())?;
        let count = u64::from_le_bytes(count);
        let size = (storage.len as u64).checked_mul(storage.dtype.size() as u64);
        let end = size.and_then(|size| size.checked_add(place + 8)).filter(|end| *end <= length);
        let end = end.ok_or_else(|| format!("the file ends before storage {key} does (truncated?)"))?;
        if count != storage.len as u64 {
            return Err(format!("storage {key} has {count} numbers; expected {}", storage.len));
        }
        if places.insert(key, place + 8).is_some() {
            return Err(format!("storage {key} is there twice"));
        }
        place = end;
    }
    if place != length {
        return Err(format!("it has {length} bytes; expected {place}"));
    }
    collect(&pickle, named, |key, _, size| {
        let place = *places.get(key).ok_or_else(|| format!("storage {key} is missing"))?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(place))
            .and_then(|_| (&mut file).take(size).read_to_end(&mut bytes))
            .map_err(|e| e.to_string())?;
        Ok(bytes)
    })
}
