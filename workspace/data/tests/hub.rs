//! Downloads against a loopback hub with faults: whatever goes wrong, nothing unchecked stays in the cache.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use sandglass_data::{Hub, HubFile, RepoKind};
use sha2::{Digest, Sha256};

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";
const BODY: &[u8] = b"the weights, the whole weights and nothing but the weights";

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// An error for HEAD and GET.
    Status(&'static str),
    /// HEAD is fine, GET is not: hf-hub alone takes the page for the file.
    PageOnGet(&'static str),
    Short,
    Cut,
    Wrong,
    Stall,
}

struct FakeHub {
    address: String,
    requests: Arc<AtomicUsize>,
}

/// Answers with `fault` `times` times (counting GETs, or all requests where HEAD fails), then without.
fn serve(fault: Fault, times: usize) -> FakeHub {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let (count, left) = (requests.clone(), Arc::new(AtomicUsize::new(times)));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (count, left) = (count.clone(), left.clone());
            thread::spawn(move || answer(stream, fault, &count, &left));
        }
    });
    FakeHub { address, requests }
}

fn answer(mut stream: TcpStream, fault: Fault, count: &AtomicUsize, left: &AtomicUsize) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    for _ in lines.by_ref().take_while(|line| !line.is_empty()) {}
    count.fetch_add(1, Ordering::SeqCst);
    let head = request.starts_with("HEAD");
    let concerned = !head || matches!(fault, Fault::Status(_));
    let fault = match concerned && left.load(Ordering::SeqCst) > 0 {
        true => {
            left.fetch_sub(1, Ordering::SeqCst);
            fault
        }
        false => Fault::None,
    };
    let (status, length, body): (&str, usize, &[u8]) = match fault {
        Fault::None => ("200 OK", BODY.len(), BODY),
        Fault::Status(status) | Fault::PageOnGet(status) => (status, 20, b"<html>please</html>\n"),
        Fault::Short => ("200 OK", 10, &BODY[..10]),
        Fault::Cut => ("200 OK", BODY.len(), &BODY[..10]),
        Fault::Wrong => ("200 OK", BODY.len(), &[b'x'; 58]),
        Fault::Stall => ("200 OK", BODY.len(), &BODY[..7]),
    };
    let header = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"abc\"\r\nX-Repo-Commit: {REVISION}\r\n\
         Connection: close\r\n\r\n"
    );
    let _ = stream.write_all(header.as_bytes());
    if !head {
        let _ = stream.write_all(body);
    }
    let _ = stream.flush();
    if fault == Fault::Stall {
        thread::sleep(Duration::from_secs(20));
    }
}

fn wanted() -> HubFile {
    assert_eq!(BODY.len(), 58);
    HubFile {
        kind: RepoKind::Model,
        repo: "owner/name".to_string(),
        revision: REVISION.to_string(),
        file: "sub/model.safetensors".to_string(),
        size: BODY.len() as u64,
        sha256: Sha256::digest(BODY).iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn hub(cache: &Path, server: &FakeHub) -> Hub {
    Hub {
        cache: cache.to_path_buf(),
        endpoint: Some(server.address.clone()),
        patience: Duration::from_secs(60),
        offline: false,
    }
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path.display().to_string()) }
    }
    files
}

#[test]
fn every_fault_is_an_error_and_leaves_the_cache_empty() {
    let faults = [
        (Fault::Status("403 Forbidden"), ""),
        (Fault::Status("404 Not Found"), ""),
        (Fault::Status("500 Internal Server Error"), ""),
        (Fault::PageOnGet("403 Forbidden"), "20 bytes came, 58 were expected"),
        (Fault::PageOnGet("503 Service Unavailable"), "20 bytes came"),
        (Fault::Short, "10 bytes came"),
        (Fault::Cut, ""),
        (Fault::Wrong, "its sha256 is"),
        (Fault::Stall, "nothing came for 1.5 s"),
    ];
    for (fault, reason) in faults {
        let cache = tempfile::tempdir().unwrap();
        let server = serve(fault, usize::MAX);
        let patience = if fault == Fault::Stall { Duration::from_millis(1500) } else { Duration::from_secs(60) };
        let hub = Hub { patience, ..hub(cache.path(), &server) };
        let error = hub.fetch(&wanted()).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert!(error.contains("owner/name@01234567 sub/model.safetensors"), "{error}");
        assert!(error.contains("run the same command again"), "{error}");
        assert_eq!(files_below(cache.path()), Vec::<String>::new(), "{error}");
    }
}

#[test]
fn one_bad_answer_is_forgiven_and_the_file_is_then_kept() {
    let cache = tempfile::tempdir().unwrap();
    let server = serve(Fault::Wrong, 1);
    let hub = hub(cache.path(), &server);
    let path = hub.fetch(&wanted()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), BODY);
    assert_eq!(files_below(cache.path()), [path.display().to_string()]);

    let before = server.requests.load(Ordering::SeqCst);
    assert_eq!(hub.fetch(&wanted()).unwrap(), path);
    assert_eq!(server.requests.load(Ordering::SeqCst), before, "a checked file needs no request");

    std::fs::write(&path, b"damaged on disk").unwrap();
    assert_eq!(std::fs::read(hub.fetch(&wanted()).unwrap()).unwrap(), BODY);
}

#[test]
fn offline_opens_no_socket() {
    let cache = tempfile::tempdir().unwrap();
    let server = serve(Fault::None, 0);
    let hub = Hub { offline: true, ..hub(cache.path(), &server) };
    let error = hub.fetch(&wanted()).unwrap_err().to_string();
    assert!(error.contains("SANDGLASS_OFFLINE"), "{error}");
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
}

#[test]
fn branches_and_paths_that_leave_the_cache_are_refused() {
    let cache = tempfile::tempdir().unwrap();
    let server = serve(Fault::None, 0);
    for (revision, file) in [("main", "a"), (&REVISION[..7], "a"), (REVISION, "../a"), (REVISION, "/a")] {
        let wanted = HubFile { revision: revision.to_string(), file: file.to_string(), ..wanted() };
        assert!(hub(cache.path(), &server).fetch(&wanted).is_err());
    }
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
}
