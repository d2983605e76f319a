//! Descriptors that arrive when the process can open no more of them. The limit is of the process,
//! so this test is alone in its program.

#![cfg(unix)]

mod common;

use std::os::fd::AsFd;

use common::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use windlass_reactor::net::unix::UnixStream;

#[test]
fn lost_descriptors_are_an_error() {
    run(async {
        let (here, there) = UnixStream::pair().unwrap();
        let many: Vec<_> = (0..8).map(|_| here.as_fd()).collect();
        here.send_with_fds(b"ahoy", &many).await.unwrap();

        let free = rustix::io::dup(&here).unwrap();
        let limit = std::os::fd::AsRawFd::as_raw_fd(&free) as u64 + 3;
        drop(free);
        let before = getrlimit(Resource::Nofile);
        let lowered = Rlimit {
            current: Some(limit),
            ..before
        };
        setrlimit(Resource::Nofile, lowered).unwrap();
        let (mut buf, mut fds) = ([0; 16], Vec::new());
        let error = there.recv_with_fds(&mut buf, &mut fds).await.unwrap_err();
        setrlimit(Resource::Nofile, before).unwrap();

        assert!(
            error.to_string().contains("came with 4 bytes were lost"),
            "{error}"
        );
        assert!((1..8).contains(&fds.len()), "{}", fds.len());
    });
}
