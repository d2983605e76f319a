//! Signals. They concern the whole process, so each test runs in a process of its own.

// `signal_windows.rs` tests Windows.
#![cfg(unix)]

#[path = "../reactor/tests/common/mod.rs"]
mod common;

use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use common::*;
use futures::{StreamExt, join};
use rustix::process::{Resource, Rlimit, getpid, getrlimit, kill_process, setrlimit};
use windlass::signal::{Signal, Signals, ctrl_c};
use windlass::time::sleep;
use windlass_reactor::Reactor;

/// Sends the signal to this thread, and returns after the handler has run.
fn raise(signal: Signal) {
    signal_hook::low_level::raise(signal.as_raw()).unwrap();
}

/// Polls `recv` once.
fn next(signals: &mut Signals) -> Poll<Signal> {
    let next = pin!(signals.recv()).poll(&mut Context::from_waker(Waker::noop()));
    next.map(Result::unwrap)
}

#[test]
fn a_signal_wakes_its_receiver() {
    in_child("a_signal_wakes_its_receiver", || {
        run(async {
            let mut signals = Signals::new([Signal::USR1]).unwrap();
            for _ in 0..100 {
                let (heard, ()) = join!(signals.recv(), async {
                    sleep(Duration::ZERO).await;
                    kill_process(getpid(), rustix::process::Signal::USR1).unwrap();
                });
                assert_eq!(heard.unwrap(), Signal::USR1);
            }
        });
    });
}

#[test]
fn a_signal_handled_on_another_thread_is_received() {
    in_child("a_signal_handled_on_another_thread_is_received", || {
        let mut signals = Signals::new([Signal::USR1]).unwrap();
        let (go, when) = mpsc::channel();
        let thread = thread::spawn(move || {
            while let Ok(()) = when.recv() {
                raise(Signal::USR1);
            }
        });
        run(async {
            for _ in 0..100 {
                go.send(()).unwrap();
                assert_eq!(signals.next().await.unwrap().unwrap(), Signal::USR1);
            }
        });
        drop(go);
        thread.join().unwrap();
    });
}

#[test]
fn only_requested_signals_from_before_the_wait_are_received() {
    in_child(
        "only_requested_signals_from_before_the_wait_are_received",
        || {
            let _others = Signals::new([Signal::HUP]).unwrap();
            let mut signals = Signals::new([Signal::USR1, Signal::USR2]).unwrap();
            raise(Signal::USR2);
            raise(Signal::HUP);
            run(async {
                assert_eq!(signals.recv().await.unwrap(), Signal::USR2);
                assert!(next(&mut signals).is_pending());
                raise(Signal::USR1);
                assert_eq!(signals.recv().await.unwrap(), Signal::USR1);
            });
        },
    );
}

#[test]
fn a_pending_signal_that_is_raised_again_counts_once() {
    in_child("a_pending_signal_that_is_raised_again_counts_once", || {
        run(async {
            let mut signals = Signals::new([Signal::USR1, Signal::USR1]).unwrap();
            for _ in 0..3 {
                (0..3).for_each(|_| raise(Signal::USR1));
                assert_eq!(signals.recv().await.unwrap(), Signal::USR1);
                assert!(next(&mut signals).is_pending());
            }
        });
    });
}

#[test]
fn a_frequent_signal_does_not_starve_another() {
    in_child("a_frequent_signal_does_not_starve_another", || {
        let mut signals = Signals::new([Signal::USR1, Signal::USR2]).unwrap();
        raise(Signal::USR2);
        for expected in [Signal::USR1, Signal::USR2, Signal::USR1] {
            raise(Signal::USR1);
            assert_eq!(next(&mut signals), Poll::Ready(expected));
        }
    });
}

#[test]
fn a_full_pipe_loses_no_signal() {
    in_child("a_full_pipe_loses_no_signal", || {
        run(async {
            let mut signals = Signals::new([Signal::USR1]).unwrap();
            // A signal that is received at once leaves its byte in the pipe, which holds fewer than
            // 100,000 bytes.
            for _ in 0..100_000 {
                raise(Signal::USR1);
                assert_eq!(next(&mut signals), Poll::Ready(Signal::USR1));
            }
            for _ in 0..3 {
                let (heard, ()) = join!(signals.recv(), async {
                    sleep(Duration::ZERO).await;
                    raise(Signal::USR1);
                });
                assert_eq!(heard.unwrap(), Signal::USR1);
            }
        });
    });
}

