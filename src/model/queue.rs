//! Rows that wait for a run, and what their callers are told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::lock;
use super::session::Rows;

/// Rows of several callers in the order of their calls.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pending: VecDeque<Pending>,
    rows: usize,
}

#[derive(Debug)]
struct Pending {
    rows: Arc<dyn Rows>,
    /// The first row that no batch has taken.
    next: usize,
    ticket: Arc<Ticket>,
}

/// The other end of one call.
#[derive(Debug)]
pub(super) struct Ticket(Mutex<TicketState>);

#[derive(Debug)]
struct TicketState {
    left: usize,
    busy: Duration,
    taken: Option<oneshot::Sender<()>>,
    done: Option<oneshot::Sender<Result<Duration, String>>>,
}

/// What a caller waits for.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) ticket: Arc<Ticket>,
    /// Every row is in some batch.
    pub(super) taken: oneshot::Receiver<()>,
    /// Every row has its values.
    pub(super) done: oneshot::Receiver<Result<Duration, String>>,
}

/// Some rows of one caller, in one batch.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) rows: Arc<dyn Rows>,
    pub(super) from: usize,
    pub(super) count: usize,
    ticket: Arc<Ticket>,
}

/// Rows of one shape, for one run. Whoever waits for them is told even where the run panics.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) pieces: Vec<Piece>,
    pub(super) count: usize,
}

impl Queue {
    /// Rows that no batch has taken.
    #[cfg(test)]
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds all rows of a caller.
    pub(super) fn push(&mut self, rows: Arc<dyn Rows>) -> Call {
        let (taken, taken_receiver) = oneshot::channel();
        let (done, done_receiver) = oneshot::channel();
        let count = rows.count();
        let state = TicketState { left: count, busy: Duration::ZERO, taken: Some(taken), done: Some(done) };
        let ticket = Arc::new(Ticket(Mutex::new(state)));
        self.rows += count;
        self.pending.push_back(Pending { rows, next: 0, ticket: Arc::clone(&ticket) });
        Call { ticket, taken: taken_receiver, done: done_receiver }
    }

    /// Forgets the rows of a caller who is gone.
    pub(super) fn remove(&mut self, ticket: &Arc<Ticket>) {
        let taken = &mut self.rows;
        self.pending.retain(|pending| {
            let keep = !Arc::ptr_eq(&pending.ticket, ticket);
            if !keep {
                *taken -= pending.rows.count() - pending.next;
            }
            keep
        });
    }

    /// Takes rows of the oldest caller's shape, oldest first: as many as `most` says, given these rows and the number
    /// of all that wait.
    pub(super) fn take(&mut self, most: impl FnOnce(&dyn Rows, usize) -> usize) -> Option<Batch> {
        let shape = Arc::clone(&self.pending.front()?.rows);
        let most = most(&*shape, self.rows);
        let mut batch = Batch { pieces: Vec::new(), count: 0 };
        for pending in &mut self.pending {
            if batch.count == most {
                break;
            }
            if !same_shape(&*shape, &*pending.rows) {
                continue;
            }
            let count = (pending.rows.count() - pending.next).min(most - batch.count);
            let (rows, ticket) = (Arc::clone(&pending.rows), Arc::clone(&pending.ticket));
            batch.pieces.push(Piece { rows, from: pending.next, count, ticket });
            batch.count += count;
            pending.next += count;
            if pending.next == pending.rows.count() {
                pending.ticket.all_taken();
            }
        }
        self.rows -= batch.count;
        self.pending.retain(|pending| pending.next < pending.rows.count());
        Some(batch)
    }
}

fn same_shape(a: &dyn Rows, b: &dyn Rows) -> bool {
    a.inputs() == b.inputs() && (0..a.inputs()).all(|input| a.dims(input) == b.dims(input))
}

impl Ticket {
    fn all_taken(&self) {
        if let Some(taken) = lock(&self.0).taken.take() {
            // The caller may be gone.
            let _ = taken.send(());
        }
    }

    fn finish(&self, count: usize, result: Result<Duration, String>) {
        let mut state = lock(&self.0);
        let answer = match result {
            Ok(busy) => {
                state.left -= count;
                state.busy += busy;
                if state.left > 0 {
                    return;
                }
                Ok(state.busy)
            }
            Err(message) => Err(message),
        };
        if let Some(done) = state.done.take() {
            // The caller may be gone.
            let _ = done.send(answer);
        }
    }
}

impl Batch {
    /// Tells the callers; the time of the run is shared out by rows.
    pub(super) fn finish(mut self, result: &Result<(), String>, took: Duration) {
        for piece in std::mem::take(&mut self.pieces) {
            let share = took.mul_f64(piece.count as f64 / self.count as f64);
            piece.ticket.finish(piece.count, result.clone().map(|()| share));
        }
    }
}

impl Drop for Batch {
    /// Without [`Batch::finish`] the run has panicked.
    fn drop(&mut self) {
        for piece in &self.pieces {
            piece.ticket.finish(piece.count, Err("a run panicked".to_owned()));
        }
    }
}
