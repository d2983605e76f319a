//! The world: its time, its hosts and its network.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use super::descriptors::Descriptors;
use super::disk::{self, Disk};
use super::host::{Host, HostState};
use super::link::Link;
use super::net::{self, Event, HostId, Network};
use super::outcome::Outcome;
use super::panics;
use super::problem::Problem;
use super::report::{Failure, Report};
use super::run::Run;
use super::site::Site;
use super::trace::EventKind;

/// A world of hosts on a simulated network, in virtual time.
///
/// Each host is a program: the future that its function returns, on a runtime of its own. All hosts
/// share the thread, and one of them runs at a time. The time moves when no host has anything to
/// do, to the next timer or arrival. So an hour passes in an instant, and the same seed leads to
/// the same events.
///
/// [`check`](super::check()) runs a program in many worlds. A separate world is for a closer look.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use windlass::net::{TcpListener, TcpStream};
/// use windlass::sim::World;
///
/// let world = World::new(1);
/// world.host("server", || async {
///     let listener = TcpListener::bind("0.0.0.0:7000").await?;
///     let (mut stream, _) = listener.accept().await?;
///     stream.write_all(b"ahoy").await
/// });
/// world.host("client", || async {
///     let mut stream = TcpStream::connect("server:7000").await?;
///     let mut text = String::new();
///     stream.read_to_string(&mut text).await?;
///     assert_eq!(text, "ahoy");
///     std::io::Result::Ok(())
/// });
/// let report = world.run().unwrap();
/// assert!(world.now() > Duration::ZERO && report.steps() > 0);
/// ```
pub struct World {
    pub(super) state: Rc<WorldState>,
}

/// The state of a world, which its systems share.
pub(super) struct WorldState {
    pub(super) run: Rc<Run>,
    network: RefCell<Network>,
    pub(super) descriptors: Descriptors,
    /// An empty list, kept for its memory.
    pub(super) events: Cell<Vec<Event>>,
    pub(super) hosts: RefCell<Vec<Rc<HostState>>>,
    /// What happens at a time, in the order of its scheduling.
    actions: RefCell<BTreeMap<(u64, u64), Action>>,
    last_action: Cell<u64>,
    /// How many steps were made since the time has moved.
    steps_at_once: Cell<u32>,
    /// When the last host without a listener has finished.
    finished_at: Cell<Option<u64>>,
    /// Why a call of `run` has failed.
    problem: RefCell<Option<Problem>>,
}

type Action = Box<dyn FnOnce(&Rc<WorldState>)>;

/// How long the hosts that listen run on after all others have finished.
const GRACE: u64 = 60_000_000_000;

/// A program that makes more steps than this without waiting polls until some time has come. So
/// each further step takes time, from a microsecond on.
const STEPS_AT_ONCE: u32 = 1_000;

