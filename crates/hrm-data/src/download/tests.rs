use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::*;
use crate::{checksum, puzzles::arc};

/// A server on this machine. Each connection is answered with the bytes that a function makes of its number and request, and
/// then closed.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(answer: impl Fn(usize, &str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let Ok(mut stream) = stream else { continue };
                let request = read_request(&mut stream);
                log.lock().unwrap().push(request.clone());
                let _ = stream.write_all(&answer(number, &request));
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn read_request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        text.push(byte[0]);
        // The start of an encrypted connection: no end of headers will come.
        if text == [0x16] {
            break;
        }
    }
    String::from_utf8_lossy(&text).to_ascii_lowercase()
}

/// The start of the range asked for.
fn range(request: &str) -> Option<usize> {
    let line = request.lines().find_map(|line| line.strip_prefix("range: bytes="))?;
    line.trim_end_matches('-').parse().ok()
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n").into_bytes();
    bytes.extend(body);
    bytes
}

fn whole(body: &[u8]) -> Vec<u8> {
    reply("200 OK", &format!("Content-Length: {}\r\n", body.len()), body)
}

/// Answers as a good server does, but sends at most `most` bytes of the body before it cuts the connection.
fn honest(data: &[u8], request: &str, tag: &str, most: usize) -> Vec<u8> {
    let tag = if tag.is_empty() { String::new() } else { format!("ETag: {tag}\r\n") };
    let (total, start) = (data.len(), range(request).unwrap_or(0));
    let rest = &data[start..];
    let length = format!("Content-Length: {}\r\n{tag}", rest.len());
    let sent = &rest[..rest.len().min(most)];
    match range(request) {
        None => reply("200 OK", &length, sent),
        Some(_) => {
            let headers = format!("{length}Content-Range: bytes {start}-{}/{total}\r\n", total - 1);
            reply("206 Partial Content", &headers, sent)
        }
    }
}

fn data() -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn sum(data: &[u8]) -> String {
    checksum::sha256(data)
}

fn set(url: &str, sha256: Option<&str>) -> DataSet {
    let remote = Remote {
        url: format!("{url}/file.bin"),
        file: "file.bin".to_owned(),
        sha256: sha256.map(str::to_owned),
        archive: None,
    };
    DataSet { name: "test".to_owned(), about: String::new(), files: vec![remote] }
}

fn options(cache: &Path) -> Options {
    Options {
        pause: Duration::ZERO,
        timeout: Duration::from_secs(5),
        retries: 3,
        ..Options::new(cache.to_owned())
    }
}

