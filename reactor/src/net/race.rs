//! Connects to several addresses in parallel, and the first attempt that succeeds wins. This is the
//! connecting half of Happy Eyeballs version 2 (RFC 8305). The system resolves and sorts the
//! addresses (sections 3 and 4, RFC 6724).

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use std::vec;

use super::{context, no_address};
use crate::time::{Sleep, sleep_until};

/// The next address is tried after this time if the previous attempt is still running: RFC 8305,
/// section 5, "Connection Attempt Delay", with its recommended default.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to one of the addresses. When an attempt succeeds, the others are dropped.
pub(super) async fn race<T, S, F>(addrs: Vec<SocketAddr>, mut start: S) -> io::Result<T>
where
    S: FnMut(SocketAddr) -> F,
    F: Future<Output = io::Result<T>>,
{
    // A single address needs no timer, clock or box.
    if let [addr] = addrs[..] {
        let attempt = start(addr).await;
        return attempt.map_err(|error| context(WHAT, addr, error));
    }
    let mut race = Race::new(interleave(addrs), start);
    let mut timer: Option<Sleep> = None;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(outcome) = race.poll(cx, crate::clock::now()) {
                return Poll::Ready(outcome);
            }
            let Some(next) = race.next_start() else {
                timer = None;
                return Poll::Pending;
            };
            let timer = timer.get_or_insert_with(|| sleep_until(next));
            if timer.deadline() != Some(next) {
                timer.reset(next);
            }
            ready!(timer.poll_io(cx))?;
        }
    })
    .await
}

const WHAT: &str = "can't connect to";

/// Alternates between the families, beginning with the family of the first address (RFC 8305,
/// section 4, with a "First Address Family Count" of 1). Within a family the order stays.
fn interleave(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut order = Vec::with_capacity(addrs.len());
    let is_first_v6 = addrs.first().is_some_and(SocketAddr::is_ipv6);
    let families = addrs
        .into_iter()
        .partition(|addr| addr.is_ipv6() == is_first_v6);
    let (first, other): (Vec<_>, Vec<_>) = families;
    let mut other = other.into_iter();
    for addr in first {
        order.push(addr);
        order.extend(other.next());
    }
    order.extend(other);
    order
}

/// A race in progress. The caller passes `now`, so a race needs no clock.
struct Race<S, F> {
    start: S,
    /// The addresses that were not tried yet.
    addrs: vec::IntoIter<SocketAddr>,
    /// When to try the next address. `None` means at once.
    next: Option<Instant>,
    /// In the order of their start, so that the preferred one wins if two succeed in the same poll.
    running: Vec<(SocketAddr, Pin<Box<F>>)>,
    failed: Vec<(SocketAddr, io::Error)>,
}

