//! What a worker tells its parent, and what the parent tells a worker, as frames.

use super::channel::{Frame, MAX_BODY};
use super::metrics::Figures;

/// What a worker tells.
#[derive(Debug)]
pub(super) enum Report {
    /// It lives; whether it is ready; what it has counted.
    Beat(bool, Figures),
    /// Somebody else than the parent has told it to end.
    Draining,
    /// It has done what it was to do, and ends; nobody has told it to.
    Finished,
    /// It ends with that error.
    Failed(String),
}

const BEAT: u32 = 1;
const BEAT_READY: u32 = 2;
const FINISHED: u32 = 3;
const FAILED: u32 = 4;
const DRAINING: u32 = 5;

impl Report {
    /// None if it's nothing that we know: a newer program's, say.
    pub(super) fn from_frame(frame: &Frame) -> Option<Report> {
        Some(match frame.tag {
            BEAT | BEAT_READY => {
                Report::Beat(frame.tag == BEAT_READY, Figures::from_bytes(&frame.body)?)
            }
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
            Report::Beat(is_ready, figures) => Frame {
                tag: if is_ready { BEAT_READY } else { BEAT },
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

/// What a worker is told.
pub(super) enum Order {
    /// End in good order.
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
