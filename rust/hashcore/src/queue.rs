//! Who does what next while a file is hashed: the pieces in file order, and the SHA-256 chain.
//!
//! Piece work is independent; the chain is not. A worker that has hashed a piece leaves its buffer
//! here, and whoever comes next and finds the chain's next piece takes that first: the chain is
//! the only sequential part and must never wait for a free worker.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::memory::Buffer;

/// Pieces that a worker takes at once, at most: SHA-1 of three is twice as fast as of one (see `backend`), which is as
/// fast as the chain; each holds a buffer of 16 MiB.
pub(crate) const GROUP: usize = 3;

/// A piece in memory, in the hands of a worker.
pub(crate) struct Held {
    pub(crate) index: u32,
    pub(crate) buffer: Buffer,
}

/// What a worker is to do.
pub(crate) enum Job<T> {
    /// Read pieces into their buffers, and hash them unless their digests are known.
    Pieces(Vec<Held>),
    /// Feed the piece to the chain; what was noted of it comes along.
    Chain(Held, T),
}

struct Inner<T> {
    todo: std::vec::IntoIter<u32>,
    buffers_left: usize,
    spare: Vec<Buffer>,
    waiting: BTreeMap<u32, (Held, T)>,
    chain_next: u32,
    chain_busy: bool,
    group: usize,
    groups: usize,
    working: usize,
    stopped: bool,
}

/// `T` is what is noted of a piece between its hashing and its turn in the chain.
pub(crate) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    news: Condvar,
}

impl<T> Inner<T> {
    fn chain_job(&mut self) -> Option<Job<T>> {
        // While one is at it, `chain_next` is the piece in its hands and so not waiting here.
        let (held, noted) = self.waiting.remove(&self.chain_next)?;
        self.chain_busy = true;
        Some(Job::Chain(held, noted))
    }

    /// All buffers of a group must be free before its indices are taken: so the pieces held are always the next ones,
    /// the chain's next among them, and waiting for a buffer cannot block for ever.
    fn piece_job(&mut self) -> Option<Job<T>> {
        let count = (1 + self.groups / 2).min(self.group).min(self.todo.len());
        if count == 0 || self.spare.len() + self.buffers_left < count {
            return None;
        }
        // The chain waits for the first groups: they start with one piece and grow with every second one.
        self.groups += 1;
        self.working += count;
        let indices: Vec<u32> = self.todo.by_ref().take(count).collect();
        Some(Job::Pieces(indices.into_iter().map(|index| Held { index, buffer: self.buffer() }).collect()))
    }

    fn buffer(&mut self) -> Buffer {
        self.spare.pop().unwrap_or_else(|| {
            self.buffers_left -= 1;
            Buffer::default()
        })
    }

    fn finished(&self) -> bool {
        self.stopped || (self.todo.len() == 0 && self.working == 0 && !self.chain_busy)
    }
}

impl<T> Queue<T> {
    /// Work on the pieces `todo` (ascending), at most `group` at once, with at most `buffers` (no fewer than `group`)
    /// pieces in memory; the chain stands before piece `chain_next`.
    pub(crate) fn new(todo: Vec<u32>, group: usize, buffers: usize, chain_next: u32) -> Self {
        debug_assert!(todo.is_empty() || (1..=buffers).contains(&group));
        let inner = Inner {
            todo: todo.into_iter(),
            buffers_left: buffers,
            spare: Vec::new(),
            waiting: BTreeMap::new(),
            chain_next,
            chain_busy: false,
            group,
            groups: 0,
            working: 0,
            stopped: false,
        };
        Self { inner: Mutex::new(inner), news: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; waits for one, `None` when all is done or stopped.
    pub(crate) fn next(&self) -> Option<Job<T>> {
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

    /// Gives back a piece that was read (and hashed), with what the chain's worker must know of it.
    pub(crate) fn piece_done(&self, held: Held, noted: T) {
        let mut inner = self.lock();
        inner.working -= 1;
        if held.index >= inner.chain_next {
            inner.waiting.insert(held.index, (held, noted));
        } else {
            inner.spare.push(held.buffer);
        }
        self.news.notify_all();
    }

    /// Gives back a piece that went into the chain.
    pub(crate) fn chain_done(&self, held: Held) {
        let mut inner = self.lock();
        inner.chain_next += 1;
        inner.chain_busy = false;
        inner.spare.push(held.buffer);
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
    fn worker(queue: &Queue<u32>, log: &Log) {
        while let Some(job) = queue.next() {
            match job {
                Job::Pieces(pieces) => {
                    let held = log.held.fetch_add(pieces.len(), SeqCst) + pieces.len();
                    log.most_held.fetch_max(held, SeqCst);
                    for piece in pieces {
                        push(&log.pieces, piece.index);
                        log.held.fetch_sub(1, SeqCst);
                        let noted = piece.index;
                        queue.piece_done(piece, noted);
                    }
                }
                Job::Chain(piece, noted) => {
                    assert_eq!(piece.index, noted);
                    push(&log.chain, piece.index);
                    queue.chain_done(piece);
                }
            }
        }
    }

    fn run(todo: Vec<u32>, threads: usize, group: usize, buffers: usize, next: u32) -> (Vec<u32>, Vec<u32>, usize) {
        let (queue, log) = (Queue::new(todo, group, buffers, next), Log::default());
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
        for (threads, group, buffers) in [(1, 1, 1), (2, 1, 1), (3, 2, 2), (8, 1, 3), (4, 4, 6), (2, 4, 4), (3, 4, 14)]
        {
            let (pieces, chain, most_held) = run((0..3001).collect(), threads, group, buffers, 0);
            assert_eq!(pieces, (0..3001).collect::<Vec<_>>());
            assert_eq!(chain, pieces);
            assert!(most_held <= buffers);
        }
    }

    #[test]
    fn pieces_behind_the_chain_are_done_but_do_not_enter_it() {
        let todo: Vec<u32> = (0..50).step_by(7).chain(50..200).collect();
        let (pieces, chain, _) = run(todo.clone(), 3, 2, 2, 50);
        assert_eq!(pieces, todo);
        assert_eq!(chain, (50..200).collect::<Vec<_>>());
    }

    #[test]
    fn stop_sends_waiting_workers_home() {
        let queue: Queue<()> = Queue::new(vec![0, 1], 1, 1, 0);
        let Some(Job::Pieces(_)) = queue.next() else { panic!("no work") }; // never given back: the next one must wait
        thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.next().is_none());
            queue.stop();
            assert!(waiting.join().unwrap_or(false));
        });
    }
}
