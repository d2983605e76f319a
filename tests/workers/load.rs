//! Clients that send requests continuously.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use super::subject::Client;

#[derive(Default, Debug)]
pub(crate) struct Counts {
    pub(crate) answered: AtomicU64,
    /// Connections that broke during a request.
    pub(crate) broken: AtomicU64,
    pub(crate) refused: AtomicU64,
}

pub(crate) struct Load {
    pub(crate) counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Each client keeps its connection for up to `requests` requests.
    pub(crate) fn start(addr: SocketAddr, clients: usize, requests: usize) -> Load {
        let (counts, stop) = (Arc::<Counts>::default(), Arc::<AtomicBool>::default());
        let client = |_| {
            let (counts, stop) = (counts.clone(), stop.clone());
            thread::spawn(move || {
                while !stop.load(Relaxed) {
                    ask(addr, requests, &counts, &stop);
                }
            })
        };
        let threads = (0..clients).map(client).collect();
        Load {
            counts,
            stop,
            threads,
        }
    }

    pub(crate) fn stop(self) -> Arc<Counts> {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.counts
    }
}

fn ask(addr: SocketAddr, requests: usize, counts: &Counts, stop: &AtomicBool) {
    let Ok(mut client) = Client::connect(addr) else {
        counts.refused.fetch_add(1, Relaxed);
        return;
    };
    for _ in 0..requests {
        let (counter, continues) = match client.get("/") {
            Ok((_, is_kept)) => (&counts.answered, is_kept && !stop.load(Relaxed)),
            Err(_) => (&counts.broken, false),
        };
        counter.fetch_add(1, Relaxed);
        if !continues {
            return;
        }
    }
}
