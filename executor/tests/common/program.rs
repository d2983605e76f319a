//! Random programs for an executor, and a plain model of the expected behaviour.
//!
//! A program is decoded from arbitrary bytes, so that a property test and a fuzzer can share it. It
//! runs on a real [`Executor`] and on [`Model`]. Both record events as lines of text, which must be
//! equal.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Once, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use windlass_executor::{AbortHandle, Executor, Task, spawn};

/// Runs the program encoded in the bytes. Panics if the executor and the model differ.
pub(crate) fn check(bytes: &[u8]) {
    hush_expected_panics();
    let program = Rc::new(Program::decode(bytes));
    let expected = Model::run(&program);
    let happened = World::run(&program);
    if happened != expected {
        let same = happened.iter().zip(&expected).take_while(|(a, b)| a == b);
        let same = same.count();
        panic!(
            "{program:#?}\n\nboth: {:#?}\nhappened: {:?}\nexpected: {:?}",
            &happened[..same],
            &happened[same..],
            &expected[same..]
        );
    }
}

/// An action of a poll, of a destructor, or of the program's top level. The numbers select tasks,
/// counted back from the latest.
#[derive(Clone, Copy, Debug)]
enum Act {
    Spawn(usize),
    Wake(usize),
    WakeFromAnotherThread(usize),
    DropHandle(usize),
    Cancel(usize),
    Abort(usize),
    Detach(usize),
    Await(usize),
    IsFinished(usize),
    WakeSelf,
    Tick(usize),
    /// Drops the executor and creates a new one. Ignored inside polls and destructors.
    Restart,
}

/// The result of a poll.
#[derive(Clone, Copy, Debug)]
enum End {
    Pending,
    Ready,
    Panic,
}

/// The script of a task.
#[derive(Debug)]
struct Script {
    polls: Vec<(Vec<Act>, End)>,
    at_drop: Vec<Act>,
    drop_panics: bool,
}

#[derive(Debug)]
struct Program {
    scripts: Vec<Script>,
    acts: Vec<Act>,
}

/// These limits make every program terminate.
const MAX_TASKS: usize = 24;
const MAX_ACTS: usize = 60;

impl Program {
    fn decode(bytes: &[u8]) -> Self {
        let mut bytes = bytes.iter().copied();
        let mut next = |below: usize| bytes.next().map(|byte| byte as usize % below);
        let scripts = (0..=next(4).unwrap_or(0))
            .map(|_| Script {
                polls: (0..next(4).unwrap_or(0))
                    .map(|_| {
                        let acts = acts(&mut next, 4);
                        let end = match next(4) {
                            Some(0) => End::Ready,
                            Some(1) => End::Panic,
                            _ => End::Pending,
                        };
                        (acts, end)
                    })
                    .collect(),
                at_drop: acts(&mut next, 3),
                drop_panics: next(8) == Some(7),
            })
            .collect();
        let mut main = Vec::new();
        while let Some(act) = act(&mut next) {
            main.push(act);
        }
        main.truncate(MAX_ACTS);
        return Program {
            scripts,
            acts: main,
        };

        fn acts(next: &mut impl FnMut(usize) -> Option<usize>, below: usize) -> Vec<Act> {
            let count = next(below).unwrap_or(0);
            (0..count).map_while(|_| act(next)).collect()
        }

        fn act(next: &mut impl FnMut(usize) -> Option<usize>) -> Option<Act> {
            let (kind, n) = (next(17)?, next(256)?);
            Some(match kind {
                0 | 1 => Act::Spawn(n),
                2 | 3 => Act::Wake(n),
                4 => Act::WakeFromAnotherThread(n),
                5 => Act::DropHandle(n),
                6 => Act::Cancel(n),
                7 => Act::Detach(n),
                8 | 9 => Act::Await(n),
                10 => Act::IsFinished(n),
                11 => Act::WakeSelf,
                12..=14 => Act::Tick(n % 8),
                15 => Act::Abort(n),
                _ => Act::Restart,
            })
        }
    }
}

/// The task selected by the number `n` of an act.
fn pick(n: usize, tasks: usize) -> Option<usize> {
    tasks.checked_sub(1).map(|latest| latest - n % tasks)
}