/// The time after which a run without an end has failed, unless the caller sets another one.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl WorldState {
    pub(super) fn new(run: Rc<Run>) -> Rc<WorldState> {
        let network = RefCell::new(Network::new(run.choices.clone()));
        windlass_executor::budget::reset();
        Rc::new(WorldState {
            run,
            network,
            descriptors: Descriptors::default(),
            events: Cell::default(),
            hosts: RefCell::new(Vec::new()),
            actions: RefCell::new(BTreeMap::new()),
            last_action: Cell::new(0),
            steps_at_once: Cell::new(0),
            finished_at: Cell::new(None),
            problem: RefCell::new(None),
        })
    }

    pub(super) fn now(&self) -> u64 {
        self.run.context.now()
    }

    pub(super) fn network(&self) -> RefMut<'_, Network> {
        self.network.borrow_mut()
    }

    pub(super) fn record(&self, host: HostId, kind: EventKind, a: u64, b: u64) {
        self.run.trace.record(self.now(), host.0, kind, a, b);
    }

    /// Creates the disk of a host.
    pub(super) fn disk(self: &Rc<Self>, host: HostId) -> Rc<Disk> {
        /// The start of the world on the calendar (ns since the Unix epoch).
        const START: u64 = 946_684_800_000_000_000;
        let choices = self.run.choices.clone();
        let choose = move |site, rarity, limit| choices.choose(host.0, site, rarity, limit);
        let context = self.run.context.clone();
        let run = self.run.clone();
        let record = move |call, result| {
            run.trace
                .record(run.context.now(), host.0, EventKind::Disk, call, result);
        };
        let now = move || START + context.now();
        let disk = Disk::new(choose, now, record, disk::Faults::default());
        let world = Rc::downgrade(self);
        disk.on_unlink(move |path| {
            let name = path.as_os_str().as_bytes();
            let world = world.upgrade();
            world.is_some_and(|world| world.network().unlink(host, name))
        });
        disk
    }

    pub(super) fn add_host(
        self: &Rc<Self>,
        host: impl FnOnce(HostId, Rc<Disk>) -> HostState,
        name: &str,
    ) -> Rc<HostState> {
        let (id, _) = self.network().add_host(name);
        self.run.context.name_host(id.0, || name.to_owned());
        let host = Rc::new(host(id, self.disk(id)));
        self.hosts.borrow_mut().push(host.clone());
        host
    }

    /// Schedules an action.
    pub(super) fn at(&self, time: u64, action: impl FnOnce(&Rc<WorldState>) + 'static) {
        let number = self.last_action.get() + 1;
        self.last_action.set(number);
        let time = time.max(self.now());
        let replaced = self
            .actions
            .borrow_mut()
            .insert((time, number), Box::new(action));
        debug_assert!(replaced.is_none());
    }

    /// Delivers the packets that are due, and runs the due actions.
    pub(super) fn deliver(self: &Rc<Self>) {
        self.network().advance(self.now());
        loop {
            let mut actions = self.actions.borrow_mut();
            let Some(first) = actions.first_entry().filter(|it| it.key().0 <= self.now()) else {
                return;
            };
            let action = first.remove();
            drop(actions);
            action(self);
        }
    }

    /// Returns when something happens next, if nothing is ready.
    pub(super) fn next_time(&self) -> Option<u64> {
        let action = self
            .actions
            .borrow()
            .first_key_value()
            .map(|(key, _)| key.0);
        let network = self.network().next_event();
        let hosts = self.hosts.borrow();
        let hosts = hosts.iter().filter_map(|host| host.deadline());
        hosts.chain(action).chain(network).min()
    }

    /// Moves the time to the next event, but not beyond `end`. Returns false if there is none.
    pub(super) fn advance(&self, end: u64) -> bool {
        self.next_time()
            .is_some_and(|next| next <= end && self.advance_to(next))
    }

    /// Moves the time forward. Returns true.
    pub(super) fn advance_to(&self, next: u64) -> bool {
        self.steps_at_once.set(0);
        self.set_now(next.max(self.now()));
        true
    }

    fn set_now(&self, now: u64) {
        self.run.context.set_now(now);
    }

    /// Counts a step, so that a program that polls for a time does not stop it.
    pub(super) fn count_step(&self) {
        let steps = self.steps_at_once.get().saturating_add(1);
        self.steps_at_once.set(steps);
        if steps > STEPS_AT_ONCE {
            // Longer and longer, so that a time that is far away comes, too.
            let doublings = (steps / STEPS_AT_ONCE).min(30);
            self.set_now(self.now() + (500 << doublings));
        }
    }

    /// Runs one ready host. Returns false if there is none.
    fn step(self: &Rc<Self>) -> Result<bool, Problem> {
        let ready: Vec<_> = {
            let hosts = self.hosts.borrow();
            let ready = hosts.iter().filter(|host| host.is_ready(self));
            ready.cloned().collect()
        };
        let choose = |len: usize| self.run.choices.choose(0, Site::Host, 4, len as u32) as usize;
        let host = match &ready[..] {
            [] => return Ok(false),
            [host] => host,
            hosts => &hosts[choose(hosts.len())],
        };
        let name = |_| format!("host `{}` runs before others", host.name);
        self.run.choices.explain(Site::Host, name);
        let turned = host.turn(self);
        self.check_panics()?;
        turned?;
        self.count_step();
        Ok(true)
    }

    /// Fails if a host has panicked, for example in a destructor.
    fn check_panics(&self) -> Result<(), Problem> {
        panics::take().map_or(Ok(()), |panicked| Err(panicked.into()))
    }

    /// Runs until `end`, or until the program has finished, if `may_finish` is set.
    fn run_until(self: &Rc<Self>, end: u64, may_finish: bool) -> Result<(), Problem> {
        loop {
            self.deliver();
            self.check_panics()?;
            if self.now() <= end && self.step()? {
                continue;
            }
            if may_finish && self.is_over() {
                return Ok(());
            }
            let grace = self.finished_at.get().filter(|_| may_finish);
            let until = grace.map_or(end, |at| end.min(at + GRACE));
            if self.advance(until) {
                continue;
            }
            return match self.next_time() {
                Some(_) if !may_finish || grace.is_some() => {
                    self.advance_to(until);
                    Ok(())
                }
                Some(_) => Err(Problem::NoProgress {
                    limit: format!(
                        "the program has not finished after {:?}",
                        Duration::from_nanos(end)
                    ),
                    waits: self.waits(),
                }),
                None if may_finish && self.has_stuck_host() => Err(Problem::Deadlock {
                    waits: self.waits(),
                }),
                None => {
                    if !may_finish {
                        self.advance_to(end);
                    }
                    Ok(())
                }
            };
        }
    }

    /// Returns whether each host has finished, and none will be restarted. Notes when only hosts
    /// with listeners are left.
    fn is_over(&self) -> bool {
        let hosts = self.hosts.borrow();
        let mut unfinished = hosts.iter().filter(|host| host.is_unfinished()).peekable();
        let has_plans = !self.actions.borrow().is_empty(); // such as a restart
        if unfinished.peek().is_none() {
            return !has_plans;
        }
        let listen = !has_plans && unfinished.all(|host| self.network().listens(host.id));
        match self.finished_at.get() {
            None if listen => self.finished_at.set(Some(self.now())),
            Some(_) if !listen => self.finished_at.set(None),
            _ => {}
        }
        false
    }

    /// Returns whether a host waits forever. A host with a listener waits for connections.
    fn has_stuck_host(&self) -> bool {
        let hosts = self.hosts.borrow();
        let mut unfinished = hosts.iter().filter(|host| host.is_unfinished());
        unfinished.any(|host| !self.network().listens(host.id))
    }

    /// Describes what the tasks wait for.
    fn waits(&self) -> Vec<String> {
        let hosts = self.hosts.borrow();
        hosts.iter().flat_map(|host| host.waits()).collect()
    }
}

