//! One file over http: into a `.part` file that the next try, or the next run, goes on with.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use ureq::http::Response;
use ureq::{Agent, Body};

use super::{DownloadError, Options, Progress, Remote, at, discard, tag_path};

/// Most bytes of a file: a server that never ends must not fill the disk. The largest real file has 700 MB.
const MAX_BYTES: u64 = 1 << 34;

/// Tries in all, however much each of them brings.
const MAX_TRIES: u32 = 1000;

/// How a try ended.
enum Failure {
    /// Trying again is of no use.
    Final(DownloadError),
    /// The next one may do better.
    Passing(String),
}

/// Downloads into `part`, taking up what is there.
pub(super) fn fetch(
    remote: &Remote,
    part: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), DownloadError> {
    let agent = agent(remote, options)?;
    let (mut failures, mut most) = (0, length(part));
    for tries in 1.. {
        let why = match attempt(&agent, remote, part, progress) {
            Ok(()) => return Ok(()),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing(why)) => why,
        };
        // A try that came further than any before is no failure in a row.
        failures = if length(part) > most { 1 } else { failures + 1 };
        most = most.max(length(part));
        if failures > options.retries || tries >= MAX_TRIES {
            let (url, file) = (remote.url.clone(), remote.file.clone());
            return Err(DownloadError::Network { url, file, why, failures });
        }
        progress(Progress::Retry { file: &remote.file, failures, why: &why });
        std::thread::sleep(options.pause.saturating_mul(failures));
    }
    Ok(())
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn agent(remote: &Remote, options: &Options) -> Result<Agent, DownloadError> {
    let secure = remote.url.starts_with("https://");
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        // What starts encrypted stays so, wherever it is redirected.
        .https_only(secure)
        .user_agent(concat!("hrm-data/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(options.timeout))
        .timeout_recv_response(Some(options.timeout))
        .timeout_per_read(Some(options.timeout));
    if secure {
        let no_tls = |why| DownloadError::NoTls { url: remote.url.clone(), file: remote.file.clone(), why };
        config = config.tls_config(tls().map_err(no_tls)?);
    }
    if ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|own| remote.url.starts_with(own))
    {
        // This machine is never behind a proxy.
        config = config.proxy(None);
    }
    Ok(config.build().new_agent())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn tls() -> Result<ureq::tls::TlsConfig, &'static str> {
    // The library stops the program on other processors, so they are told before.
    #[cfg(target_arch = "x86_64")]
    if !(is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("adx")
        && is_x86_feature_detected!("avx")
        && is_x86_feature_detected!("avx2"))
    {
        return Err("encrypted connections need a processor with AES, AVX2 and ADX (2014 or later)");
    }
    let provider = std::sync::Arc::new(rustls_graviola::default_provider());
    Ok(ureq::tls::TlsConfig::builder().unversioned_rustls_crypto_provider(provider).build())
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn tls() -> Result<ureq::tls::TlsConfig, &'static str> {
    Err("encrypted connections are not supported on this kind of processor")
}

fn attempt(
    agent: &Agent,
    remote: &Remote,
    part: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Failure> {
    let io = |source| Failure::Final(at(part)(source));
    let tag = fs::read_to_string(tag_path(part)).ok().filter(|tag| !tag.is_empty());
    // Without a tag only a checksum would tell that the rest belongs to another version.
    if length(part) > 0 && tag.is_none() && remote.sha256.is_none() {
        discard(part).map_err(io)?;
    }
    let have = length(part);
    let mut request = agent.get(&remote.url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
        if let Some(tag) = &tag {
            request = request.header("If-Range", tag);
        }
    }
    let response = request.call().map_err(|error| no_answer(remote, &error))?;
    let status = response.status().as_u16();
    let (start, total) = match status {
        200 => (0, content_length(&response)),
        206 if have > 0 => match content_range(&response) {
            Some((start, total)) if start == have && tag_of(&response).is_none_or(|t| Some(t) == tag) => {
                (start, total)
            }
            _ => {
                discard(part).map_err(io)?;
                let why = format!("the server sent another part than bytes from {have} on");
                return Err(Failure::Passing(why));
            }
        },
        416 if have > 0 => {
            discard(part).map_err(io)?;
            return Err(Failure::Passing(format!("the server has no bytes from {have} on")));
        }
        408 | 425 | 429 | 500..=599 => return Err(Failure::Passing(format!("status {status}"))),
        _ => {
            let (url, file) = (remote.url.clone(), remote.file.clone());
            return Err(Failure::Final(DownloadError::Status { url, file, status }));
        }
    };
    if start == 0 {
        discard(part).map_err(io)?;
        if let Some(tag) = tag_of(&response) {
            fs::write(tag_path(part), tag).map_err(io)?;
        }
    }
    let mut file: File = OpenOptions::new().create(true).append(true).open(part).map_err(io)?;
    let mut body = response.into_body().into_reader();
    let mut done = start;
    let mut buffer = vec![0; 1 << 16];
    loop {
        progress(Progress::Bytes { file: &remote.file, done, total });
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
                return Err(Failure::Passing(format!(
                    "the connection ended after {done}{of} bytes ({error})"
                )));
            }
        };
        file.write_all(&buffer[..read]).map_err(io)?;
        done += read as u64;
        if done > MAX_BYTES {
            return Err(io(io::Error::other(format!("expected at most {MAX_BYTES} bytes, got more"))));
        }
    }
    file.flush().map_err(io)?;
    match total {
        Some(total) if total != done => {
            Err(Failure::Passing(format!("expected {total} bytes, the connection ended after {done}")))
        }
        _ => Ok(()),
    }
}

/// Without a network, or where nothing can change, there is no point in trying again.
fn no_answer(remote: &Remote, error: &ureq::Error) -> Failure {
    let why = format!("no answer: {error}");
    let lasting = match error {
        ureq::Error::HostNotFound
        | ureq::Error::BadUri(_)
        | ureq::Error::RequireHttpsOnly(_)
        | ureq::Error::TooManyRedirects
        | ureq::Error::Tls(_) => true,
        // Certificates that are not trusted; names that are not found, which have no kind of their own.
        ureq::Error::Io(error) => {
            error.kind() == io::ErrorKind::InvalidData
                || error.to_string().starts_with("failed to lookup address")
        }
        _ => false,
    };
    if lasting {
        let (url, file) = (remote.url.clone(), remote.file.clone());
        return Failure::Final(DownloadError::Network { url, file, why, failures: 1 });
    }
    Failure::Passing(why)
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn content_length(response: &Response<Body>) -> Option<u64> {
    header(response, "content-length")?.trim().parse().ok()
}

/// What names this version of the file: an entity tag that stands for its bytes, or else the time of its last change.
fn tag_of(response: &Response<Body>) -> Option<String> {
    let tag = header(response, "etag").filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| header(response, "last-modified")).map(str::to_owned)
}

/// `bytes START-END/TOTAL`: the start, and the total if it is told.
fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let (range, total) = header(response, "content-range")?.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}