thread_local! {
    static EXPECTING: Cell<bool> = const { Cell::new(false) };
    /// A thread that wakes each waker it receives, and confirms each wake.
    static ELSEWHERE: (mpsc::Sender<Waker>, mpsc::Receiver<()>) = {
        let (send, wakers) = mpsc::channel::<Waker>();
        let (done, wait) = mpsc::channel();
        thread::spawn(move || {
            for waker in wakers {
                waker.wake();
                done.send(()).expect("the sender waits");
            }
        });
        (send, wait)
    };
}

/// Keeps the program's own panics out of the panic hook, where they would abort a fuzzer.
fn hush_expected_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !EXPECTING.get() {
                report(info);
            }
        }));
    });
}

/// The output, or None if the closure panics.
fn expect_panics<T>(code: impl FnOnce() -> T) -> Option<T> {
    let before = EXPECTING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(code));
    EXPECTING.set(before);
    result.ok()
}

/// Panics with the program's own payload, without calling the panic hook.
fn panic_on_purpose() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// Runs the program on the real executor.
struct World {
    program: Rc<Program>,
    words: RefCell<Vec<String>>,
    /// None while the executor is being dropped.
    executor: RefCell<Option<Rc<Executor>>>,
    /// Indexed by task.
    handles: RefCell<Vec<Option<Task<Output>>>>,
    aborts: RefCell<Vec<Option<AbortHandle>>>,
    wakers: RefCell<Vec<Option<Waker>>>,
    driver: Waker,
    driver_wakes: Arc<DriverWaker>,
}

struct DriverWaker(AtomicUsize);

impl Wake for DriverWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl World {
    fn run(program: &Rc<Program>) -> Vec<String> {
        let driver_wakes = Arc::new(DriverWaker(AtomicUsize::new(0)));
        let world = Rc::new(World {
            program: program.clone(),
            words: RefCell::default(),
            executor: RefCell::new(Some(Rc::new(Executor::new()))),
            handles: RefCell::default(),
            aborts: RefCell::default(),
            wakers: RefCell::default(),
            driver: Waker::from(driver_wakes.clone()),
            driver_wakes,
        });
        for act in &program.acts {
            match act {
                Act::Restart => {
                    world.end();
                    world.executor.replace(Some(Rc::new(Executor::new())));
                }
                act => world.act(*act, None),
            }
            let executor = world.executor.borrow().clone().expect("it is there");
            let (tasks, ready) = (executor.tasks(), executor.has_ready());
            let driver_wakes = world.driver_wakes.0.load(SeqCst);
            world.say(format!(
                "{tasks} tasks, ready: {ready}, {driver_wakes} driver wakes"
            ));
        }
        world.end();
        let tasks = world.handles.borrow().len();
        for task in 0..tasks {
            world.drop_handle(task);
        }
        let words = world.words.take();
        assert_eq!(Rc::strong_count(&world), 1, "a future or an output leaked");
        words
    }

    fn say(&self, word: String) {
        self.words.borrow_mut().push(word);
    }

    fn end(&self) {
        let executor = self.executor.take();
        let before = EXPECTING.replace(true); // of destructors, say
        drop(executor);
        EXPECTING.set(before);
    }

    fn take_handle(&self, task: usize) -> Option<Task<Output>> {
        self.handles.borrow_mut()[task].take()
    }

    fn drop_handle(&self, task: usize) {
        if let Some(handle) = self.take_handle(task) {
            self.say(format!("drop handle {task}"));
            if expect_panics(|| drop(handle)).is_none() {
                self.say("panic".into());
            }
        }
    }

