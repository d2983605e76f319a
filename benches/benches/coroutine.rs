//! The cost of resuming a coroutine, beside alternatives with the same behaviour.
//!
//! ```text
//! cargo bench -p windlass-benches --bench coroutine                      # time
//! cargo bench -p windlass-benches --bench coroutine -- --count 'both ways/windlass, boxed' 1000
//! ```
//!
//! The second form runs an operation a number of times, for `callgrind` to count; see the README.

use std::env;
use std::hint::black_box;
use std::pin::pin;
use std::sync::mpsc;
use std::thread;

use criterion::{Criterion, Throughput};
use futures::StreamExt;
use windlass::coroutine::State::{Complete, Yielded};
use windlass::coroutine::{AsyncCoroutine, Co, Coroutine, Exchange, State};
use windlass_executor::{Executor, block_on};

/// Resumes, or creations, per iteration.
const TIMES: u64 = 1000;

type Work = fn(u64) -> u64;

/// *both ways*: a number goes in, and the sum of all comes out. *out*: the next number comes out.
/// *create*: a coroutine is created, resumed once, and dropped.
const WORKS: &[(&str, &str, Work)] = &[
    ("both ways", "state machine by hand", both_by_hand),
    ("both ways", "windlass, pinned", both_pinned),
    ("both ways", "windlass, boxed", both_boxed),
    ("both ways", "windlass, async kind", both_async),
    ("both ways", "genawaiter, stack", both_genawaiter_stack),
    ("both ways", "genawaiter, rc", both_genawaiter_rc),
    ("both ways", "corosensei", both_corosensei),
    ("both ways", "thread and channels", both_thread),
    ("out", "iterator by hand", out_by_hand),
    ("out", "windlass, pinned", out_pinned),
    ("out", "windlass, boxed", out_boxed),
    ("out", "windlass, async kind", out_async),
    ("out", "genawaiter, rc", out_genawaiter_rc),
    ("out", "async-stream", out_async_stream),
    ("out", "async-fn-stream", out_async_fn_stream),
    ("out", "corosensei", out_corosensei),
    ("out", "thread and channel", out_thread),
    ("create", "windlass, pinned", create_pinned),
    ("create", "windlass, boxed", create_boxed),
    ("create", "genawaiter, rc", create_genawaiter_rc),
    ("create", "corosensei", create_corosensei),
];