fn get(set: &DataSet, cache: &Path) -> Result<Vec<PathBuf>, DownloadError> {
    download(set, &options(cache), &mut |_| {})
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != ".lock")
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_fetched_once_and_checked_ever_after() {
    let server = Server::new(|_, _| whole(&data()));
    let cache = tempfile::tempdir().unwrap();
    let set = set(&server.url, None);
    let mut seen = Vec::new();
    let files = download(&set, &options(cache.path()), &mut |progress| {
        if let Progress::Bytes { done, total, .. } = progress {
            seen.push((done, total));
        }
    })
    .unwrap();
    assert_eq!(files, [cache.path().join("test/file.bin")]);
    assert_eq!(fs::read(&files[0]).unwrap(), data());
    assert_eq!((seen.first(), seen.last()), (Some(&(0, Some(300_000))), Some(&(300_000, Some(300_000)))));
    assert!(seen.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    assert_eq!(names(&cache.path().join("test")), ["file.bin", "file.bin.sha256"]);
    let record = cache.path().join("test/file.bin.sha256");
    assert_eq!(fs::read_to_string(&record).unwrap(), format!("{}  file.bin\n", sum(&data())));
    assert_eq!(get(&set, cache.path()).unwrap(), files);
    assert_eq!(server.requests().len(), 1, "the second time nothing is fetched");
    // A changed file is found out, whoever knows the checksum.
    fs::write(&files[0], b"changed").unwrap();
    let error = get(&set, cache.path()).unwrap_err().to_string();
    assert!(
        error.contains("file.bin: expected SHA-256 ") && error.contains("recorded when it was downloaded")
    );
    assert!(
        error.contains(&sum(&data())) && error.contains(&sum(b"changed")) && error.contains("--from FILE")
    );
    fs::write(&record, "nonsense").unwrap();
    assert!(matches!(get(&set, cache.path()), Err(DownloadError::Record { .. })));
    fs::remove_file(&files[0]).unwrap();
    assert_eq!(get(&set, cache.path()).unwrap(), files, "deleting it fetches it again");
}

#[test]
fn cut_connections_are_taken_up_where_they_ended() {
    let server = Server::new(|_, request| honest(&data(), request, "\"v1\"", 70_000));
    let cache = tempfile::tempdir().unwrap();
    let mut retries = 0;
    let files = download(&set(&server.url, None), &options(cache.path()), &mut |progress| {
        retries += u32::from(matches!(progress, Progress::Retry { failures: 1, .. }));
    })
    .unwrap();
    assert_eq!(fs::read(&files[0]).unwrap(), data());
    let starts: Vec<Option<usize>> = server.requests().iter().map(|request| range(request)).collect();
    assert_eq!(starts, [None, Some(70_000), Some(140_000), Some(210_000), Some(280_000)]);
    assert!(server.requests()[1].contains("if-range: \"v1\""));
    assert_eq!(retries, 4, "each came further than the one before: never two failures in a row");
    assert_eq!(names(&cache.path().join("test")), ["file.bin", "file.bin.sha256"]);
}

#[test]
fn another_run_goes_on_too() {
    let server = Server::new(|number, request| match number {
        0 => honest(&data(), request, "\"v1\"", 100_000),
        1 => reply("503 Service Unavailable", "Content-Length: 0\r\n", b""),
        _ => honest(&data(), request, "\"v1\"", usize::MAX),
    });
    let cache = tempfile::tempdir().unwrap();
    let hasty = Options { retries: 1, ..options(cache.path()) };
    let set = set(&server.url, None);
    let error = download(&set, &hasty, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("status 503 (2 failures in a row); run the command again"), "{error}");
    assert_eq!(names(&cache.path().join("test")), ["file.bin.part", "file.bin.part.tag"]);
    let files = download(&set, &hasty, &mut |_| {}).unwrap();
    assert_eq!(fs::read(&files[0]).unwrap(), data());
    assert_eq!(range(&server.requests()[2]), Some(100_000));
}

#[test]
fn servers_without_ranges_or_tags_start_again() {
    // Ignores ranges: what was there is thrown away, not doubled.
    let server = Server::new(|number, _| {
        let mut bytes = whole(&data());
        if number == 0 {
            bytes.truncate(100_000);
        }
        bytes
    });
    let cache = tempfile::tempdir().unwrap();
    let files = get(&set(&server.url, Some(&sum(&data()))), cache.path()).unwrap();
    assert_eq!(fs::read(&files[0]).unwrap(), data());
    assert!(range(&server.requests()[1]).is_some(), "with a checksum a range is asked for without a tag");
    // No tag and no checksum: the rest might be of another version, so none is asked for.
    let server = Server::new(|number, request| {
        honest(&data(), request, "", if number == 0 { 100_000 } else { usize::MAX })
    });
    let cache = tempfile::tempdir().unwrap();
    get(&set(&server.url, None), cache.path()).unwrap();
    assert_eq!(server.requests().iter().filter_map(|request| range(request)).count(), 0);
    // The file changed in between, and the server does not look at the tag.
    let server = Server::new(|number, request| match number {
        0 => honest(&data(), request, "\"v1\"", 100_000),
        _ => honest(&data(), request, "\"v2\"", usize::MAX),
    });
    let cache = tempfile::tempdir().unwrap();
    get(&set(&server.url, None), cache.path()).unwrap();
    let starts: Vec<Option<usize>> = server.requests().iter().map(|request| range(request)).collect();
    assert_eq!(starts, [None, Some(100_000), None]);
    // Sends another range than the one asked for.
    let server = Server::new(|number, request| match number {
        0 => honest(&data(), request, "\"v1\"", 100_000),
        1 => reply("206 Partial Content", "Content-Length: 3\r\nContent-Range: bytes 7-9/300000\r\n", b"abc"),
        _ => honest(&data(), request, "\"v1\"", usize::MAX),
    });
    let cache = tempfile::tempdir().unwrap();
    let files = get(&set(&server.url, None), cache.path()).unwrap();
    assert_eq!(fs::read(&files[0]).unwrap(), data());
}

#[test]
fn lies_about_lengths_and_checksums_are_found_out() {
    // Promises more than it has; there is nothing from the end on.
    let server = Server::new(|_, request| match range(request) {
        None => reply("200 OK", "Content-Length: 400000\r\nETag: \"v1\"\r\n", &data()),
        Some(_) => reply("416 Range Not Satisfiable", "Content-Length: 0\r\n", b""),
    });
    let cache = tempfile::tempdir().unwrap();
    let error = get(&set(&server.url, None), cache.path()).unwrap_err().to_string();
    assert!(error.contains("failures in a row") && error.contains("--from FILE"), "{error}");
    assert!(!cache.path().join("test/file.bin").exists());
    assert!(server.requests().len() < 12, "{} requests", server.requests().len());
    // Promises less than it sends: a known checksum tells.
    let server = Server::new(|_, _| reply("200 OK", "Content-Length: 1000\r\n", &data()));
    let error = get(&set(&server.url, Some(&sum(&data()))), cache.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("expected SHA-256 {} (known in advance), got", sum(&data()))), "{error}");
    assert!(error.contains("http://127.0.0.1") && error.contains("--from FILE"), "{error}");
    assert!(names(&cache.path().join("test")).is_empty(), "nothing damaged is left to go on with");
    // Other bytes than were known.
    let server = Server::new(|_, _| whole(b"something else"));
    let error = get(&set(&server.url, Some(&sum(&data()))), cache.path()).unwrap_err().to_string();
    assert!(error.contains(&sum(b"something else")), "{error}");
    // No length at all: the end of the connection is the end of the file.
    let server = Server::new(|_, _| reply("200 OK", "", &data()));
    let files = get(&set(&server.url, Some(&sum(&data()).to_uppercase())), cache.path()).unwrap();
    assert_eq!(fs::read(&files[0]).unwrap(), data());
}