    /// `waker` belongs to the task that performs the act in its poll, if there is one.
    fn act(self: &Rc<Self>, act: Act, waker: Option<&Waker>) {
        let task = |n| pick(n, self.handles.borrow().len());
        let waker_of = |n| task(n).and_then(|task| self.wakers.borrow()[task].clone());
        match act {
            Act::Spawn(n) => self.spawn(n % self.program.scripts.len()),
            Act::Wake(n) => waker_of(n).into_iter().for_each(Waker::wake),
            Act::WakeFromAnotherThread(n) => {
                if let Some(waker) = waker_of(n) {
                    ELSEWHERE.with(|(send, wait)| {
                        send.send(waker).expect("the thread never exits");
                        wait.recv().expect("the thread never exits");
                    });
                }
            }
            Act::DropHandle(n) => task(n).into_iter().for_each(|task| self.drop_handle(task)),
            Act::Detach(n) => {
                let Some(task) = task(n) else { return };
                if let Some(handle) = self.take_handle(task) {
                    self.say(format!("detach {task}"));
                    handle.detach();
                }
            }
            Act::Cancel(n) => {
                let Some(task) = task(n) else { return };
                let Some(handle) = self.take_handle(task) else {
                    return;
                };
                let mut cancelling = Box::pin(handle.cancel());
                let mut cx = Context::from_waker(waker.unwrap_or(Waker::noop()));
                let polled = expect_panics(|| cancelling.as_mut().poll(&mut cx));
                let word = match &polled {
                    None => "panic",
                    Some(Poll::Pending) => "pending",
                    Some(Poll::Ready(None)) => "none",
                    Some(Poll::Ready(Some(_))) => "some",
                };
                self.say(format!("cancel {task}: {word}"));
                drop(polled);
            }
            Act::Await(n) => {
                let Some(task) = task(n) else { return };
                let Some(mut handle) = self.take_handle(task) else {
                    return;
                };
                let mut cx = Context::from_waker(waker.unwrap_or(Waker::noop()));
                let polled = expect_panics(|| Pin::new(&mut handle).poll(&mut cx));
                let word = match &polled {
                    None => "panic",
                    Some(Poll::Pending) => "pending",
                    Some(Poll::Ready(_)) => "ready",
                };
                self.say(format!("await {task}: {word}"));
                if let Some(Poll::Pending) = polled {
                    self.handles.borrow_mut()[task] = Some(handle);
                }
            }
            Act::Abort(n) => {
                let abort = task(n).and_then(|task| self.aborts.borrow()[task].clone());
                abort.into_iter().for_each(|abort| abort.abort());
            }
            Act::IsFinished(n) => {
                let Some(task) = task(n) else { return };
                let finished = self.handles.borrow()[task].as_ref().map(Task::is_finished);
                self.say(format!("{task} finished: {finished:?}"));
            }
            Act::WakeSelf => waker.into_iter().for_each(Waker::wake_by_ref),
            Act::Tick(budget) => {
                let executor = self.executor.borrow().clone();
                let Some(executor) = executor else { return };
                match expect_panics(|| executor.tick(&self.driver, budget)) {
                    Some(tick) => self.say(format!("{}, ready: {}", tick.polled, tick.ready)),
                    None => self.say("tick refused".into()),
                }
            }
            Act::Restart => {}
        }
    }

    fn spawn(self: &Rc<Self>, script: usize) {
        let task = self.handles.borrow().len();
        if task == MAX_TASKS {
            return;
        }
        self.say(format!("spawn {task}"));
        self.handles.borrow_mut().push(None);
        self.aborts.borrow_mut().push(None);
        self.wakers.borrow_mut().push(None);
        let world = self.clone();
        let poll = 0;
        let future = Scripted {
            world,
            task,
            script,
            poll,
        };
        let executor = self.executor.borrow().clone();
        let spawned = expect_panics(|| match executor {
            Some(executor) => executor.spawn(future),
            None => spawn(future), // in a destructor, while the executor is dropped
        });
        if spawned.is_none() {
            self.say("panic".into());
        }
        self.aborts.borrow_mut()[task] = spawned.as_ref().map(Task::abort_handle);
        self.handles.borrow_mut()[task] = spawned;
    }
}

/// The future of a task.
struct Scripted {
    world: Rc<World>,
    task: usize,
    script: usize,
    poll: usize,
}

