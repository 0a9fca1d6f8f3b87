//! Files of `torch.save`: what they hold is read as PyTorch would, and what is missing, damaged or hostile is refused.

mod torch;

use std::fs;

use burn::tensor::DType;
use hrm_model::weights::{self, StateDict};

use torch::{Ops, Spec, archive, numbers, old, pickle, spec, tensor, valid};

fn read(bytes: &[u8]) -> Result<StateDict, String> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model.pt");
    fs::write(&path, bytes).expect("written");
    weights::read(&path).map_err(|e| e.to_string())
}

#[track_caller]
fn refused(bytes: &[u8], says: &str) {
    match read(bytes) {
        Ok(dict) => panic!("read {:?}; expected an error about {says:?}", dict.keys()),
        Err(error) => assert!(error.contains(says) && error.contains("model.pt"), "{error}"),
    }
}

#[test]
fn views_are_read_as_pytorch_means_them() {
    let (_, bytes) = valid();
    let dict = read(&bytes).expect("a valid file");
    let of = |name: &str| (dict[name].shape.to_vec(), dict[name].to_vec::<f32>().expect("fp32"));
    assert_eq!(of("inner.a"), (vec![2, 3], vec![0.5, 1.5, 2.5, 3.5, 4.5, 5.5]));
    assert_eq!(of("inner.b"), (vec![4], vec![0.5, 1.5, 2.5, 3.5]));
    assert_eq!(of("inner.c"), (vec![2], vec![2.5, 3.5]), "an offset");
    assert_eq!(of("inner.d"), (vec![3, 2], vec![0.5, 3.5, 1.5, 4.5, 2.5, 5.5]), "transposed");

    // One number for all, a scalar, no number at all.
    let specs = [
        spec("expanded", "0", 2, 1, &[2, 2], &[0, 0]),
        spec("scalar", "0", 2, 1, &[], &[]),
        spec("empty", "0", 2, 0, &[0, 7], &[7, 1]),
    ];
    let dict = read(&archive(&pickle(&specs), &[("0", &numbers(2))])).expect("a valid file");
    assert_eq!(dict["expanded"].to_vec::<f32>().expect("fp32"), [1.5; 4]);
    assert_eq!((dict["scalar"].shape.len(), dict["scalar"].to_vec::<f32>().expect("fp32")), (0, vec![1.5]));
    assert_eq!(dict["empty"].shape.to_vec(), [0, 7]);

    for (kind, dtype) in [
        ("DoubleStorage", DType::F64),
        ("HalfStorage", DType::F16),
        ("BFloat16Storage", DType::BF16),
        ("LongStorage", DType::I64),
        ("IntStorage", DType::I32),
        ("ShortStorage", DType::I16),
        ("CharStorage", DType::I8),
        ("ByteStorage", DType::U8),
    ] {
        let specs = [Spec { kind, ..spec("x", "0", 3, 0, &[3], &[1]) }];
        let bytes: Vec<u8> = (0..3 * dtype.size() as u8).collect();
        let dict = read(&archive(&pickle(&specs), &[("0", &bytes)])).expect(kind);
        assert_eq!((dict["x"].dtype, dict["x"].as_bytes()), (dtype, bytes.as_slice()), "{kind}");
    }
}

#[test]
fn dictionaries_in_dictionaries_and_parameters() {
    let a = spec("", "0", 2, 0, &[2], &[1]);
    // {"epoch": 3, "model": {"a": Parameter(tensor)}, "optimizer": {0: tensor}, "lr": 0.1}
    let ops =
        Ops::default().raw(b"\x80\x04\x95\0\0\0\0\0\0\0\0}(").text("epoch").int(3).text("model").raw(b"}");
    let ops = ops.text("a").raw(b"\x8c\x0ctorch._utils\x8c\x12_rebuild_parameter\x93\x94(");
    let ops = tensor(ops, &a).raw(b"\x89NtRs").text("optimizer").raw(b"}").int(0);
    let ops = tensor(ops, &a).raw(b"s").text("lr").raw(b"G\0\0\0\0\0\0\0\0u.");
    let dict = read(&archive(&ops.0, &[("0", &numbers(2))])).expect("a checkpoint");
    assert_eq!(dict.keys().collect::<Vec<_>>(), ["model.a", "optimizer.0"]);
}

