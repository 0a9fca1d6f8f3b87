//! The readers of weights against damaged and arbitrary bytes.

mod torch;

use std::fs;

use hrm_backend::Cpu;
use hrm_model::{ForwardDtype, Hrm, ModelConfig, weights};
use hrm_testing::fuzz::fuzz;
use rand::SeedableRng;

fn model() -> Vec<u8> {
    let config = ModelConfig::new(6, 16).with_hidden_size(16).with_num_heads(2).with_layers(1, 1);
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let model: Hrm<Cpu> = config.init(&mut rng, &Default::default()).expect("a valid config");
    model.encode("model".as_ref(), ForwardDtype::Bf16).expect("encodes")
}

#[test]
fn safetensors() {
    let whole = model();
    // Mostly the header: what follows are numbers, and any number is one.
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("8 bytes")) as usize;
    fuzz("safetensors", &[whole.clone(), whole[..header].to_vec()], |bytes| {
        let bytes = [bytes, &whole[header..]].concat();
        for bytes in [&bytes[..], &bytes[..bytes.len() - (whole.len() - header)]] {
            let _ = Hrm::<Cpu>::decode("model".as_ref(), bytes, &Default::default());
        }
    });
}

#[test]
fn pytorch() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model.pt");
    let (specs, whole) = torch::valid();
    let old = torch::valid_old();
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        weights::read(&path).ok()
    };
    let expected = read(&whole);
    assert!(expected.is_some() && read(&old) == expected);
    fuzz("pytorch", &[whole, old], |bytes| drop(read(bytes)));
    // Pickles whose checksum holds.
    let storages = torch::storages();
    let storages: Vec<(&str, &[u8])> = storages.iter().map(|(key, bytes)| (*key, bytes.as_slice())).collect();
    fuzz("pickle", &[torch::pickle(&specs), torch::pickle(&specs[..1])], |bytes| {
        drop(read(&torch::archive(bytes, &storages)));
    });
}
