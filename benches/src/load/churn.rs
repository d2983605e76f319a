//! Short connections. Each one connects, sends one request, and receives its reply; then the server
//! closes it.

use std::{
    io::{ErrorKind::WouldBlock, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, Event, EventData, EventFlags},
};

use super::{Load, Meter, PATIENCE};

struct Visit {
    stream: TcpStream,
    begun: Instant,
    received: usize,
}

impl Load<'_> {
    /// The number of concurrent connections. Each one that ends is followed by another.
    pub(super) fn churn(&self) -> Result<()> {
        let address: SocketAddr = self.address.parse()?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (request, mut buffer) = (vec![7; self.size], vec![0; self.size + 1]);
        let visit = |key: usize| -> Result<Visit> {
            let begun = Instant::now();
            let mut stream = TcpStream::connect(address).context("connect")?;
            stream.set_nodelay(true)?;
            stream.write_all(&request)?;
            stream.set_nonblocking(true)?;
            let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&epoll, &stream, EventData::new_u64(key as u64), flags)?;
            Ok(Visit {
                stream,
                begun,
                received: 0,
            })
        };
        let mut meter = Meter::new(self);
        let mut visits = Vec::new();
        for key in 0..self.connections {
            if meter.goes_on() {
                visits.push(visit(key)?);
            }
        }
        let mut events = Vec::<Event>::with_capacity(1024);
        while !meter.is_over() {
            events.clear();
            let patience = PATIENCE.try_into()?;
            epoll::wait(&epoll, spare_capacity(&mut events), Some(&patience))?;
            ensure!(!events.is_empty(), "no reply for {PATIENCE:?}");
            for event in &events {
                let key = event.data.u64() as usize;
                if visits[key].is_over(&mut buffer, self.size)? {
                    meter.took(visits[key].begun.elapsed());
                    if meter.goes_on() {
                        visits[key] = visit(key)?; // closes the old one
                    }
                }
            }
            meter.look(Instant::now());
        }
        meter.print();
        Ok(())
    }
}

impl Visit {
    /// Returns true when the reply is complete and the server has closed.
    fn is_over(&mut self, buffer: &mut [u8], size: usize) -> Result<bool> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => {
                    ensure!(self.received == size, "half a reply");
                    return Ok(true);
                }
                Ok(n) => {
                    ensure!(buffer[..n].iter().all(|byte| *byte == 7), "a wrong reply");
                    self.received += n;
                }
                Err(error) if error.kind() == WouldBlock => return Ok(false),
                Err(error) => return Err(error).context("reply"),
            }
        }
    }
}
