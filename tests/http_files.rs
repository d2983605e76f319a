//! The example `http_files` on a thread of its own. The client is blocking code of the standard
//! library.

#![cfg(unix)]

#[path = "../examples/http_files/main.rs"]
#[allow(dead_code, reason = "main is the entry of the example")]
mod http_files;
#[path = "common/files.rs"]
mod files;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use files::{Folder, folder};
use windlass::net::TcpListener;

/// Starts a server for a directory. Its thread ends with the process.
fn start(root: &Path) -> SocketAddr {
    let root = root.to_str().unwrap().to_owned();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        windlass::block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            http_files::serve_folder(&root, &listener).await
        })
    });
    receiver.recv().unwrap()
}

fn connect(server: SocketAddr, path: &str, header: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server).unwrap();
    let limit = Some(Duration::from_secs(30));
    stream.set_read_timeout(limit).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Returns the status and the body.
fn get(server: SocketAddr, path: &str, header: &str) -> (u16, Vec<u8>) {
    let mut response = Vec::new();
    let mut stream = connect(server, path, header);
    stream.read_to_end(&mut response).unwrap();
    let split = response.windows(4).position(|it| it == b"\r\n\r\n");
    let head = String::from_utf8(response[..split.unwrap()].into()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, response.split_off(split.unwrap() + 4))
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n % 251) as u8).collect()
}

/// A directory `public`, with a file beside it.
fn site() -> (Folder, SocketAddr) {
    let folder = folder();
    let public = folder.path("public");
    fs::create_dir_all(public.join("pages")).unwrap();
    fs::write(folder.path("key"), "secret").unwrap();
    fs::write(public.join("rope"), "ahoy").unwrap();
    let server = start(&public);
    (folder, server)
}

#[test]
fn paths_and_links_that_leave_the_directory_are_not_found() {
    let (folder, server) = site();
    let public = folder.path("public");
    symlink("../key", public.join("out")).unwrap();
    symlink("..", public.join("up")).unwrap();
    symlink("rope", public.join("link")).unwrap();
    symlink(public.join("rope"), public.join("absolute")).unwrap();
    for path in [
        "/rope",
        "/pages/../rope",
        "/link",
        "/absolute",
        "/up/public/rope",
    ] {
        assert_eq!(get(server, path, ""), (200, b"ahoy".to_vec()), "{path}");
    }
    let key = folder.path("key");
    let absolute = format!("/{}", key.to_str().unwrap());
    for path in [
        "/../key",
        "/%2e%2e/key",
        "/pages/../../key",
        "/out",
        "/up/key",
        &absolute,
        "/none",
    ] {
        assert_eq!(get(server, path, "").0, 404, "{path}");
    }
    let (status, list) = get(server, "/", "");
    let list = String::from_utf8(list).unwrap();
    assert_eq!(status, 200);
    assert!(list.contains("rope") && list.contains("pages/"), "{list}");
    assert!(
        !list.contains("\"./out\"") && !list.contains("\"./up/\""),
        "{list}"
    );
}

#[test]
fn pipes_are_not_found_and_nothing_waits_for_them() {
    let (folder, server) = site();
    folder.pipe("public/pipe");
    assert_eq!(get(server, "/pipe", "").0, 404);
    assert_eq!(get(server, "/rope", "").0, 200);
}

#[test]
fn files_and_ranges_of_all_sizes_arrive() {
    let (folder, server) = site();
    for size in [0, 1, 32 << 10, (32 << 10) + 1, 256 << 10, 3_000_000] {
        let data = pattern(size);
        fs::write(folder.path("public/data"), &data).unwrap();
        assert!(get(server, "/data", "") == (200, data.clone()), "{size}");
        let (start, end) = (size / 3, size / 2);
        if start < end {
            let range = format!("Range: bytes={start}-{}\r\n", end - 1);
            let part = data[start..end].to_vec();
            assert!(get(server, "/data", &range) == (206, part), "{size}");
        }
    }
}

#[test]
fn a_file_that_shrinks_ends_its_connection_and_no_other() {
    const SIZE: usize = 64 << 20;
    let (folder, server) = site();
    let path = folder.path("public/data");
    fs::write(&path, vec![7; SIZE]).unwrap();
    let mut stream = connect(server, "/data", "");
    let mut first = [0; 1000];
    stream.read_exact(&mut first).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest); // the connection may be reset
    assert!(rest.len() < SIZE - 1000);
    assert_eq!(get(server, "/rope", ""), (200, b"ahoy".to_vec()));
}