impl Future for Scripted {
    type Output = Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Output> {
        let (world, task) = (self.world.clone(), self.task);
        world.say(format!("poll {task}"));
        world.wakers.borrow_mut()[task] = Some(cx.waker().clone());
        let program = world.program.clone();
        let poll = program.scripts[self.script].polls.get(self.poll);
        self.poll += 1;
        let (acts, end) = poll.map_or((&[][..], End::Ready), |(acts, end)| (acts, *end));
        for act in acts {
            world.act(*act, Some(cx.waker()));
        }
        match end {
            End::Pending => Poll::Pending,
            End::Ready => Poll::Ready(Output { world, task }),
            End::Panic => panic_on_purpose(),
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.world.say(format!("drop {}", self.task));
        let program = self.world.program.clone();
        let script = &program.scripts[self.script];
        for act in &script.at_drop {
            self.world.act(*act, None);
        }
        if script.drop_panics {
            assert!(!thread::panicking(), "a second panic would abort");
            panic_on_purpose();
        }
    }
}

struct Output {
    world: Rc<World>,
    task: usize,
}

impl Drop for Output {
    fn drop(&mut self) {
        self.world.say(format!("drop output {}", self.task));
    }
}

/// The model, as a queue of task numbers and flags.
struct Model {
    program: Rc<Program>,
    words: Vec<String>,
    tasks: Vec<Modelled>,
    queue: VecDeque<usize>,
    /// The task in each slot. Slots determine the order of drops and of remote wakes.
    slots: Vec<Option<usize>>,
    free: Vec<usize>,
    /// Remote wakes in order of their slots' first wake. Each slot has the woken task. If several
    /// tasks of one slot were woken, the value is None and the slot's current task is woken.
    inbox: (Vec<usize>, HashMap<usize, Option<usize>>),
    live: usize,
    driver_wakes: usize,
    /// The number of executors before this one.
    epoch: usize,
    is_running: bool,
    is_closed: bool,
    is_parked: bool,
    /// Whether the driver's waker is stored for local wakes, and for remote wakes.
    driver: (bool, bool),
}

#[derive(Default)]
struct Modelled {
    script: usize,
    poll: usize,
    epoch: usize,
    slot: usize,
    /// The task is unfinished, or its output is still stored.
    is_there: bool,
    has_handle: bool,
    is_wanted: bool,
    was_polled: bool,
    is_queued: bool,
    is_running: bool,
    is_cancelled: bool,
    /// True for an output, false for a panic.
    outcome: Option<bool>,
    /// The slot of the task that awaits this one.
    joiner: Option<usize>,
}

enum Found {
    Gone,
    Running,
    Waiting,
    Done(bool),
}

impl Model {
    fn run(program: &Rc<Program>) -> Vec<String> {
        let mut model = Model {
            program: program.clone(),
            words: Vec::new(),
            tasks: Vec::new(),
            queue: VecDeque::new(),
            slots: Vec::new(),
            free: Vec::new(),
            inbox: Default::default(),
            live: 0,
            driver_wakes: 0,
            epoch: 0,
            is_running: false,
            is_closed: false,
            is_parked: true,
            driver: (false, false),
        };
        for act in &program.acts {
            match act {
                Act::Restart => model.end(),
                act => model.act(*act, None),
            }
            let (tasks, ready, driver_wakes) = (model.live, model.has_ready(), model.driver_wakes);
            model.say(format!(
                "{tasks} tasks, ready: {ready}, {driver_wakes} driver wakes"
            ));
        }
        model.end();
        for task in 0..model.tasks.len() {
            model.drop_handle(task);
        }
        model.words
    }

    fn say(&mut self, word: String) {
        self.words.push(word);
    }

    fn has_ready(&self) -> bool {
        !self.inbox.0.is_empty() || !self.queue.is_empty()
    }

    fn act(&mut self, act: Act, me: Option<usize>) {
        let task = |n| pick(n, self.tasks.len());
        match act {
            Act::Spawn(n) => self.spawn(n % self.program.scripts.len()),
            Act::Wake(n) => match task(n) {
                Some(task) if self.tasks[task].was_polled => self.wake(task),
                _ => {}
            },
            Act::WakeFromAnotherThread(n) => match task(n) {
                Some(task) if self.tasks[task].was_polled => self.wake_from_another_thread(task),
                _ => {}
            },
            Act::DropHandle(n) => task(n).into_iter().for_each(|task| self.drop_handle(task)),
            Act::Detach(n) => task(n).into_iter().for_each(|task| self.detach(task)),
            Act::Cancel(n) => task(n).into_iter().for_each(|task| self.cancel(task)),
            Act::Abort(n) => task(n).into_iter().for_each(|task| self.abort(task)),
            Act::Await(n) => task(n).into_iter().for_each(|task| self.join(task, me)),
            Act::IsFinished(n) => {
                let Some(n) = task(n) else { return };
                let task = &self.tasks[n];
                let finished = !task.is_there || task.outcome.is_some();
                let finished = task.has_handle.then_some(finished);
                self.say(format!("{n} finished: {finished:?}"));
            }
            Act::WakeSelf => me.into_iter().for_each(|me| self.wake(me)),
            Act::Tick(_) if self.is_closed => {}
            Act::Tick(_) if self.is_running => self.say("tick refused".into()),
            Act::Tick(budget) => self.tick(budget),
            Act::Restart => {}
        }
    }