#[test]
fn receivers_on_all_threads_get_a_signal() {
    in_child("receivers_on_all_threads_get_a_signal", || {
        let heard = Arc::new(AtomicUsize::new(0));
        let flag = heard.clone();
        // A handler that is registered first.
        let before = signal_hook::consts::SIGTERM;
        signal_hook::flag::register_usize(before, flag, 7).unwrap();
        let (ready, is_ready) = mpsc::channel();
        let threads = [(); 3].map(|()| {
            let ready = ready.clone();
            thread::spawn(move || {
                let mut one = Signals::new([Signal::TERM]).unwrap();
                let mut two = Signals::new([Signal::TERM, Signal::HUP]).unwrap();
                ready.send(()).unwrap();
                run(async { join!(one.recv(), two.recv()) })
            })
        });
        threads.iter().for_each(|_| is_ready.recv().unwrap());
        raise(Signal::TERM);
        for thread in threads {
            let (one, two) = thread.join().unwrap();
            assert_eq!([one.unwrap(), two.unwrap()], [Signal::TERM; 2]);
        }
        assert_eq!(heard.load(SeqCst), 7);
    });
}

#[test]
fn a_dropped_recv_loses_no_signal() {
    in_child("a_dropped_recv_loses_no_signal", || {
        run(async {
            let mut signals = Signals::new([Signal::USR1]).unwrap();
            assert!(next(&mut signals).is_pending());
            raise(Signal::USR1);
            sleep(Duration::ZERO).await;
            assert_eq!(signals.recv().await.unwrap(), Signal::USR1);
        });
    });
}

