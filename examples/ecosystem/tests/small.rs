//! Crates that need no adapter, or one line.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures_concurrency::prelude::*;
use moka::future::Cache;
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceExt, service_fn};
use tracing::{Instrument, Subscriber, info, info_span};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use windlass::time::sleep;
use windlass_ecosystem::tower::Limited;

const SHORT: Duration = Duration::from_millis(1);

/// The pauses of 100 ms, 200 ms and so on are virtual.
#[test]
fn backon_retries_with_windlass_timers() {
    windlass::sim::block_on(async {
        let (start, tries) = (windlass::time::now(), Cell::new(0));
        let result = (|| async {
            tries.set(tries.get() + 1);
            match tries.get() {
                ..=5 => Err(io::Error::other("down")),
                _ => Ok(tries.get()),
            }
        })
        .retry(
            ExponentialBuilder::default()
                .with_min_delay(SHORT * 100)
                .with_max_times(6),
        )
        .sleep(windlass::time::sleep)
        .await;
        assert_eq!(result.unwrap(), 6);
        assert!(start.elapsed() < Duration::from_secs(3));
        assert!(windlass::time::now() - start >= SHORT * 3100);
    });
}

#[test]
fn futures_concurrency_joins_races_and_merges() {
    windlass::block_on(async {
        let quick = async {
            sleep(SHORT).await;
            "quick"
        };
        let slow = async {
            sleep(Duration::from_secs(3600)).await;
            "slow"
        };
        assert_eq!((quick, slow).race().await, "quick");
        let both = (async { 1 }, windlass::spawn(async { "two" })).join().await;
        assert_eq!(both, (1, "two"));
    });
}

#[test]
fn async_channel_connects_a_thread_and_a_task() {
    let (sender, receiver) = async_channel::bounded(1);
    let thread = std::thread::spawn(move || {
        for number in 0..100 {
            sender.send_blocking(number).unwrap();
        }
    });
    windlass::block_on(async {
        let mut sum = 0;
        while let Ok(number) = receiver.recv().await {
            sum += number;
        }
        assert_eq!(sum, 99 * 100 / 2);
    });
    thread.join().unwrap();
}

#[test]
fn moka_computes_a_value_once() {
    windlass::block_on(async {
        let cache: Cache<u32, u32> = Cache::new(10);
        let computed = Rc::new(Cell::new(0));
        let get = || async {
            let value = async {
                computed.set(computed.get() + 1);
                sleep(SHORT).await;
                7
            };
            cache.get_with(1, value).await
        };
        assert_eq!((get(), get(), get()).join().await, (7, 7, 7));
        assert_eq!(computed.get(), 1);
    });
}

#[test]
fn tower_limits_concurrency_and_time() {
    windlass::block_on(async {
        let running = Rc::new(Cell::new((0, 0)));
        let counted = running.clone();
        let service = service_fn(move |pause: Duration| {
            let running = counted.clone();
            async move {
                let (now, most) = running.get();
                running.set((now + 1, most.max(now + 1)));
                sleep(pause).await;
                running.set((running.get().0 - 1, running.get().1));
                Ok::<_, io::Error>("done")
            }
        });
        let service = Limited {
            inner: service,
            limit: Duration::from_secs(3600),
        };
        let service = ConcurrencyLimitLayer::new(2).layer(service);
        let calls: Vec<_> = (0..10).map(|_| service.clone().oneshot(SHORT)).collect();
        let calls = calls.join().await;
        assert!(calls.into_iter().all(|call| call.unwrap() == "done"));
        assert_eq!(running.get(), (0, 2));

        let mut late = Limited {
            inner: service,
            limit: SHORT,
        };
        let late = late
            .ready()
            .await
            .unwrap()
            .call(Duration::from_secs(3600))
            .await;
        assert!(late.unwrap_err().to_string().contains("time"));
    });
}

#[test]
fn channels_of_tokio_need_no_runtime() {
    windlass::block_on(async {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let sending = windlass::spawn(async move {
            for number in 0..1000 {
                sender.send(number).await.unwrap();
            }
        });
        let mut sum = 0;
        while let Some(number) = receiver.recv().await {
            sum += number;
        }
        sending.await;
        assert_eq!(sum, 999 * 1000 / 2);
    });
}

#[test]
fn codecs_frame_the_streams_of_windlass() {
    use futures::{SinkExt, StreamExt};
    use tokio_util::compat::FuturesAsyncReadCompatExt;

    windlass::block_on(async {
        let (ours, theirs) = windlass::net::unix::UnixStream::pair().unwrap();
        // tokio-util at one end, and asynchronous-codec at the other.
        let lines = tokio_util::codec::LinesCodec::new();
        let mut ours = tokio_util::codec::Framed::new(ours.compat(), lines);
        let mut theirs = asynchronous_codec::Framed::new(theirs, asynchronous_codec::LinesCodec);
        ours.send("ahoy").await.unwrap();
        assert_eq!(theirs.next().await.unwrap().unwrap(), "ahoy\n");
        theirs.send("ahoy yourself\n".to_owned()).await.unwrap();
        assert_eq!(ours.next().await.unwrap().unwrap(), "ahoy yourself");
    });
}

/// async-io has a thread of its own for the events, which wakes the task of windlass.
#[test]
fn sockets_and_timers_of_async_io_run_as_they_are() {
    use futures::{AsyncReadExt, AsyncWriteExt};
    use std::os::unix::net::UnixStream;

    windlass::block_on(async {
        let (mut ours, theirs) = async_io::Async::<UnixStream>::pair().unwrap();
        let echo = windlass::spawn(async move { futures::io::copy(&theirs, &mut &theirs).await });
        for _ in 0..100 {
            ours.write_all(b"ahoy").await.unwrap();
            let mut echoed = [0; 4];
            ours.read_exact(&mut echoed).await.unwrap();
            assert_eq!(&echoed, b"ahoy");
        }
        async_io::Timer::after(SHORT).await;
        drop(ours);
        assert_eq!(echo.await.unwrap(), 400);
    });
}

/// Keeps the names of the spans of each event.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Kept {
    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let scope = context.event_scope(event).into_iter().flatten();
        // Events and spans of windlass itself are left out.
        let names = scope
            .map(|span| span.name())
            .filter(|name| name.starts_with("ship"));
        let names: Vec<_> = names.collect();
        if !names.is_empty() {
            self.0.lock().unwrap().push(names.join(" in "));
        }
    }
}

#[test]
fn tracing_spans_stay_with_their_tasks() {
    let kept = Kept::default();
    let subscriber = tracing_subscriber::registry().with(kept.clone());
    tracing::subscriber::with_default(subscriber, || {
        windlass::block_on(async {
            let sail = || async {
                info!("before");
                windlass::yield_now().await;
                info!("after");
            };
            let first = windlass::spawn(sail().instrument(info_span!("ship 1")));
            let second = windlass::spawn(
                async move {
                    // A child has the span of its parent if it is spawned with it.
                    windlass::spawn(sail().instrument(info_span!("ship 3"))).await;
                }
                .instrument(info_span!("ship 2")),
            );
            first.await;
            second.await;
        });
    });
    let mut kept = kept.0.lock().unwrap().clone();
    kept.sort();
    assert_eq!(
        kept,
        ["ship 1", "ship 1", "ship 3 in ship 2", "ship 3 in ship 2"]
    );
}
