//! Random programs compare coroutines of every kind with a plain loop.

use std::collections::VecDeque;
use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;

use futures::FutureExt;
use futures::future::select;
use proptest::prelude::*;
use windlass::coroutine::State::{Complete, Yielded};
use windlass::coroutine::{AsyncCoroutine, Co, Coroutine, Exchange, State};
use windlass_executor::yield_now;

/// The steps of a body.
#[derive(Debug, Clone)]
enum Step {
    /// Yields the sum plus this number, and adds the input.
    Yield(u32),
    /// Drops a yield before the body suspends.
    GiveUp(u32),
    /// Yields and ignores the input.
    Ignore(u32),
    /// Runs steps in a function that the body calls.
    Call(Vec<Step>),
    /// Awaits another future.
    Wait,
    Panic,
}

#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Yielded(u32),
    Complete(u32),
    /// With the first word of the message.
    Panicked(String),
    /// The future of `send` was dropped.
    GivenUp,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<u32>().prop_map(Step::Yield),
        2 => any::<u32>().prop_map(Step::GiveUp),
        2 => any::<u32>().prop_map(Step::Ignore),
        1 => Just(Step::Wait),
        1 => Just(Step::Panic),
    ];
    let step = step.prop_recursive(3, 24, 6, |inner| {
        prop::collection::vec(inner, 0..6).prop_map(Step::Call)
    });
    prop::collection::vec(step, 0..10)
}

/// A number that counts its live copies.
#[derive(Clone)]
struct Token(u32, #[allow(dead_code)] Rc<()>);

type Tokens<'x> = Co<'x, Token, Token>;

async fn follow(steps: &[Step], sum: &mut Token, co: &mut Tokens<'_>) {
    let plus = |sum: &Token, by: u32| Token(sum.0.wrapping_add(by), sum.1.clone());
    for step in steps {
        match step {
            Step::Yield(number) => {
                let input = co.yield_(plus(sum, *number)).await;
                *sum = plus(sum, input.0);
            }
            Step::GiveUp(number) => {
                drop(select(co.yield_(plus(sum, *number)), ready(())).await);
            }
            Step::Ignore(number) => {
                drop(select(pin!(yield_now()), co.yield_(plus(sum, *number))).await);
            }
            Step::Call(steps) => Box::pin(follow(steps, sum, co)).await,
            Step::Wait => yield_now().await,
            Step::Panic => panic!("planned"),
        }
    }
}

async fn body(steps: &[Step], co: &mut Tokens<'_>, mut sum: Token) -> Token {
    follow(steps, &mut sum, co).await;
    sum
}

/// The plain loop. `may_wait` selects the kind of coroutine.
fn model(steps: &[Step], inputs: &[u32], may_wait: bool) -> Vec<Seen> {
    fn flat<'s>(steps: &'s [Step], into: &mut VecDeque<&'s Step>) {
        for step in steps {
            match step {
                Step::Call(steps) => flat(steps, into),
                step => into.push_back(step),
            }
        }
    }
    let mut left = VecDeque::new();
    flat(steps, &mut left);
    let (mut sum, mut takes, mut finished) = (0_u32, true, false);
    let mut seen = Vec::new();
    for &input in inputs {
        if finished {
            seen.push(Seen::Panicked("this".into()));
            continue;
        }
        if std::mem::replace(&mut takes, true) {
            sum = sum.wrapping_add(input);
        }
        let stop = loop {
            match left.pop_front() {
                Some(Step::Yield(number)) => break Seen::Yielded(sum.wrapping_add(*number)),
                Some(Step::Ignore(number)) => {
                    takes = false;
                    break Seen::Yielded(sum.wrapping_add(*number));
                }
                Some(Step::Wait) if !may_wait => break Seen::Panicked("this".into()),
                Some(Step::Panic) => break Seen::Panicked("planned".into()),
                Some(Step::GiveUp(_) | Step::Wait) => {}
                Some(Step::Call(_)) => unreachable!("they are flat"),
                None => break Seen::Complete(sum),
            }
        };
        finished = !matches!(stop, Seen::Yielded(_));
        seen.push(stop);
    }
    seen
}

fn see(code: impl FnOnce() -> Option<State<Token, Token>>) -> Seen {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(Some(Yielded(output))) => Seen::Yielded(output.0),
        Ok(Some(Complete(result))) => Seen::Complete(result.0),
        Ok(None) => Seen::GivenUp,
        Err(payload) => {
            let literal = payload.downcast_ref::<&str>().copied();
            let text = literal.expect("the messages are literals");
            Seen::Panicked(text.split(' ').next().unwrap().to_owned())
        }
    }
}

fn resume(mut coroutine: Coroutine<'_, Token, Token, Token>, inputs: &[Token]) -> Vec<Seen> {
    let resume = |input: &Token| see(|| Some(coroutine.resume(input.clone())));
    inputs.iter().map(resume).collect()
}

/// Drops each `send` that is pending, and awaits the answer afterwards.
fn send(mut coroutine: AsyncCoroutine<'_, Token, Token, Token>, inputs: &[Token]) -> Vec<Seen> {
    let send = |input: &Token| {
        let mut seen = see(|| coroutine.send(input.clone()).now_or_never());
        while seen == Seen::GivenUp {
            seen = see(|| coroutine.answer().now_or_never());
        }
        seen
    };
    inputs.iter().map(send).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_coroutine_behaves_like_the_model(
        steps in steps(),
        inputs in prop::collection::vec(any::<u32>(), 0..12),
    ) {
        let count = Rc::new(());
        let tokens: Vec<_> = inputs.iter().map(|&input| Token(input, count.clone())).collect();
        let run = async |co: &mut Tokens<'_>, first| body(&steps, co, first).await;

        std::panic::set_hook(Box::new(|_| {})); // hides the planned panics
        let boxed = resume(Coroutine::new(run), &tokens);
        let pinned = {
            let exchange = Exchange::new();
            let body = pin!(exchange.body(run));
            resume(Coroutine::pinned(&exchange, body), &tokens)
        };
        let waiting = send(AsyncCoroutine::new(run), &tokens);
        drop(std::panic::take_hook());

        let expected = model(&steps, &inputs, false);
        prop_assert_eq!(boxed, &*expected);
        prop_assert_eq!(pinned, &*expected);
        prop_assert_eq!(waiting, model(&steps, &inputs, true));
        drop(tokens);
        prop_assert_eq!(Rc::strong_count(&count), 1);
    }
}