#[test]
fn a_signal_without_receivers_has_no_effect() {
    in_child("a_signal_without_receivers_has_no_effect", || {
        let _reactor = Reactor::current().unwrap();
        let mut other = Signals::new([Signal::TERM]).unwrap();
        let before = descriptors();
        for _ in 0..100 {
            let mut signals = Signals::new([Signal::TERM, Signal::HUP]).unwrap();
            assert!(next(&mut signals).is_pending());
            drop(signals);
            raise(Signal::HUP);
            raise(Signal::TERM);
            assert_eq!(next(&mut other), Poll::Ready(Signal::TERM));
        }
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn signals_that_cannot_be_caught_are_refused() {
    in_child("signals_that_cannot_be_caught_are_refused", || {
        let _reactor = Reactor::current().unwrap();
        let before = descriptors();
        for number in [9, 19, 4, 8, 11] {
            let error = Signals::new([Signal::USR1, Signal::from_raw(number)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let text = error.to_string();
            assert!(text.contains(&format!("signal {number}:")), "{text}");
        }
        for number in [0, -1, 1000] {
            let error = Signals::new([Signal::from_raw(number)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn recv_waits_and_is_an_error_without_a_running_reactor() {
    in_child(
        "recv_waits_and_is_an_error_without_a_running_reactor",
        || {
            let mut none = Signals::new([]).unwrap();
            let mut recv = Box::pin(none.recv());
            let Poll::Ready(Err(error)) = poll(&mut recv, Waker::noop()) else {
                panic!("no reactor turns");
            };
            assert!(error.to_string().contains("block_on"), "{error}");
            drop(recv);
            let _reactor = Reactor::current().unwrap();
            assert!(next(&mut none).is_pending());
        },
    );
}

#[test]
fn realtime_signals_are_received_by_number() {
    in_child("realtime_signals_are_received_by_number", || {
        let number = Signal::from_raw(40);
        let mut signals = Signals::new([number]).unwrap();
        raise(number);
        assert_eq!(run(signals.recv()).unwrap(), number);
        assert_eq!(format!("{signals:?}"), "Signals {signal 40}");
    });
}

#[test]
fn ctrl_c_receives_signals_from_its_call_on() {
    in_child("ctrl_c_receives_signals_from_its_call_on", || {
        for _ in 0..3 {
            let pressed = ctrl_c();
            raise(Signal::INT);
            run(pressed).unwrap();
        }
        drop(ctrl_c());
        raise(Signal::INT);
        run(async {
            let (mut late, mut other) = (ctrl_c(), ctrl_c());
            assert!(poll(&mut late, Waker::noop()).is_pending());
            drop(late);
            raise(Signal::INT);
            assert!(poll(&mut other, Waker::noop()).is_ready());
        });
    });
}

#[test]
fn ctrl_c_without_descriptors_is_an_error_where_it_is_awaited() {
    in_child(
        "ctrl_c_without_descriptors_is_an_error_where_it_is_awaited",
        || {
            let reactor = Reactor::current().unwrap();
            let limit = getrlimit(Resource::Nofile);
            let none = Rlimit {
                current: Some(0),
                maximum: limit.maximum,
            };
            setrlimit(Resource::Nofile, none).unwrap();
            let pressed = ctrl_c();
            setrlimit(Resource::Nofile, limit).unwrap();
            let error = reactor.block_on(pressed).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(24), "{error}"); // EMFILE
        },
    );
}

#[test]
fn signals_of_a_child_have_default_actions_and_spare_the_parent() {
    in_child(
        "signals_of_a_child_have_default_actions_and_spare_the_parent",
        || {
            let _reactor = Reactor::current().unwrap();
            let mut signals = Signals::new([Signal::TERM, Signal::INT]).unwrap();
            assert!(next(&mut signals).is_pending());
            for (name, signal) in [("TERM", Signal::TERM), ("INT", Signal::INT)] {
                let kill = format!("kill -{name} $$; echo still there");
                let child = Command::new("sh").args(["-c", &kill]).output().unwrap();
                assert_eq!(child.status.signal(), Some(signal.as_raw()), "{child:?}");
            }
            assert!(next(&mut signals).is_pending());
        },
    );
}

/// Returns the system's action for a signal, and replaces it by `new` if that is given.
fn action(signal: Signal, new: Option<&libc::sigaction>) -> libc::sigaction {
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    let mut old = std::mem::MaybeUninit::zeroed();
    // SAFETY: the pointers are valid, and the new action is a handler that may run at any time.
    unsafe {
        assert_eq!(libc::sigaction(signal.as_raw(), new, old.as_mut_ptr()), 0);
        old.assume_init()
    }
}

#[test]
fn every_signal_is_handled_on_the_alternate_stack() {
    in_child("every_signal_is_handled_on_the_alternate_stack", || {
        // This includes a signal for which other code has registered a handler before.
        let flag = Arc::new(std::sync::atomic::AtomicBool::new(false));
        signal_hook::flag::register(Signal::USR2.as_raw(), flag.clone()).unwrap();
        for signal in [Signal::USR1, Signal::USR2, Signal::INT, Signal::WINCH] {
            for _ in 0..2 {
                let mut signals = Signals::new([signal]).unwrap();
                let flags = action(signal, None).sa_flags;
                assert_ne!(flags & libc::SA_ONSTACK, 0, "{signal:?}");
                assert_ne!(flags & libc::SA_RESTART, 0, "{signal:?}");
                raise(signal);
                assert_eq!(next(&mut signals), Poll::Ready(signal));
            }
        }
        assert!(flag.load(SeqCst));
    });
}

/// The threads of std have an alternate signal stack.
#[test]
fn a_handler_does_not_run_on_the_stack_that_it_interrupts() {
    let name = "a_handler_does_not_run_on_the_stack_that_it_interrupts";
    in_child(name, || {
        let at = Arc::new(AtomicUsize::new(0));
        let seen = at.clone();
        let handler = move || {
            let local = 0_u8;
            seen.store(std::hint::black_box(&raw const local).addr(), SeqCst);
        };
        // SAFETY: the handler only stores a number.
        unsafe { signal_hook::low_level::register(Signal::USR1.as_raw(), handler) }.unwrap();
        let _signals = Signals::new([Signal::USR1]).unwrap();
        let interrupted = move || {
            raise(Signal::USR1);
            let mut stack = std::mem::MaybeUninit::<libc::stack_t>::zeroed();
            // SAFETY: the call writes to the given pointer, and a `stack_t` may be all zeros.
            let stack = unsafe {
                assert_eq!(libc::sigaltstack(std::ptr::null(), stack.as_mut_ptr()), 0);
                stack.assume_init()
            };
            let start = stack.ss_sp.addr();
            assert!((start..start + stack.ss_size).contains(&at.load(SeqCst)));
        };
        thread::spawn(interrupted).join().unwrap();
    });
}

static CALLS_OF_THE_OLD: AtomicUsize = AtomicUsize::new(0);

extern "C" fn old_handler(_: libc::c_int) {
    CALLS_OF_THE_OLD.fetch_add(1, SeqCst);
}

#[test]
fn an_earlier_handler_is_called_as_well() {
    in_child("an_earlier_handler_is_called_as_well", || {
        let mut old = action(Signal::USR1, None);
        old.sa_sigaction = old_handler as *const () as usize;
        old.sa_flags = 0;
        action(Signal::USR1, Some(&old));
        for calls in 1..4 {
            let mut signals = Signals::new([Signal::USR1]).unwrap();
            raise(Signal::USR1);
            assert_eq!(next(&mut signals), Poll::Ready(Signal::USR1));
            assert_eq!(CALLS_OF_THE_OLD.load(SeqCst), calls);
        }
    });
}
