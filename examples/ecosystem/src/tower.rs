//! A time limit as a layer of tower. tower's own requires tokio's timer.

use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use tower::{BoxError, Service};
use windlass::time::{Timeout, timeout};

/// Fails calls that take longer than a limit.
#[derive(Clone, Debug)]
pub struct Limited<S> {
    /// The service.
    pub inner: S,
    /// The time limit of a call.
    pub limit: Duration,
}

impl<S, R> Service<R> for Limited<S>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Flattened<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let call = timeout(self.limit, self.inner.call(request));
        Flattened { call }
    }
}

pin_project_lite::pin_project! {
    /// A call with its limit.
    #[derive(Debug)]
    pub struct Flattened<F> {
        #[pin]
        call: Timeout<F>,
    }
}

impl<F, T, E> Future for Flattened<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx).map(|done| match done {
            Ok(result) => result.map_err(Into::into),
            Err(late) => Err(late.into()),
        })
    }
}