#[test]
fn refusals_are_told_with_what_to_do() {
    let server = Server::new(|_, _| reply("404 Not Found", "Content-Length: 4\r\n", b"gone"));
    let cache = tempfile::tempdir().unwrap();
    let error = get(&set(&server.url, None), cache.path()).unwrap_err().to_string();
    let expected = format!(
        "{}/file.bin: expected status 200, got 404; fetch file.bin by other means and give it with `--from FILE`",
        server.url
    );
    assert_eq!(error, expected);
    assert_eq!(server.requests().len(), 1, "no retry");
    // Nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = get(&set(&format!("http://{free}"), None), cache.path()).unwrap_err().to_string();
    assert!(error.contains("no answer") && error.contains("4 failures in a row"), "{error}");
    // No such host: told at once.
    let slow = Options { pause: Duration::from_secs(3), ..options(cache.path()) };
    let error = download(&set("http://no-such-host.invalid", None), &slow, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("(once); run the command again"), "{error}");
    // Garbage instead of http.
    let server = Server::new(|_, _| b"\x00\x01garbage\r\n\r\n".to_vec());
    assert!(matches!(get(&set(&server.url, None), cache.path()), Err(DownloadError::Network { .. })));
}

#[test]
fn redirects_are_followed_with_the_range() {
    let server = Server::new(|number, request| {
        if request.starts_with("get /file.bin") {
            return reply("302 Found", "Location: /elsewhere\r\nContent-Length: 0\r\n", b"");
        }
        honest(&data(), request, "\"v1\"", if number < 2 { 100_000 } else { usize::MAX })
    });
    let cache = tempfile::tempdir().unwrap();
    let files = get(&set(&server.url, None), cache.path()).unwrap();
    assert_eq!(fs::read(&files[0]).unwrap(), data());
    assert_eq!(range(&server.requests()[3]), Some(100_000));
}