#[test]
fn storages_that_do_not_hold_their_tensors() {
    let (specs, _) = valid();
    let (six, four) = (numbers(6), numbers(4));
    let with = |pickle: &[u8], one: Option<&[u8]>| {
        let mut storages = vec![("0", six.as_slice()), ("2", six.as_slice())];
        storages.extend(one.map(|bytes| ("1", bytes)));
        archive(pickle, &storages)
    };
    refused(&with(&pickle(&specs), None), "storage 1 is missing");
    refused(&with(&pickle(&specs), Some(&four[..8])), "storage 1 has 8 bytes; expected 4 numbers");
    refused(&with(&pickle(&specs), Some(&[])), "storage 1 has 0 bytes");
    refused(&with(&pickle(&specs), Some(&six)), "storage 1 has 24 bytes; expected 4 numbers");
    let told = |change: &dyn Fn(&mut Spec), says: &str| {
        let mut specs = specs.clone();
        change(&mut specs[1]);
        refused(&with(&pickle(&specs), Some(&four)), says);
    };
    told(&|b| b.offset = 1, "reaches to number 5, beyond its storage of 4");
    told(&|b| b.offset = 1 << 40, "beyond its storage of 4");
    told(&|b| b.offset = -1, "the offset of a tensor is -1");
    told(&|b| b.shape = vec![5], "beyond its storage of 4");
    told(&|b| b.shape = vec![-4], "the shape of a tensor is -4");
    told(&|b| b.strides = vec![2], "beyond its storage of 4");
    told(&|b| b.strides = vec![-1], "the strides of a tensor is -1");
    told(&|b| b.strides = vec![1, 1], "another number of strides");
    told(&|b| b.shape = vec![1_000_000_000_000], "beyond its storage of 4");
    told(&|b| (b.shape, b.strides) = (vec![i64::MAX, i64::MAX], vec![i64::MAX, 1]), "far beyond");
    // What the file tells of itself must fit too: two lengths of one storage, and one that no file has.
    told(&|b| b.len = 1_000_000_000_000, "storage 1 has 16 bytes");
    told(&|b| b.len = i64::MAX, "storage 1 has 16 bytes");
    told(&|b| (b.key, b.len) = ("2", 4), "storage 2 has 24 bytes");
    told(&|b| b.name = "inner.a", "one name");
    told(&|b| b.kind = "QInt8Storage", "torch.QInt8Storage");
}

/// Each byte of a file, changed: refused, or the very same tensors (a time stamp, a padding).
#[test]
fn no_damaged_byte_changes_a_tensor() {
    let (_, bytes) = valid();
    let whole = read(&bytes).expect("a valid file");
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model.pt");
    let mut harmless = 0;
    for at in 0..bytes.len() {
        for flip in [1 << (at % 8), 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            fs::write(&path, &damaged).expect("written");
            if let Ok(dict) = weights::read(&path) {
                harmless += 1;
                assert_eq!(dict, whole, "byte {at}");
            }
        }
    }
    assert!(harmless < bytes.len(), "{harmless} of {}", 2 * bytes.len());
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "cut to {length} of {} bytes", bytes.len());
    }
}

#[test]
fn nothing_is_run() {
    let name = |ops: Ops| ops.raw(b"\x8c\x05posix\x8c\x06system\x93");
    let start = || Ops::default().raw(b"\x80\x04");
    for (module, function) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("subprocess", "Popen"),
        ("torch", "load"),
    ] {
        for end in [&b"\x8c\x04true\x85R."[..], b"\x8c\x04true\x85\x81.", b")}\x92.", b"."] {
            let ops = start().global(module, function).raw(end);
            refused(&archive(&ops.0, &[]), &format!("it asks for `{module}.{function}`"));
        }
    }
    refused(&archive(&name(start()).raw(b")R.").0, &[]), "posix.system");
    // Hidden in a dictionary, behind a function that may be called.
    let ops = name(start().raw(b"}").text("a")).raw(b")Rs.");
    refused(&archive(&ops.0, &[]), "posix.system");
    let ops = name(start().global("torch._tensor", "_rebuild_from_type_v2").raw(b"(")).raw(b"N)NtR.");
    refused(&archive(&ops.0, &[]), "posix.system");
}

