//! Files as `torch.save` writes them, put together operation by operation.
#![allow(dead_code, reason = "each test program uses a part")]

use std::io::{Cursor, Write};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A pickle, operation by operation.
#[derive(Clone, Default)]
pub struct Ops(pub Vec<u8>);

impl Ops {
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    pub fn text(self, text: &str) -> Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }
    pub fn int(self, number: i64) -> Self {
        self.raw(b"\x8a\x08").raw(&number.to_le_bytes())
    }
    pub fn tuple(self, numbers: &[i64]) -> Self {
        numbers.iter().fold(self.raw(b"("), |ops, number| ops.int(*number)).raw(b"t")
    }
    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }
}

/// A tensor as a pickle tells it.
#[derive(Clone)]
pub struct Spec {
    pub name: &'static str,
    pub kind: &'static str,
    pub key: &'static str,
    pub len: i64,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
}

pub fn spec(
    name: &'static str,
    key: &'static str,
    len: i64,
    offset: i64,
    shape: &[i64],
    strides: &[i64],
) -> Spec {
    Spec { name, kind: "FloatStorage", key, len, offset, shape: shape.to_vec(), strides: strides.to_vec() }
}

pub fn tensor(ops: Ops, spec: &Spec) -> Ops {
    ops.global("torch._utils", "_rebuild_tensor_v2")
        .raw(b"((")
        .text("storage")
        .global("torch", spec.kind)
        .text(spec.key)
        .text("cpu")
        .int(spec.len)
        .raw(b"tQ")
        .int(spec.offset)
        .tuple(&spec.shape)
        .tuple(&spec.strides)
        .raw(b"\x89")
        .global("collections", "OrderedDict")
        .raw(b")RtR")
}

/// The pickle of a state dict, with the attributes that PyTorch gives one.
pub fn pickle(specs: &[Spec]) -> Vec<u8> {
    let ops = Ops::default().raw(b"\x80\x02").global("collections", "OrderedDict").raw(b")R(");
    let ops = specs.iter().fold(ops, |ops, spec| tensor(ops.text(spec.name), spec));
    ops.raw(b"u}").text("_metadata").global("collections", "OrderedDict").raw(b")Rsb.").0
}

pub fn numbers(count: usize) -> Vec<u8> {
    (0..count).flat_map(|n| (n as f32 + 0.5).to_le_bytes()).collect()
}

/// An archive with this pickle and these storages.
pub fn archive(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut add = |name: String, bytes: &[u8]| {
        zip.start_file(name, options).expect("an entry");
        zip.write_all(bytes).expect("written");
    };
    add("model/data.pkl".to_owned(), pickle);
    add("model/byteorder".to_owned(), b"little");
    for (key, bytes) in storages {
        add(format!("model/data/{key}"), bytes);
    }
    zip.finish().expect("an archive").into_inner()
}

/// A valid file whose tensors are a matrix, a vector, and two views of one storage.
pub fn valid() -> (Vec<Spec>, Vec<u8>) {
    let specs = vec![
        spec("inner.a", "0", 6, 0, &[2, 3], &[3, 1]),
        spec("inner.b", "1", 4, 0, &[4], &[1]),
        spec("inner.c", "2", 6, 2, &[2], &[1]),
        spec("inner.d", "2", 6, 0, &[3, 2], &[1, 3]),
    ];
    let bytes = archive(&pickle(&specs), &[("0", &numbers(6)), ("1", &numbers(4)), ("2", &numbers(6))]);
    (specs, bytes)
}

/// The storages of [`valid`].
pub fn storages() -> [(&'static str, Vec<u8>); 3] {
    [("0", numbers(6)), ("1", numbers(4)), ("2", numbers(6))]
}

/// [`valid`] in the layout before the archives.
pub fn valid_old() -> Vec<u8> {
    let storages = storages();
    let storages: Vec<(&str, &[u8])> = storages.iter().map(|(key, bytes)| (*key, bytes.as_slice())).collect();
    old(&valid().0, &storages)
}

/// The layout of PyTorch before 1.6.
pub fn old(specs: &[Spec], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    bytes.extend(Ops::default().raw(b"\x80\x02}").text("little_endian").raw(b"\x88s.").0);
    let mut pickle = pickle(specs);
    // Its storages had one more value.
    let long = Ops::default().raw(b"tQ").0;
    while let Some(at) = pickle.windows(2).position(|two| *two == *long) {
        pickle.splice(at..at + 2, *b"NtP");
    }
    pickle.iter_mut().filter(|byte| **byte == b'P').for_each(|byte| *byte = b'Q');
    bytes.extend(pickle);
    let keys = storages.iter().fold(Ops::default().raw(b"\x80\x02]("), |ops, (key, _)| ops.text(key));
    bytes.extend(keys.raw(b"e.").0);
    for (_, storage) in storages {
        bytes.extend((storage.len() as u64 / 4).to_le_bytes());
        bytes.extend_from_slice(storage);
    }
    bytes
}
