//! Hashing a whole file with all cores; each byte is read once.

use std::{
    io,
    num::NonZero,
    slice::ChunksMut,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use crate::{
    backend::{Backend, active},
    error::{Error, Result},
    layout::{PIECE, piece_span},
    piece::{FileDigests, Hashed, PieceDigests, PieceWork, STRIDE},
    queue::{GROUP, Held, Job, Queue},
    sha256::Chain,
    source::Source,
    state::FileState,
};

/// Threads used unless told otherwise, at most: one is busy with the sequential SHA-256 chain, and one or two do all
/// the rest in the same time, whatever the backend (see `backend`). A third waits for the disk meanwhile.
const MAX_DEFAULT_THREADS: usize = 4;

/// Buffers beyond a group per thread: slack between piece work and the chain.
const EXTRA_BUFFERS: usize = 1;

/// How often the watcher is asked when nothing happens; Ctrl-C feels immediate below this.
const TICK: Duration = Duration::from_millis(100);

/// A piece was read and its digests are known.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The piece.
    pub index: u32,
    /// Its digests.
    pub digests: PieceDigests,
    /// The SHA-256 chain at that time (it may lag behind, or be ahead of the piece).
    pub chain: Chain,
}

/// Is told of progress on the thread that called [`hash_file`], while the workers go on.
pub trait Watcher {
    /// A piece is done; `false` stops the hashing with [`Error::Cancelled`].
    fn piece(&mut self, progress: &Progress) -> bool;

    /// Called every 100 ms or so when nothing else is; `false` stops.
    fn tick(&mut self) -> bool {
        true
    }
}

/// The number of threads used for `threads = 0`.
pub fn default_threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(MAX_DEFAULT_THREADS)
}

/// Hashes what `state` does not know yet of `source`, and returns the digests of the file.
///
/// Known pieces are read again only when the SHA-256 chain has not passed them, and are then not
/// hashed again. `state` keeps what was found when this fails or is cancelled. `threads = 0` means
/// [`default_threads`]; memory is three pieces a thread and one more.
pub fn hash_file(source: &Source, state: &FileState, threads: usize, watcher: &mut dyn Watcher) -> Result<FileDigests> {
    let before = source.stamp()?;
    if before.length != state.length() {
        let what = format!("has {} bytes instead of {}", before.length, state.length());
        return Err(source.changed(what));
    }
    let prefix = state.chain().pieces();
    let todo: Vec<u32> = (0..state.piece_count()).filter(|&i| i >= prefix || !state.has(i)).collect();
    let backend = active()?;
    let threads = if threads == 0 { default_threads() } else { threads }.min(todo.len());
    let group = GROUP.min(backend.lanes);
    let queue = Queue::new(todo, group, threads * group + EXTRA_BUFFERS, prefix);
    run(&Work { source, state, backend, queue: &queue }, threads, watcher)?;
    source.check_unchanged(before)?;
    state.finish()
}

/// What the workers share.
struct Work<'a> {
    source: &'a Source,
    state: &'a FileState,
    backend: &'static Backend,
    queue: &'a Queue<Hashed>,
}

type Report = Result<Progress>;

/// Runs the workers, and the watcher on this thread, until all is done or one of them stops it.
fn run(work: &Work<'_>, threads: usize, watcher: &mut dyn Watcher) -> Result<()> {
    // Unbounded so that a slow watcher never holds up a worker: 150 bytes for each 16 MiB read.
    let (reports, inbox) = mpsc::channel();
    thread::scope(|scope| {
        let spawn = |_| {
            let reports = reports.clone();
            let named = thread::Builder::new().name("hali-hash".into());
            named.spawn_scoped(scope, move || work.worker(&reports))
        };
        let spawned: io::Result<Vec<_>> = (0..threads).map(spawn).collect();
        drop(reports); // so that the inbox ends with the last worker
        let (workers, outcome) = match spawned {
            Ok(workers) => (workers, watch(&inbox, watcher)),
            Err(refused) => (Vec::new(), Err(Error::io(refused, None))),
        };
        work.queue.stop();
        // Joined one by one: the scope alone would not wait for the threads to be gone.
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        outcome
    })
}