fn main() {
    let mut args = env::args().skip_while(|arg| arg != "--count").skip(1);
    if let Some(wanted) = args.next() {
        let times = args.next().and_then(|times| times.parse().ok());
        let work = WORKS
            .iter()
            .find(|(group, name, _)| format!("{group}/{name}") == wanted);
        let (_, _, work) = work.expect("a work of the list");
        black_box(work(times.expect("how many times")));
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    for of_group in WORKS.chunk_by(|one, next| one.0 == next.0) {
        let mut group = criterion.benchmark_group(of_group[0].0);
        group.throughput(Throughput::Elements(TIMES));
        for &(_, name, work) in of_group {
            group.sample_size(if name.starts_with("thread") { 10 } else { 50 });
            group.bench_function(name, |bencher| bencher.iter(|| work(black_box(TIMES))));
        }
        group.finish();
    }
    criterion.final_summary();
}

/// Resumes that many times, and sums the results.
fn drive(times: u64, mut resume: impl FnMut(u64) -> u64) -> u64 {
    (0..times).fold(0, |sum, input| sum ^ black_box(resume(black_box(input))))
}

async fn totals(co: &mut Co<'_, u64, u64>, first: u64) {
    let mut sum = first;
    loop {
        sum += co.yield_(sum).await;
    }
}

async fn numbers(co: &mut Co<'_, (), u64>, (): ()) {
    let mut number = 0;
    loop {
        co.yield_(number).await;
        number += 1;
    }
}

fn yielded(state: State<u64, ()>) -> u64 {
    match state {
        Yielded(output) => output,
        Complete(()) => unreachable!("they are endless"),
    }
}

/// The state machine that a compiler would generate from the body above.
enum Totals {
    Start,
    AtYield { sum: u64 },
}

fn both_by_hand(times: u64) -> u64 {
    let mut state = Totals::Start;
    drive(times, |input| {
        let sum = match state {
            Totals::Start => input,
            Totals::AtYield { sum } => sum + input,
        };
        state = Totals::AtYield { sum };
        sum
    })
}

fn both_pinned(times: u64) -> u64 {
    let exchange = Exchange::new();
    let body = pin!(exchange.body(totals));
    let mut coroutine = Coroutine::pinned(&exchange, body);
    drive(times, |input| yielded(coroutine.resume(input)))
}

fn both_boxed(times: u64) -> u64 {
    let mut coroutine = Coroutine::new(totals);
    drive(times, |input| yielded(coroutine.resume(input)))
}

fn both_async(times: u64) -> u64 {
    block_on(Executor::new().run(async {
        let (mut coroutine, mut sum) = (AsyncCoroutine::new(totals), 0);
        for input in 0..times {
            sum ^= black_box(yielded(coroutine.send(black_box(input)).await));
        }
        sum
    }))
}

fn both_genawaiter_stack(times: u64) -> u64 {
    genawaiter::stack::let_gen_using!(coroutine, async |co| {
        let mut sum = 0;
        loop {
            sum += co.yield_(sum).await;
        }
    });
    drive(times, |input| of_genawaiter(coroutine.resume_with(input)))
}

fn both_genawaiter_rc(times: u64) -> u64 {
    let mut coroutine = genawaiter::rc::Gen::new(async |co| {
        let mut sum = 0;
        loop {
            sum += co.yield_(sum).await;
        }
    });
    drive(times, |input| of_genawaiter(coroutine.resume_with(input)))
}

fn of_genawaiter(state: genawaiter::GeneratorState<u64, ()>) -> u64 {
    match state {
        genawaiter::GeneratorState::Yielded(output) => output,
        genawaiter::GeneratorState::Complete(()) => unreachable!("they are endless"),
    }
}

fn both_corosensei(times: u64) -> u64 {
    let mut coroutine = corosensei::Coroutine::new(|yielder, mut sum| {
        loop {
            sum += yielder.suspend(sum);
        }
    });
    let sum = drive(times, |input| of_corosensei(coroutine.resume(input)));
    coroutine.force_unwind();
    sum
}

fn of_corosensei(state: corosensei::CoroutineResult<u64, ()>) -> u64 {
    state.as_yield().expect("they are endless")
}

fn both_thread(times: u64) -> u64 {
    let (inputs, taken) = mpsc::sync_channel(0);
    let (given, outputs) = mpsc::sync_channel(0);
    thread::spawn(move || {
        let mut sum = 0;
        while let Ok(input) = taken.recv() {
            sum += input;
            if given.send(sum).is_err() {
                return;
            }
        }
    });
    drive(times, |input| {
        inputs.send(input).expect("it listens");
        outputs.recv().expect("it answers")
    })
}

/// Takes that many values, and sums them.
fn sum(times: u64, mut numbers: impl Iterator<Item = u64>) -> u64 {
    drive(times, |_| numbers.next().expect("they are endless"))
}

fn sum_stream(times: u64, numbers: impl futures::Stream<Item = u64>) -> u64 {
    block_on(Executor::new().run(async {
        let (mut numbers, mut sum) = (pin!(numbers), 0);
        for _ in 0..times {
            sum ^= black_box(numbers.next().await.expect("they are endless"));
        }
        sum
    }))
}

fn out_by_hand(times: u64) -> u64 {
    struct Numbers(u64);

    impl Iterator for Numbers {
        type Item = u64;

        fn next(&mut self) -> Option<u64> {
            self.0 += 1;
            Some(self.0 - 1)
        }
    }

    sum(times, Numbers(0))
}

fn out_pinned(times: u64) -> u64 {
    let exchange = Exchange::new();
    let body = pin!(exchange.body(numbers));
    sum(times, Coroutine::pinned(&exchange, body))
}

fn out_boxed(times: u64) -> u64 {
    sum(times, Coroutine::new(numbers))
}

fn out_async(times: u64) -> u64 {
    sum_stream(times, AsyncCoroutine::new(numbers))
}

fn out_genawaiter_rc(times: u64) -> u64 {
    let numbers = genawaiter::rc::Gen::new(async |co| {
        let mut number = 0;
        loop {
            co.yield_(number).await;
            number += 1;
        }
    });
    sum(times, numbers.into_iter())
}

fn out_async_stream(times: u64) -> u64 {
    let numbers = async_stream::stream! {
        let mut number = 0;
        loop {
            yield number;
            number += 1;
        }
    };
    sum_stream(times, numbers)
}

fn out_async_fn_stream(times: u64) -> u64 {
    let numbers = async_fn_stream::fn_stream(async |emitter| {
        let mut number = 0;
        loop {
            emitter.emit(number).await;
            number += 1;
        }
    });
    sum_stream(times, numbers)
}

fn out_corosensei(times: u64) -> u64 {
    let mut numbers = corosensei::Coroutine::new(|yielder, ()| {
        let mut number = 0;
        loop {
            yielder.suspend(number);
            number += 1;
        }
    });
    let sum = drive(times, |_| of_corosensei(numbers.resume(())));
    numbers.force_unwind();
    sum
}

fn out_thread(times: u64) -> u64 {
    let (given, outputs) = mpsc::sync_channel(0);
    thread::spawn(move || {
        let mut number = 0;
        while given.send(number).is_ok() {
            number += 1;
        }
    });
    sum(times, outputs.into_iter())
}

fn create_pinned(times: u64) -> u64 {
    (0..times).map(|_| both_pinned(1)).sum()
}

fn create_boxed(times: u64) -> u64 {
    (0..times).map(|_| both_boxed(1)).sum()
}

fn create_genawaiter_rc(times: u64) -> u64 {
    (0..times).map(|_| both_genawaiter_rc(1)).sum()
}

fn create_corosensei(times: u64) -> u64 {
    (0..times).map(|_| both_corosensei(1)).sum()
}