    fn spawn(&mut self, script: usize) {
        let n = self.tasks.len();
        if n == MAX_TASKS {
            return;
        }
        self.say(format!("spawn {n}"));
        let epoch = self.epoch;
        self.tasks.push(Modelled {
            script,
            epoch,
            ..Default::default()
        });
        if self.is_closed {
            if self.drop_future(n) {
                return self.say("panic".into());
            }
        } else {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            });
            self.slots[slot] = Some(n);
            self.live += 1;
            let task = &mut self.tasks[n];
            (task.slot, task.is_there, task.is_wanted) = (slot, true, true);
            self.queue(n);
            self.stir();
        }
        self.tasks[n].has_handle = true;
    }

    /// Returns true if the drop panics.
    fn drop_future(&mut self, n: usize) -> bool {
        self.say(format!("drop {n}"));
        let program = self.program.clone();
        let script = &program.scripts[self.tasks[n].script];
        for act in &script.at_drop {
            self.act(*act, None);
        }
        script.drop_panics
    }

    fn drop_output(&mut self, n: usize, is_output: bool) {
        if is_output {
            self.say(format!("drop output {n}"));
        }
    }

    /// Returns true if the task was appended to the run queue.
    fn queue(&mut self, n: usize) -> bool {
        let task = &mut self.tasks[n];
        let can = task.is_there && !task.is_queued && task.outcome.is_none();
        task.is_queued |= can;
        // A task that wakes itself is queued when its poll returns.
        let is_now = can && !task.is_running;
        if is_now {
            self.queue.push_back(n);
        }
        is_now
    }

    fn stir(&mut self) {
        if std::mem::take(&mut self.is_parked) && self.driver.0 {
            self.driver_wakes += 1;
        }
    }

    fn wake(&mut self, n: usize) {
        if self.tasks[n].epoch == self.epoch && self.queue(n) {
            self.stir();
        }
    }

    fn wake_from_another_thread(&mut self, n: usize) {
        if self.tasks[n].epoch != self.epoch {
            return;
        }
        let slot = self.tasks[n].slot;
        let (order, which) = &mut self.inbox;
        match which.get_mut(&slot) {
            Some(which) if *which == Some(n) => {}
            Some(which) => *which = None,
            None => {
                order.push(slot);
                which.insert(slot, Some(n));
            }
        }
        if std::mem::take(&mut self.driver.1) {
            self.driver_wakes += 1;
        }
    }

    fn tick(&mut self, budget: usize) {
        (self.is_running, self.is_parked) = (true, false);
        if !self.driver.0 || !self.inbox.0.is_empty() {
            let (order, which) = std::mem::take(&mut self.inbox);
            for slot in order {
                let woken = which[&slot].or(self.slots[slot]);
                woken.into_iter().for_each(|n| _ = self.queue(n));
            }
            self.driver = (true, true);
        }
        let mut polled = 0;
        while polled < budget {
            let Some(n) = self.queue.pop_front() else {
                break;
            };
            let task = &mut self.tasks[n];
            task.is_queued = false;
            if task.is_there && task.outcome.is_none() {
                self.poll(n);
                polled += 1;
            }
        }
        (self.is_running, self.is_parked) = (false, true);
        self.say(format!("{polled}, ready: {}", self.has_ready()));
    }

    fn poll(&mut self, n: usize) {
        self.say(format!("poll {n}"));
        let program = self.program.clone();
        let task = &mut self.tasks[n];
        (task.is_running, task.was_polled) = (true, true);
        let poll = program.scripts[task.script].polls.get(task.poll);
        task.poll += 1;
        let (acts, end) = poll.map_or((&[][..], End::Ready), |(acts, end)| (acts, *end));
        for act in acts {
            self.act(*act, Some(n));
        }
        match end {
            End::Pending if self.tasks[n].is_cancelled => {
                self.finish(n, None);
                self.drop_future(n);
            }
            End::Pending => {
                self.tasks[n].is_running = false;
                if self.tasks[n].is_queued {
                    self.queue.push_back(n);
                }
            }
            End::Panic => {
                self.drop_future(n);
                self.finish(n, Some(false));
            }
            End::Ready => {
                let panics = self.drop_future(n);
                if panics {
                    self.drop_output(n, true);
                }
                self.finish(n, Some(!panics));
            }
        }
    }

    fn finish(&mut self, n: usize, outcome: Option<bool>) {
        self.live -= 1;
        let task = &mut self.tasks[n];
        (task.is_running, task.is_cancelled, task.is_queued) = (false, false, false);
        let joiner = task.joiner.take();
        self.leave_slot(n);
        joiner.into_iter().for_each(|slot| self.wake_slot(slot));
        let task = &mut self.tasks[n];
        if task.is_wanted && outcome.is_some() {
            task.outcome = outcome;
        } else {
            task.is_there = false;
            self.drop_output(n, outcome == Some(true));
        }
    }

    fn leave_slot(&mut self, n: usize) {
        let slot = self.tasks[n].slot;
        self.slots[slot] = None;
        self.free.push(slot);
    }

    fn wake_slot(&mut self, slot: usize) {
        let there = self.slots[slot];
        there.into_iter().for_each(|n| _ = self.queue(n));
    }

    /// Removes the task, unless it is running.
    fn take(&mut self, n: usize) -> Found {
        let task = &mut self.tasks[n];
        if !task.is_there {
            return Found::Gone;
        }
        if task.is_running {
            task.is_cancelled = true;
            return Found::Running;
        }
        task.joiner = None;
        task.is_there = false;
        if let Some(outcome) = task.outcome.take() {
            return Found::Done(outcome);
        }
        self.leave_slot(n);
        self.live -= 1;
        Found::Waiting
    }

    fn take_handle(&mut self, n: usize) -> bool {
        std::mem::take(&mut self.tasks[n].has_handle)
    }

    fn drop_handle(&mut self, n: usize) {
        if !self.take_handle(n) {
            return;
        }
        self.say(format!("drop handle {n}"));
        match self.take(n) {
            Found::Gone => {}
            Found::Running => self.let_go(n),
            Found::Waiting => {
                if self.drop_future(n) {
                    self.say("panic".into());
                }
            }
            Found::Done(is_output) => self.drop_output(n, is_output),
        }
    }

    fn let_go(&mut self, n: usize) {
        self.tasks[n].is_wanted = false;
        self.tasks[n].joiner = None;
    }

    fn detach(&mut self, n: usize) {
        if !self.take_handle(n) {
            return;
        }
        self.say(format!("detach {n}"));
        self.let_go(n);
        if self.tasks[n].is_there {
            if let Some(is_output) = self.tasks[n].outcome {
                self.tasks[n].is_there = false;
                self.drop_output(n, is_output);
            }
        }
    }

    fn cancel(&mut self, n: usize) {
        if !self.take_handle(n) {
            return;
        }
        let found = self.take(n);
        let word = match found {
            Found::Gone => "none",
            Found::Running => "pending",
            Found::Waiting if self.drop_future(n) => "panic",
            Found::Waiting => "none",
            Found::Done(true) => "some",
            Found::Done(false) => "panic",
        };
        self.say(format!("cancel {n}: {word}"));
        match found {
            Found::Running => self.let_go(n),
            Found::Done(is_output) => self.drop_output(n, is_output),
            _ => {}
        }
    }

    fn abort(&mut self, n: usize) {
        let task = &self.tasks[n];
        if !task.is_there || task.outcome.is_some() {
            return;
        }
        let joiner = task.joiner;
        if let Found::Waiting = self.take(n) {
            let joiner = joiner.and_then(|slot| self.slots[slot]);
            self.drop_future(n);
            joiner.into_iter().for_each(|joiner| self.wake(joiner));
        }
    }

    fn join(&mut self, n: usize, me: Option<usize>) {
        if !self.tasks[n].has_handle {
            return;
        }
        let slot = me.map(|me| self.tasks[me].slot);
        let task = &mut self.tasks[n];
        if task.is_there && task.outcome.is_none() {
            task.joiner = slot;
            return self.say(format!("await {n}: pending"));
        }
        self.take_handle(n);
        match self.take(n) {
            Found::Done(true) => {
                self.say(format!("await {n}: ready"));
                self.drop_output(n, true);
            }
            _ => self.say(format!("await {n}: panic")),
        }
    }

    /// Drops the executor and starts the next one.
    fn end(&mut self) {
        self.is_closed = true;
        for slot in 0..self.slots.len() {
            if let Some(n) = self.slots[slot] {
                let joiner = self.tasks[n].joiner.take();
                self.tasks[n].is_there = false;
                self.leave_slot(n);
                self.live -= 1;
                joiner.into_iter().for_each(|slot| self.wake_slot(slot));
                self.drop_future(n);
            }
        }
        self.epoch += 1;
        (self.is_closed, self.is_parked, self.driver) = (false, true, (false, false));
        self.queue.clear();
        self.slots.clear();
        self.free.clear();
        self.inbox = Default::default();
    }
}