impl Drop for WorldState {
    fn drop(&mut self) {
        let hosts = std::mem::take(self.hosts.get_mut());
        hosts.iter().for_each(|host| host.end());
    }
}

/// The longest name of a host.
const LONGEST_NAME: usize = 63;

impl World {
    /// Creates a world whose events depend on `seed`. Seed 0 is without faults, and its tasks run
    /// in the order in which they were woken.
    pub fn new(seed: u64) -> World {
        World::with(Run::new(seed))
    }

    pub(super) fn with(run: Rc<Run>) -> World {
        World {
            state: WorldState::new(run),
        }
    }

    /// Adds a host. It starts when the world runs, and its name becomes a host name on the network.
    /// A restart calls the function again.
    ///
    /// An error that the future returns fails the run, and so does each panic.
    ///
    /// # Panics
    ///
    /// Panics if the name is not a valid host name, or if there is another host of that name.
    pub fn host<F, T>(&self, name: &str, program: impl Fn() -> F + 'static) -> Host
    where
        F: Future<Output = T> + 'static,
        T: Outcome,
    {
        let is_valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
        assert!(
            (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(is_valid),
            "{name:?} is not a valid host name"
        );
        let is_reserved = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok();
        assert!(
            !is_reserved,
            "{name:?} is an address or the name of each host"
        );
        let is_known = self
            .state
            .hosts
            .borrow()
            .iter()
            .any(|host| host.name.eq_ignore_ascii_case(name));
        assert!(!is_known, "there are two hosts with the name {name:?}");
        let host = self
            .state
            .add_host(|id, disk| HostState::new(id, name, disk, program), name);
        Host::new(&self.state, host)
    }

    /// Runs until each host has finished. Hosts with a listener, which may be servers, run on for
    /// at most 60 s after the others.
    ///
    /// # Errors
    ///
    /// Fails if a host panics or returns an error, if a host waits for an event that can't come (a
    /// deadlock), or if the program has not finished after a day.
    pub fn run(&self) -> Result<Report, Failure> {
        let end = self.state.now().saturating_add(LONGEST.as_nanos() as u64);
        self.run_to(end, true)
    }

    /// Runs for a time. The hosts go on in the next call.
    ///
    /// # Errors
    ///
    /// Fails as [`run`](World::run) does, except that a program may be unfinished at the end.
    pub fn run_for(&self, duration: Duration) -> Result<Report, Failure> {
        let end = self.state.now().saturating_add(nanos(duration));
        self.run_to(end, false)
    }

    fn run_to(&self, end: u64, may_finish: bool) -> Result<Report, Failure> {
        let run = &self.state.run;
        *self.state.problem.borrow_mut() = None;
        let result = panics::catch_outermost(|| self.state.run_until(end, may_finish));
        match result.unwrap_or_else(|panicked| Err(panicked.into())) {
            Ok(()) => Ok(Report::of(run)),
            Err(problem) => {
                *self.state.problem.borrow_mut() = Some(problem.clone());
                let seed = run.choices.seed();
                let command = format!("World::new({seed})");
                Err(Failure::of(run, problem, command))
            }
        }
    }

    /// Runs the program that `setup` has prepared, unless it has run it, and returns how it failed.
    pub(super) fn complete(&self, setup: impl FnOnce(&World)) -> Result<(), Problem> {
        let prepared = catch_unwind(AssertUnwindSafe(|| setup(self)));
        if let Some(problem) = self.state.problem.take() {
            return Err(problem); // the panic of an `unwrap` would hide it
        }
        prepared.unwrap_or_else(|payload| resume_unwind(payload));
        let end = self.state.now().saturating_add(LONGEST.as_nanos() as u64);
        self.state.run_until(end, true)
    }

    /// Returns the time since the start of the world.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.state.now())
    }

    /// Cuts the links between two hosts, in both directions, for a range of time since the start of
    /// the world. Packets that are sent meanwhile are lost.
    ///
    /// # Panics
    ///
    /// Panics if there is no host of a name.
    pub fn partition(&self, a: &str, b: &str, during: Range<Duration>) {
        let (a, b) = (self.id(a), self.id(b));
        let during = nanos(during.start)..nanos(during.end);
        self.state.network().partition_during(a, b, during.clone());
        self.state.network().partition_during(b, a, during);
    }

    /// Ends all partitions, also those that are planned.
    pub fn heal(&self) {
        self.state.network().heal();
    }

    /// Ends all partitions and faults at a time since the start of the world. From then on a
    /// program that recovers from faults must make progress, or the run fails.
    ///
    /// The rates of a [`Link`] and the limits of a [`Host`] stay as they are.
    pub fn heal_at(&self, at: Duration) {
        self.state.at(nanos(at), |world| {
            let mut network = world.network();
            network.heal();
            network.set_faults(net::Faults::none());
            drop(network);
            let hosts = world.hosts.borrow();
            hosts
                .iter()
                .for_each(|host| host.disk.change_faults(disk::Faults::heal));
        });
    }

    /// Makes a decision of the test, for example when a host crashes: a number below `limit`, which
    /// is zero in the plain run. It is a part of the run like all others. So the seeds have
    /// different ones, and shrinking makes them smaller.
    ///
    /// ```
    /// use std::time::Duration;
    /// use windlass::sim;
    ///
    /// sim::check(0..20, |world| {
    ///     let server = world.host("server", || async {
    ///         windlass::time::sleep(Duration::from_secs(5)).await;
    ///     });
    ///     let at = Duration::from_millis(world.choose(10_000).into());
    ///     server.crash_at(at);
    ///     server.restart_at(at + Duration::from_secs(1));
    /// });
    /// ```
    pub fn choose(&self, limit: u32) -> u32 {
        self.state.run.choices.choose(0, Site::Plan, 1, limit)
    }

    /// Returns the link from one host to another, to change it. The way back is another link.
    ///
    /// # Panics
    ///
    /// Panics if there is no host of a name.
    pub fn link(&self, from: &str, to: &str) -> Link {
        Link::new(&self.state, self.id(from), self.id(to))
    }

    fn id(&self, name: &str) -> HostId {
        let hosts = self.state.hosts.borrow();
        match hosts.iter().find(|host| host.name == name) {
            Some(host) => host.id,
            None => panic!("the world has no host with the name {name:?}"),
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now())
            .field("hosts", &self.state.hosts.borrow())
            .finish_non_exhaustive()
    }
}

/// Saturates, at 584 years.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