/// Passes reports to the watcher until the last worker is gone, one fails, or the watcher stops it.
fn watch(inbox: &Receiver<Report>, watcher: &mut dyn Watcher) -> Result<()> {
    loop {
        let go_on = match inbox.recv_timeout(TICK) {
            Ok(report) => watcher.piece(&report?),
            Err(RecvTimeoutError::Timeout) => watcher.tick(),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        if !go_on {
            return Err(Error::Cancelled);
        }
    }
}

/// Stops the others when a worker panics: they would wait for its buffer for ever.
struct StopOnPanic<'a>(&'a Queue<Hashed>);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

impl Work<'_> {
    fn worker(&self, reports: &Sender<Report>) {
        let _guard = StopOnPanic(self.queue);
        while let Some(job) = self.queue.next() {
            if let Err(error) = self.perform(job, reports) {
                self.queue.stop();
                // The inbox is gone only when the caller has stopped for a reason of its own.
                let _ = reports.send(Err(error));
            }
        }
    }

    fn perform(&self, job: Job<Hashed>, reports: &Sender<Report>) -> Result<()> {
        match job {
            Job::Pieces(mut pieces) => {
                let hashed = self.read(&mut pieces)?;
                for (held, hashed) in pieces.into_iter().zip(hashed) {
                    if let Hashed::Whole(digests) = hashed {
                        self.report(held.index, digests, reports)?;
                    }
                    self.queue.piece_done(held, hashed);
                }
            }
            Job::Chain(held, Hashed::Half(half)) => {
                let root = self.state.feed_for_root(held.index, &held.buffer)?;
                self.report(held.index, half.with_root(root), reports)?;
                self.queue.chain_done(held);
            }
            Job::Chain(held, Hashed::Whole(_)) => {
                self.state.feed(held.index, &held.buffer)?;
                self.queue.chain_done(held);
            }
        }
        Ok(())
    }

    /// Records the digests of a piece and tells of them.
    fn report(&self, index: u32, digests: PieceDigests, reports: &Sender<Report>) -> Result<()> {
        self.state.record(index, digests)?;
        // The inbox is gone only when the caller has stopped for a reason of its own.
        let _ = reports.send(Ok(Progress { index, digests, chain: self.state.chain() }));
        Ok(())
    }

    /// Reads pieces into their buffers and hashes, stride by stride and side by side, those that are not known.
    fn read(&self, pieces: &mut [Held]) -> Result<Vec<Hashed>> {
        let length = self.state.length();
        if let Some(last) = pieces.last() {
            self.source.will_need((u64::from(last.index) + 1) * PIECE, PIECE * pieces.len() as u64);
        }
        let mut known = Vec::with_capacity(pieces.len());
        let mut works = Vec::with_capacity(pieces.len());
        let mut readers = Vec::with_capacity(pieces.len());
        for Held { index, buffer } in pieces {
            if let Some(digests) = self.state.get(*index) {
                self.source.read_piece(*index, length, buffer)?;
                known.push(Some(digests));
                continue;
            }
            let (offset, size) = piece_span(*index, length)?;
            // The chain hashes the leaves on the way where that is free, and it will come past.
            let carried = self.backend.pair.is_some() && *index >= self.state.chain().pieces();
            works.push(PieceWork::new(*index, length, !carried)?);
            buffer.resize(size)?;
            readers.push((offset, buffer.chunks_mut(STRIDE)));
            known.push(None);
        }
        self.hash(&mut works, readers)?;
        let mut works = works.into_iter();
        let hashed = |known: Option<PieceDigests>| match known {
            Some(digests) => Some(Ok(Hashed::Whole(digests))),
            None => works.next().map(|work| work.finish(self.backend)),
        };
        known.into_iter().filter_map(hashed).collect()
    }

    /// Reads and hashes a stride of each piece in turn.
    fn hash(&self, works: &mut [PieceWork], mut readers: Vec<(u64, ChunksMut<'_, u8>)>) -> Result<()> {
        loop {
            let mut strides: Vec<&[u8]> = Vec::with_capacity(works.len());
            for (offset, chunks) in &mut readers {
                let stride: &mut [u8] = chunks.next().unwrap_or_default();
                self.source.read_at(stride, *offset)?;
                *offset += stride.len() as u64;
                strides.push(stride);
            }
            if strides.iter().all(|stride| stride.is_empty()) {
                return Ok(());
            }
            PieceWork::update_all(self.backend, works, &strides);
        }
    }
}
