//! Who does what next while a file is hashed: the pieces in file order, and the SHA-256 chain.
//!
//! Piece work is independent; the chain is not. A worker that has hashed a piece leaves its buffer
//! here, and whoever comes next and finds the chain's next piece takes that first: the chain is
//! the only sequential part and must never wait for a free worker.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// What a worker is to do.
pub(crate) enum Job {
    /// Read piece `index` into the buffer, and hash it unless its digests are known.
    Piece(u32, Vec<u8>),
    /// Feed the piece in the buffer to the chain.
    Chain(u32, Vec<u8>),
}

struct Inner {
    todo: std::vec::IntoIter<u32>,
    exhausted: bool,
    buffers_left: usize,
    spare: Vec<Vec<u8>>,
    waiting: BTreeMap<u32, Vec<u8>>,
    chain_next: u32,
    chain_busy: bool,
    working: usize,
    stopped: bool,
}

pub(crate) struct Queue {
    inner: Mutex<Inner>,
    news: Condvar,
}

impl Inner {
    fn chain_job(&mut self) -> Option<Job> {
        // While one is at it, `chain_next` is the piece in its hands and so not waiting here.
        let buffer = self.waiting.remove(&self.chain_next)?;
        self.chain_busy = true;
        Some(Job::Chain(self.chain_next, buffer))
    }

    /// A buffer must be free before an index is taken: so the pieces held are always the next
    /// ones, the chain's next among them, and waiting for a buffer cannot block for ever.
    fn piece_job(&mut self) -> Option<Job> {
        if self.exhausted || (self.spare.is_empty() && self.buffers_left == 0) {
            return None;
        }
        let Some(index) = self.todo.next() else {
            self.exhausted = true;
            return None;
        };
        let buffer = self.spare.pop().unwrap_or_else(|| {
            self.buffers_left -= 1;
            Vec::new()
        });
        self.working += 1;
        Some(Job::Piece(index, buffer))
    }

    fn finished(&self) -> bool {
        self.stopped || (self.exhausted && self.working == 0 && !self.chain_busy)
    }
}

impl Queue {
    /// Work on the pieces `todo` (ascending) with at most `buffers` pieces in memory; the chain
    /// stands before piece `chain_next`.
    pub(crate) fn new(todo: Vec<u32>, buffers: usize, chain_next: u32) -> Self {
        let inner = Inner {
            exhausted: todo.is_empty(),
            todo: todo.into_iter(),
            buffers_left: buffers,
            spare: Vec::new(),
            waiting: BTreeMap::new(),
            chain_next,
            chain_busy: false,
            working: 0,
            stopped: false,
        };
        Self { inner: Mutex::new(inner), news: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; waits for one, `None` when all is done or stopped.
    pub(crate) fn next(&self) -> Option<Job> {
        let mut inner = self.lock();
        loop {
            if inner.stopped {
                return None;
            }
            if let Some(job) = inner.chain_job().or_else(|| inner.piece_job()) {
                return Some(job);
            }
            if inner.finished() {
                self.news.notify_all();
                return None;
            }
            inner = self.news.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives back the buffer of a piece that was read (and hashed).
    pub(crate) fn piece_done(&self, index: u32, buffer: Vec<u8>) {
        let mut inner = self.lock();
        inner.working -= 1;
        if index >= inner.chain_next {
            inner.waiting.insert(index, buffer);
        } else {
            inner.spare.push(buffer);
        }
        self.news.notify_all();
    }

    /// Gives back the buffer of a piece that went into the chain.
    pub(crate) fn chain_done(&self, buffer: Vec<u8>) {
        let mut inner = self.lock();
        inner.chain_next += 1;
        inner.chain_busy = false;
        inner.spare.push(buffer);
        self.news.notify_all();
    }

    /// Lets every worker finish what it holds and go.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        thread,
    };

    use super::*;

    #[derive(Default)]
    struct Log {
        pieces: Mutex<Vec<u32>>,
        chain: Mutex<Vec<u32>>,
        held: AtomicUsize,
        most_held: AtomicUsize,
    }

    fn push(list: &Mutex<Vec<u32>>, index: u32) {
        list.lock().unwrap_or_else(PoisonError::into_inner).push(index);
    }

    /// Does the jobs without any work in them, so that the workers meet in every order.
    fn worker(queue: &Queue, log: &Log) {
        while let Some(job) = queue.next() {
            match job {
                Job::Piece(index, buffer) => {
                    let held = log.held.fetch_add(1, SeqCst) + 1;
                    log.most_held.fetch_max(held, SeqCst);
                    push(&log.pieces, index);
                    log.held.fetch_sub(1, SeqCst);
                    queue.piece_done(index, buffer);
                }
                Job::Chain(index, buffer) => {
                    push(&log.chain, index);
                    queue.chain_done(buffer);
                }
            }
        }
    }

    fn run(todo: Vec<u32>, threads: usize, buffers: usize, chain_next: u32) -> (Vec<u32>, Vec<u32>, usize) {
        let (queue, log) = (Queue::new(todo, buffers, chain_next), Log::default());
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| worker(&queue, &log));
            }
        });
        let mut pieces = log.pieces.into_inner().unwrap_or_else(PoisonError::into_inner);
        pieces.sort_unstable();
        (pieces, log.chain.into_inner().unwrap_or_else(PoisonError::into_inner), log.most_held.into_inner())
    }

    #[test]
    fn each_piece_is_done_once_and_the_chain_goes_in_order() {
        for (threads, buffers) in [(1, 1), (2, 1), (3, 2), (8, 3), (4, 6)] {
            let (pieces, chain, most_held) = run((0..3000).collect(), threads, buffers, 0);
            assert_eq!(pieces, (0..3000).collect::<Vec<_>>());
            assert_eq!(chain, pieces);
            assert!(most_held <= buffers);
        }
    }

    #[test]
    fn pieces_behind_the_chain_are_done_but_do_not_enter_it() {
        let todo: Vec<u32> = (0..50).step_by(7).chain(50..200).collect();
        let (pieces, chain, _) = run(todo.clone(), 3, 2, 50);
        assert_eq!(pieces, todo);
        assert_eq!(chain, (50..200).collect::<Vec<_>>());
    }

    #[test]
    fn stop_sends_waiting_workers_home() {
        let queue = Queue::new(vec![0, 1], 1, 0);
        assert!(matches!(queue.next(), Some(Job::Piece(0, _)))); // never given back: the next one must wait
        thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.next().is_none());
            queue.stop();
            assert!(waiting.join().unwrap_or(false));
        });
    }
}