#[test]
fn files_can_come_from_elsewhere() {
    let (cache, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let remote = |file: &str, sha256: Option<String>| Remote {
        url: "http://127.0.0.1:1/never".to_owned(),
        file: file.to_owned(),
        sha256,
        archive: None,
    };
    let files = vec![remote("train.csv", None), remote("test.csv", Some(sum(b"test")))];
    let set = DataSet { name: "pair".to_owned(), about: String::new(), files };
    let from = |path: &Path| {
        let options = Options { from: Some(path.to_owned()), ..options(cache.path()) };
        download(&set, &options, &mut |_| {})
    };
    let error = from(other.path()).unwrap_err().to_string();
    assert!(error.ends_with("expected a file named train.csv or test.csv, or a folder with all of these"));
    fs::write(other.path().join("train.csv"), b"train").unwrap();
    fs::write(other.path().join("test.csv"), b"wrong").unwrap();
    let error = from(other.path()).unwrap_err().to_string();
    assert!(error.contains("test.csv: expected SHA-256") && error.contains("another version"), "{error}");
    assert!(!cache.path().join("pair/test.csv").exists());
    fs::write(other.path().join("test.csv"), b"test").unwrap();
    let files = from(other.path()).unwrap();
    assert_eq!(fs::read(&files[1]).unwrap(), b"test");
    assert!(other.path().join("test.csv").exists(), "copied, not moved");
    assert_eq!(get(&set, cache.path()).unwrap(), files, "later runs find them");
    fs::write(other.path().join("train.csv"), b"newer").unwrap();
    let one = from(&other.path().join("train.csv")).unwrap();
    assert_eq!((one.len(), fs::read(&one[0]).unwrap()), (1, b"newer".to_vec()));
    fs::write(other.path().join("other.csv"), b"").unwrap();
    assert!(matches!(from(&other.path().join("other.csv")), Err(DownloadError::From { .. })));
    assert!(matches!(from(&other.path().join("none")), Err(DownloadError::From { .. })));
}

#[test]
fn only_one_process_downloads_a_set() {
    let cache = tempfile::tempdir().unwrap();
    fs::create_dir(cache.path().join("test")).unwrap();
    let lock = File::create(cache.path().join("test/.lock")).unwrap();
    lock.lock().unwrap();
    let busy = get(&set("http://127.0.0.1:1", None), cache.path());
    assert!(matches!(busy, Err(DownloadError::Busy { .. })));
}

/// A `.tar.gz` of files.
fn tar_gz(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

#[test]
fn tasks_are_taken_out_of_archives() {
    let task =
        br#"{"train":[{"input":[[1]],"output":[[2]]}],"test":[{"input":[[3]],"output":[[4]]}],"name":"x"}"#;
    let good: Vec<(&str, &[u8])> = vec![
        ("R-1/README.md", b"no task"),
        ("R-1/data/training/a.json", task),
        ("R-1/data/training/deep/b.json", task),
        ("R-1/data/training2/c.json", b"not wanted"),
        ("R-1/data/evaluation/a.json", task),
    ];
    let mut hash = Sha256::new();
    for name in ["data/evaluation/a.json", "data/training/a.json", "data/training/deep/b.json"] {
        hash.update(format!("{name}\n{}\n", task.len()));
        hash.update(task);
    }
    let content = checksum::hex(&hash.finalize());
    let part =
        |folder: &str, file: &str, tasks| Part { folder: folder.to_owned(), file: file.to_owned(), tasks };
    let parts =
        vec![part("data/training", "training.json", 2), part("data/evaluation", "evaluation.json", 1)];
    let unpack = |bytes: Vec<u8>, sha256: Option<&str>| {
        let server = Server::new(move |_, _| whole(&bytes));
        let cache = tempfile::tempdir().unwrap();
        let mut set = set(&server.url, None);
        set.files[0].archive = Some(Archive { parts: parts.clone(), sha256: sha256.map(str::to_owned) });
        let files = get(&set, cache.path()).map_err(|error| error.to_string())?;
        let names: Vec<String> =
            files.iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect();
        let counts: Vec<usize> = files.iter().map(|file| arc::load(file).unwrap().len()).collect();
        Ok::<_, String>((names, counts))
    };
    let expected = (vec!["training.json".to_owned(), "evaluation.json".to_owned()], vec![2, 1]);
    assert_eq!(unpack(tar_gz(&good), Some(&content)), Ok(expected.clone()));
    assert_eq!(unpack(tar_gz(&good), None), Ok(expected));
    let error = unpack(tar_gz(&good), Some(&sum(b""))).unwrap_err();
    assert!(
        error.contains(&content) && error.contains("of 3 files") && error.contains("delete it"),
        "{error}"
    );
    let error = unpack(tar_gz(&good[..3]), None).unwrap_err();
    assert!(error.contains("expected 1 tasks in data/evaluation, got 0"), "{error}");
    let twice = [&good[..], &[("R-1/data/training/other/b.json", task)]].concat();
    assert!(unpack(tar_gz(&twice), None).unwrap_err().contains("task b is in data/training twice"));
    let mut broken = good.clone();
    broken[1].1 = b"{";
    assert!(unpack(tar_gz(&broken), None).unwrap_err().contains("data/training/a.json: EOF"));
    assert!(unpack(b"no archive".to_vec(), None).unwrap_err().contains("expected a .tar.gz with tasks"));
    let mut cut = tar_gz(&good);
    cut.truncate(cut.len() / 2);
    assert!(unpack(cut, None).is_err());
}

#[test]
fn the_cache_is_where_the_environment_says() {
    let with = |pairs: &[(&str, &str)]| {
        let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        cache_dir_of(find).ok()
    };
    assert_eq!(with(&[("HRM_CACHE", "a"), ("HOME", "/h")]), Some(PathBuf::from("a")));
    assert_eq!(with(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), Some(PathBuf::from("/x/hrm")));
    assert_eq!(with(&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")]), Some(PathBuf::from("/h/.cache/hrm")));
    assert_eq!(with(&[("HRM_CACHE", "")]), None);
}

#[test]
fn the_table_of_sets_is_sound() {
    let names: Vec<String> = data_sets().into_iter().map(|set| set.name).collect();
    assert_eq!(names, ["sudoku-extreme", "maze-hard", "arc-1", "arc-2", "conceptarc"]);
    for set in data_sets() {
        for remote in &set.files {
            assert!(remote.url.starts_with("https://") && !remote.file.contains('/'));
            let sums = remote.archive.iter().filter_map(|archive| archive.sha256.as_ref());
            assert!(sums.chain(&remote.sha256).all(|sum| sum.len() == 64));
        }
    }
    let error = data_set("arc").unwrap_err().to_string();
    assert_eq!(error, "expected one of sudoku-extreme, maze-hard, arc-1, arc-2, conceptarc, got \"arc\"");
}

/// Encrypted connections come up to the point where the other side is no TLS server.
#[test]
fn https_speaks_tls() {
    let server = Server::new(|_, _| b"HTTP/1.1 200 OK\r\n\r\n".to_vec());
    let cache = tempfile::tempdir().unwrap();
    let mut set = set(&server.url.replace("http", "https"), None);
    set.files[0].sha256 = None;
    let error = get(&set, cache.path()).unwrap_err();
    match error {
        DownloadError::Network { why, .. } => assert!(why.contains("no answer"), "{why}"),
        DownloadError::NoTls { .. } => {}
        other => panic!("{other}"),
    }
}

/// The real archives, by `HRM_ARCHIVES`: a folder with the three `.tar.gz` files.
#[test]
#[ignore = "needs the archives"]
fn real_archives_have_the_known_content() {
    let Some(folder) = std::env::var_os("HRM_ARCHIVES").map(PathBuf::from) else { return };
    let cache = tempfile::tempdir().unwrap();
    for name in ["arc-1", "arc-2", "conceptarc"] {
        let options = Options { from: Some(folder.clone()), ..options(cache.path()) };
        let files = download(&data_set(name).unwrap(), &options, &mut |_| {}).unwrap();
        let counts: Vec<usize> = files.iter().map(|file| arc::load(file).unwrap().len()).collect();
        println!("{name}: {counts:?} tasks");
    }
}

#[test]
fn models_come_from_the_hub() {
    let server = Server::new(|_, request| match request.lines().next() {
        Some("get /owner/a.model/resolve/main/checkpoint http/1.1") => whole(b"weights"),
        Some("get /owner/a.model/resolve/main/all_config.yaml http/1.1") => whole(b"arch: {}"),
        _ => reply("404 Not Found", "", b""),
    });
    let cache = tempfile::tempdir().unwrap();
    let set = hub_model(&format!("{}/", server.url), "owner/a.model").unwrap();
    let files = download(&set, &options(cache.path()), &mut |_| {}).unwrap();
    assert_eq!(fs::read(&files[0]).unwrap(), b"weights");
    assert_eq!(fs::read(&files[1]).unwrap(), b"arch: {}");
    assert!(files[0].starts_with(cache.path().join("hf-owner--a.model")));
    // A second time, nothing is fetched.
    let asked = server.requests().len();
    assert_eq!(download(&set, &options(cache.path()), &mut |_| {}).unwrap(), files);
    assert_eq!(server.requests().len(), asked);
    let absent = hub_model(&server.url, "owner/other").unwrap();
    assert!(matches!(
        download(&absent, &options(cache.path()), &mut |_| {}),
        Err(DownloadError::Status { status: 404, .. })
    ));
    for wrong in ["", "name", "/name", "owner/", "owner/a/b", "../name", "owner/..", "owner/a b", "a?b/c"] {
        assert!(matches!(hub_model(&server.url, wrong), Err(DownloadError::UnknownModel { .. })), "{wrong}");
    }
}