#[test]
fn hostile_pickles_end_in_little_memory() {
    let start = || Ops::default().raw(b"\x80\x04");
    let no_tensors = "no dictionary of tensors";
    let deep = |open: &[u8], close: &[u8]| {
        let ops = start().raw(&open.repeat(400_000)).raw(&close.repeat(400_000)).raw(b".");
        archive(&ops.0, &[])
    };
    refused(&deep(b")", b"\x85"), no_tensors);
    refused(&deep(b"]", b"a"), "takes more from the stack");
    refused(
        &archive(&start().raw(b"]").raw(&b"]".repeat(400_000)).raw(&b"a".repeat(400_000)).raw(b".").0, &[]),
        no_tensors,
    );
    let dicts = start().raw(b"}").raw(&b"K\0}".repeat(400_000)).raw(&b"s".repeat(400_000)).raw(b".");
    refused(&archive(&dicts.0, &[]), "nested deeper");
    // Each tuple holds the one before twice.
    let ops = start().raw(b")").raw(&b"\x942\x86".repeat(100_000)).raw(b".");
    refused(&archive(&ops.0, &[]), no_tensors);
    // So does each dictionary: 2^200 ways to a tensor.
    let mut ops = start().raw(b"}\x94");
    for n in 0..200u32 {
        ops = ops.raw(b"0}(K\0j").raw(&n.to_le_bytes()).raw(b"K\x01j").raw(&n.to_le_bytes()).raw(b"u\x94");
    }
    refused(&archive(&ops.raw(b".").0, &[]), "nested deeper");
    // Four bytes that copy a list of 100,000 pairs, again and again; one tensor under a long name, as often.
    let ops = start().global("collections", "OrderedDict").raw(b"\x940]\x94(K\0K\0\x86\x94");
    let ops = ops.raw(&b"h\x02".repeat(100_000)).raw(b"e\x85\x94").raw(&b"h\0h\x03R0".repeat(1000)).raw(b".");
    refused(&archive(&ops.0, &[]), "items");
    let ops =
        tensor(start().raw(b"}(").text(&"k".repeat(1000)).raw(b"\x94"), &spec("", "0", 1, 0, &[1], &[1]));
    let ops = ops.raw(b"\x94").raw(&b"h\0h\x01".repeat(400_000)).raw(b"u.");
    refused(&archive(&ops.0, &[("0", &numbers(1))]), "many times over");
    // One that holds itself.
    refused(&archive(&start().raw(b"}\x94K\0h\0s.").0, &[]), "nested deeper");
    // Lengths that are not there.
    for ops in [
        &b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f"[..],
        b"\x8b\xff\xff\xff\x7f",
        b"X\xff\xff\xff\xffabc",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        refused(&archive(&start().raw(ops).raw(b".").0, &[]), "ends in the middle");
    }
    refused(&archive(&start().raw(&b"N0".repeat(1_500_000)).raw(b".").0, &[]), "operations");
    refused(&archive(&vec![b'N'; 17 << 20], &[]), "expected up to 16777216");
    refused(&archive(b"", &[]), "ends in the middle");
    refused(&archive(b"\x80\x09.", &[]), "protocol 9");

    // Tensors of far more numbers than the file has.
    let one = |shape: &[i64], strides: &[i64]| {
        archive(&pickle(&[spec("x", "0", 1, 0, shape, strides)]), &[("0", &numbers(1))])
    };
    refused(&one(&[1_000_000_000_000], &[0]), "its tensors would take over 4000000000000 bytes");
    refused(&one(&[1 << 62, 4], &[0, 0]), "beyond its storage");
    let names: Vec<&'static str> = (0..300).map(|n| &*format!("x{n}").leak()).collect();
    let specs: Vec<Spec> =
        names.into_iter().map(|name| spec(name, "0", 20_000, 0, &[20_000], &[1])).collect();
    refused(&archive(&pickle(&specs), &[("0", &numbers(20_000))]), "its tensors would take over");
}

#[test]
fn archives_that_torch_does_not_write() {
    let (specs, bytes) = valid();
    let (six, four) = (numbers(6), numbers(4));
    let storages = [("0", six.as_slice()), ("1", &four), ("2", &six)];
    refused(b"PK\x03\x04 and nothing else", "zip archive");
    refused(b"not a file of PyTorch at all", "save it again");
    refused(&archive(&pickle(&[]), &storages), "it holds no tensors");
    let mut big = archive(&pickle(&specs), &[]);
    let at = big.windows(6).position(|six| six == b"little").expect("the byte order");
    big[at..at + 6].copy_from_slice(b"big\0\0\0");
    refused(&big, "byteorder");
    // Two entries of one name, and files that are more than one archive.
    let more = archive(&pickle(&specs), &[storages[0], storages[1], storages[2], ("9", &six)]);
    let mut twice = more.clone();
    while let Some(at) = twice.windows(6).position(|six| six == b"data/9") {
        twice[at + 5] = b'0';
    }
    refused(&twice, "two of its 6 entries have one name");
    assert!(read(&more).is_ok(), "a storage that nothing uses");
    for (before, after) in [(&b"PK\x03\x04"[..], &b""[..]), (b"", b"\0"), (&more, b""), (b"", &more[..40])] {
        refused(&[before, &bytes, after].concat(), "zip archive");
    }
    // Deflated entries: the method of each header is set to 8.
    let mut packed = bytes;
    for (magic, place) in [(&b"PK\x03\x04"[..], 8), (b"PK\x01\x02", 10)] {
        let headers: Vec<usize> = (0..packed.len() - 4).filter(|at| &packed[*at..at + 4] == magic).collect();
        assert_eq!(headers.len(), 5);
        headers.into_iter().for_each(|at| packed[at + place] = 8);
    }
    refused(&packed, "it is compressed");
}

#[test]
fn the_layout_before_the_archives() {
    let (specs, new) = valid();
    let (six, four) = (numbers(6), numbers(4));
    let bytes = old(&specs, &[("0", &six), ("1", &four), ("2", &six)]);
    assert_eq!(read(&bytes), read(&new));
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "cut to {length} of {} bytes", bytes.len());
    }
    refused(&[bytes.as_slice(), b"more"].concat(), "bytes; expected");
    refused(&old(&specs, &[("0", &six), ("2", &six)]), "storage 1 is missing");
    refused(&old(&specs, &[("0", &six), ("1", &six), ("2", &six)]), "storage 1 has 6 numbers; expected 4");
    refused(&old(&specs, &[("0", &six), ("0", &six)]), "storage 0 is there twice");
}

/// Devices and pipes have no end.
#[cfg(unix)]
#[test]
fn only_files_are_read() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["zero.pt", "zero.safetensors"] {
        let path = dir.path().join(name);
        std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
        let error = weights::read(&path).expect_err("endless").to_string();
        assert!(error.contains(name) && error.contains("file"), "{error}");
    }
}