impl<T, S, F> Race<S, F>
where
    S: FnMut(SocketAddr) -> F,
    F: Future<Output = io::Result<T>>,
{
    fn new(order: Vec<SocketAddr>, start: S) -> Self {
        Race {
            start,
            addrs: order.into_iter(),
            next: None,
            running: Vec::new(),
            failed: Vec::new(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<io::Result<T>> {
        loop {
            if let Some(winner) = self.poll_running(cx) {
                return Poll::Ready(Ok(winner));
            }
            if self.next.is_some_and(|next| now < next) {
                return Poll::Pending;
            }
            match self.addrs.next() {
                Some(addr) => {
                    self.running.push((addr, Box::pin((self.start)(addr))));
                    self.next = Some(now + ATTEMPT_DELAY);
                }
                None if self.running.is_empty() => return Poll::Ready(Err(self.error())),
                None => return Poll::Pending,
            }
        }
    }

    fn poll_running(&mut self, cx: &mut Context<'_>) -> Option<T> {
        let mut i = 0;
        while let Some((addr, attempt)) = self.running.get_mut(i) {
            match attempt.as_mut().poll(cx) {
                Poll::Pending => i += 1,
                Poll::Ready(Ok(winner)) => return Some(winner),
                Poll::Ready(Err(error)) => {
                    self.failed.push((*addr, error));
                    self.running.remove(i);
                    self.next = None;
                }
            }
        }
        None
    }

    /// When to poll even without a wake. `None` if all addresses were tried.
    fn next_start(&self) -> Option<Instant> {
        self.next.filter(|_| self.addrs.len() > 0)
    }

    /// Returns an error that names all failures. It has the kind and source of the last one.
    fn error(&mut self) -> io::Error {
        let Some((last, error)) = self.failed.pop() else {
            return no_address();
        };
        let others = self.failed.iter();
        let others: String = others
            .map(|(addr, error)| format!("{addr}: {error}; nor to "))
            .collect();
        context(WHAT, format_args!("{others}{last}"), error)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::error::Error;
    use std::io::ErrorKind::{self, ConnectionRefused, HostUnreachable, InvalidInput};
    use std::rc::Rc;
    use std::task::Waker;

    use super::*;

    /// Capital letters are IPv6 addresses, small ones IPv4 addresses.
    fn addr(name: char) -> SocketAddr {
        let host = match name.is_uppercase() {
            true => format!("[2001:db8::{}]:80", name as u32),
            false => format!("192.0.2.{}:80", name as u32),
        };
        host.parse().unwrap()
    }

    fn name(addr: SocketAddr) -> char {
        let mut names = "ABCDabcd".chars();
        names.find(|name| self::addr(*name) == addr).unwrap()
    }

    fn addrs(names: &str) -> Vec<SocketAddr> {
        names.chars().map(addr).collect()
    }

    /// The responses of the addresses, and a trace of the attempts: `+A` when A is tried, `-A` when
    /// that attempt is dropped.
    #[derive(Default)]
    struct Net {
        answers: RefCell<HashMap<char, Result<(), ErrorKind>>>,
        trace: RefCell<Vec<String>>,
    }

    struct Attempt {
        name: char,
        net: Rc<Net>,
    }

    impl Future for Attempt {
        type Output = io::Result<char>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<char>> {
            match self.net.answers.borrow().get(&self.name) {
                None => Poll::Pending,
                Some(Ok(())) => Poll::Ready(Ok(self.name)),
                Some(Err(kind)) => Poll::Ready(Err((*kind).into())),
            }
        }
    }

    impl Drop for Attempt {
        fn drop(&mut self) {
            self.net.trace.borrow_mut().push(format!("-{}", self.name));
        }
    }

    type Start = Box<dyn FnMut(SocketAddr) -> Attempt>;

    /// A race that a test polls by hand, at times of its choice.
    struct Scene {
        net: Rc<Net>,
        start: Instant,
        race: Option<Race<Start, Attempt>>,
    }

    impl Scene {
        fn new(names: &str) -> Scene {
            let net = Rc::new(Net::default());
            let theirs = net.clone();
            let start: Start = Box::new(move |addr| {
                let (name, net) = (name(addr), theirs.clone());
                net.trace.borrow_mut().push(format!("+{name}"));
                Attempt { name, net }
            });
            Scene {
                net,
                start: crate::clock::now(),
                race: Some(Race::new(interleave(addrs(names)), start)),
            }
        }

        fn answers(&mut self, name: char, answer: Result<(), ErrorKind>) {
            self.net.answers.borrow_mut().insert(name, answer);
        }

        /// Polls at this number of milliseconds after the start.
        fn at(&mut self, ms: u64) -> Poll<io::Result<char>> {
            self.say(format!("{ms}:"));
            let now = self.start + Duration::from_millis(ms);
            let race = self.race.as_mut().expect("the race has not ended");
            let polled = race.poll(&mut Context::from_waker(Waker::noop()), now);
            if let Poll::Ready(outcome) = &polled {
                self.say(match outcome {
                    Ok(winner) => format!("{winner} wins"),
                    Err(_) => "all fail".to_owned(),
                });
                self.race = None;
            }
            polled
        }

        /// When the race has to be polled next.
        fn next(&self) -> Option<Duration> {
            let race = self.race.as_ref().expect("the race has not ended");
            race.next_start().map(|next| next - self.start)
        }

        fn say(&self, word: String) {
            self.net.trace.borrow_mut().push(word);
        }

        #[track_caller]
        fn was(&self, trace: &str) {
            assert_eq!(self.net.trace.borrow().join(" "), trace);
        }
    }

    #[test]
    fn interleave_alternates_between_address_families() {
        let order = |names: &str| -> String {
            let order = interleave(addrs(names)).into_iter();
            order.map(name).collect()
        };
        assert_eq!(order("ABCDab"), "AaBbCD");
        assert_eq!(order("abABC"), "aAbBC");
        assert_eq!(order("aAbB"), "aAbB");
        assert_eq!(order("abc"), "abc");
        assert_eq!(order("Aa"), "Aa");
        assert_eq!(order(""), "");
    }

    #[test]
    fn next_address_is_tried_in_parallel_after_250_ms() {
        let mut scene = Scene::new("ABa");
        for ms in [0, 249, 250, 499] {
            assert!(scene.at(ms).is_pending());
        }
        assert_eq!(scene.next(), Some(Duration::from_millis(500)));
        assert!(scene.at(500).is_pending());
        assert_eq!(scene.next(), None, "there is none left to try");
        assert!(scene.at(60_000).is_pending());
        scene.was("0: +A 249: 250: +a 499: 500: +B 60000:");
    }

    #[test]
    fn failed_attempt_starts_the_next_at_once() {
        let mut scene = Scene::new("ABab");
        assert!(scene.at(0).is_pending());
        scene.answers('A', Err(HostUnreachable));
        assert!(scene.at(10).is_pending());
        assert_eq!(
            scene.next(),
            Some(Duration::from_millis(260)),
            "250 ms after the failure"
        );
        assert!(scene.at(260).is_pending());
        scene.answers('a', Err(ConnectionRefused)); // not the one that was tried last
        assert!(scene.at(270).is_pending());
        scene.was("0: +A 10: -A +a 260: +B 270: -a +b");
    }

    #[test]
    fn immediate_failures_cost_no_time() {
        let mut scene = Scene::new("ABab");
        scene.answers('A', Err(HostUnreachable));
        scene.answers('a', Err(ConnectionRefused));
        scene.answers('B', Ok(()));
        assert!(scene.at(0).is_ready());
        scene.was("0: +A -A +a -a +B B wins -B");
    }

    #[test]
    fn late_polls_start_one_attempt_at_a_time() {
        let mut scene = Scene::new("ABab");
        assert!(scene.at(0).is_pending());
        assert!(scene.at(1000).is_pending()); // the loop was late
        scene.answers('A', Err(ConnectionRefused));
        scene.answers('a', Err(ConnectionRefused));
        assert!(scene.at(1100).is_pending());
        assert!(scene.at(1349).is_pending());
        assert!(scene.at(1350).is_pending());
        scene.was("0: +A 1000: +a 1100: -A -a +B 1349: 1350: +b");
    }

    #[test]
    fn first_success_wins_and_drops_the_other_attempts() {
        let mut scene = Scene::new("ABab");
        for ms in [0, 250, 500] {
            assert!(scene.at(ms).is_pending());
        }
        scene.answers('a', Ok(()));
        assert!(scene.at(600).is_ready());
        scene.was("0: +A 250: +a 500: +B 600: a wins -A -a -B");
    }

    #[test]
    fn earlier_attempt_wins_if_two_succeed_in_one_poll() {
        let mut scene = Scene::new("Aa");
        assert!(scene.at(0).is_pending());
        assert!(scene.at(250).is_pending());
        scene.answers('A', Ok(()));
        scene.answers('a', Ok(()));
        assert!(scene.at(9000).is_ready());
        scene.was("0: +A 250: +a 9000: A wins -A -a");
    }

    #[test]
    fn success_wins_over_a_failure_in_the_same_poll() {
        let mut scene = Scene::new("ABa");
        assert!(scene.at(0).is_pending());
        assert!(scene.at(250).is_pending());
        scene.answers('A', Err(ConnectionRefused));
        scene.answers('a', Ok(()));
        assert!(scene.at(300).is_ready());
        scene.was("0: +A 250: +a 300: -A a wins -a");
    }

    #[test]
    fn error_lists_all_failures_in_order() {
        let mut scene = Scene::new("Aa");
        assert!(scene.at(0).is_pending());
        assert!(scene.at(250).is_pending());
        scene.answers('a', Err(HostUnreachable));
        assert!(scene.at(300).is_pending());
        scene.answers('A', Err(ConnectionRefused));
        let Poll::Ready(Err(error)) = scene.at(400) else {
            panic!("all have failed");
        };
        scene.was("0: +A 250: +a 300: -a 400: -A all fail");
        assert_eq!(
            error.to_string(),
            "can't connect to 192.0.2.97:80: host unreachable; \
             nor to [2001:db8::65]:80: connection refused"
        );
        assert_eq!(error.kind(), ConnectionRefused);
        assert_eq!(error.source().unwrap().to_string(), "connection refused");
    }

    #[test]
    fn race_without_addresses_is_an_error() {
        let mut scene = Scene::new("");
        let Poll::Ready(Err(error)) = scene.at(0) else {
            panic!("it can't be pending");
        };
        assert_eq!(error.kind(), InvalidInput);
    }
}
