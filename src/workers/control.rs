//! Control messages between a worker and its parent, encoded as frames.

use super::channel::{Frame, MAX_BODY};
use super::metrics::Figures;

/// A message from a worker to its parent.
#[derive(Debug)]
pub(super) enum Report {
    /// Heartbeat, with the worker's readiness and its metrics.
    Heartbeat(bool, Box<Figures>),
    /// The worker drains because of a signal that the parent did not send.
    Draining,
    /// The worker's future has returned `Ok` although nothing has requested the worker to stop.
    Finished,
    /// The worker ends with this error.
    Failed(String),
}

const HEARTBEAT: u32 = 1;
const HEARTBEAT_READY: u32 = 2;
const FINISHED: u32 = 3;
const FAILED: u32 = 4;
const DRAINING: u32 = 5;

impl Report {
    /// Returns `None` for frames of a newer version of the program.
    pub(super) fn from_frame(frame: &Frame) -> Option<Report> {
        Some(match frame.tag {
            HEARTBEAT | HEARTBEAT_READY => Report::Heartbeat(
                frame.tag == HEARTBEAT_READY,
                Figures::from_bytes(&frame.body)?.into(),
            ),
            DRAINING => Report::Draining,
            FINISHED => Report::Finished,
            FAILED => Report::Failed(String::from_utf8_lossy(&frame.body).into_owned()),
            _ => return None,
        })
    }
}

impl From<Report> for Frame {
    fn from(report: Report) -> Frame {
        match report {
            Report::Heartbeat(is_ready, figures) => Frame {
                tag: if is_ready { HEARTBEAT_READY } else { HEARTBEAT },
                body: figures.to_bytes(),
            },
            Report::Draining => Frame::empty(DRAINING),
            Report::Finished => Frame::empty(FINISHED),
            Report::Failed(text) => {
                let mut body = text.into_bytes();
                body.truncate(MAX_BODY);
                Frame { tag: FAILED, body }
            }
        }
    }
}

/// A message from the parent to a worker.
pub(super) enum Order {
    /// Finish the open work, then exit.
    Drain,
}

const DRAIN: u32 = 1;

impl Order {
    pub(super) fn from_frame(frame: &Frame) -> Option<Order> {
        (frame.tag == DRAIN).then_some(Order::Drain)
    }
}

impl From<Order> for Frame {
    fn from(Order::Drain: Order) -> Frame {
        Frame::empty(DRAIN)
    }
}
