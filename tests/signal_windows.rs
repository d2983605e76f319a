//! Ctrl-C and Ctrl-Break on Windows. Each test runs in a process with its own console, because an
//! event reaches all processes of a console.

#![cfg(windows)]

#[path = "../reactor/tests/common/mod.rs"]
mod common;

use std::env;
use std::io::ErrorKind;
use std::os::windows::process::CommandExt;
use std::process::Command;
use std::task::Poll;
use std::thread;

use common::*;
use futures::future::poll_immediate;
use futures::{FutureExt, StreamExt};
use windlass::signal::{Signal, Signals, ctrl_c};
use windlass_reactor::Reactor;
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, GenerateConsoleCtrlEvent,
};
use windows_sys::Win32::System::Threading::CREATE_NEW_CONSOLE;

/// Sends a console event, as if the keys were pressed.
fn press(event: u32) {
    // SAFETY: both arguments are plain numbers.
    assert_ne!(unsafe { GenerateConsoleCtrlEvent(event, 0) }, 0);
}

/// Runs the body of the test `name` in a process of its own.
fn with_console(name: &str, body: impl FnOnce()) {
    if env::var_os("WINDLASS_CONSOLE").is_some() {
        return body();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("WINDLASS_CONSOLE", "1")
        .creation_flags(CREATE_NEW_CONSOLE)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "it did not run: {said}");
}

/// Returns the pending signal, if there is one.
async fn next(signals: &mut Signals) -> Option<Signal> {
    poll_immediate(signals.recv()).await.transpose().unwrap()
}

#[test]
fn a_signal_wakes_its_receiver() {
    with_console("a_signal_wakes_its_receiver", || {
        let reactor = Reactor::current().unwrap();
        let mut signals = Signals::new([Signal::INT]).unwrap();
        let (counter, waker) = Counter::new();
        assert!(poll(&mut signals.next(), &waker).is_pending());
        thread::spawn(|| press(CTRL_C_EVENT)).join().unwrap();
        turn_until(&reactor, || counter.wakes() == 1);
        let received = poll(&mut signals.next(), &waker);
        assert!(matches!(received, Poll::Ready(Some(Ok(Signal::INT)))));
    });
}

#[test]
#[ignore = "wine 8 can't generate a Ctrl-Break"]
fn each_receiver_gets_each_of_its_signals_once() {
    with_console("each_receiver_gets_each_of_its_signals_once", || {
        run(async {
            let mut signals = Signals::new([Signal::INT, Signal::BREAK]).unwrap();
            let mut others = Signals::new([Signal::BREAK]).unwrap();
            press(CTRL_C_EVENT);
            assert_eq!(signals.recv().await.unwrap(), Signal::INT);
            assert_eq!(next(&mut others).await, None);
            press(CTRL_BREAK_EVENT);
            assert_eq!(signals.recv().await.unwrap(), Signal::BREAK);
            assert_eq!(others.recv().await.unwrap(), Signal::BREAK);
            assert_eq!(next(&mut signals).await, None);
        });
    });
}

#[test]
fn receivers_on_all_threads_get_a_signal() {
    with_console("receivers_on_all_threads_get_a_signal", || {
        let threads = [(); 4].map(|()| {
            let (ready, is_ready) = std::sync::mpsc::channel();
            let thread = thread::spawn(move || {
                run(async {
                    let mut signals = Signals::new([Signal::INT]).unwrap();
                    ready.send(()).unwrap();
                    signals.recv().await.unwrap()
                })
            });
            is_ready.recv().unwrap();
            thread
        });
        press(CTRL_C_EVENT);
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Signal::INT);
        }
    });
}

#[test]
fn a_dropped_recv_loses_no_signal() {
    let name = "a_dropped_recv_loses_no_signal";
    with_console(name, || {
        run(async {
            let mut signals = Signals::new([Signal::INT]).unwrap();
            assert!(signals.recv().now_or_never().is_none());
            press(CTRL_C_EVENT);
            assert_eq!(signals.recv().await.unwrap(), Signal::INT);
            drop(signals);
            press(CTRL_C_EVENT); // the program continues
            let mut later = Signals::new([Signal::INT]).unwrap();
            press(CTRL_C_EVENT); // arrives after the previous event
            later.recv().await.unwrap();
        });
    });
}

#[test]
fn ctrl_c_receives_signals_from_its_call_on() {
    with_console("ctrl_c_receives_signals_from_its_call_on", || {
        for _ in 0..3 {
            let pressed = ctrl_c();
            press(CTRL_C_EVENT);
            run(pressed).unwrap();
        }
    });
}

#[test]
fn signals_that_windows_lacks_are_refused() {
    for number in [15, 11, 8, 12345] {
        let error = Signals::new([Signal::from_raw(number)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{number}: {error}");
    }
}

#[test]
fn a_signal_wakes_any_executor() {
    with_console("a_signal_wakes_any_executor", || {
        let mut signals = Signals::new([Signal::INT]).unwrap();
        assert!(signals.recv().now_or_never().is_none());
        thread::spawn(|| press(CTRL_C_EVENT));
        let received = futures::executor::block_on(signals.recv());
        assert_eq!(received.unwrap(), Signal::INT);
    });
}
