//! Hashing a whole file with all cores; each byte is read once.

use std::{
    io,
    num::NonZero,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use crate::{
    error::{Error, Result},
    layout::{PIECE, piece_span},
    piece::{FileDigests, PieceDigests, PieceWork, STRIDE},
    queue::{Job, Queue},
    sha256::Chain,
    source::Source,
    state::FileState,
};

/// Threads used unless told otherwise, at most: piece work runs at half the speed of the
/// sequential SHA-256 chain, so a few cores keep that one busy and more would only wait for it.
const MAX_DEFAULT_THREADS: usize = 8;

/// Buffers beyond one per thread: slack between piece work and the chain.
const EXTRA_BUFFERS: usize = 2;

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
/// [`default_threads`]; memory is `threads + 2` pieces.
pub fn hash_file(source: &Source, state: &FileState, threads: usize, watcher: &mut dyn Watcher) -> Result<FileDigests> {
    let before = source.stamp()?;
    if before.length != state.length() {
        let what = format!("has {} bytes instead of {}", before.length, state.length());
        return Err(source.changed(what));
    }
    let prefix = state.chain().pieces();
    let todo: Vec<u32> = (0..state.piece_count()).filter(|&i| i >= prefix || !state.has(i)).collect();
    let threads = if threads == 0 { default_threads() } else { threads }.min(todo.len());
    let queue = Queue::new(todo, threads + EXTRA_BUFFERS, prefix);
    run(&Work { source, state, queue: &queue }, threads, watcher)?;
    source.check_unchanged(before)?;
    state.finish()
}

/// What the workers share.
struct Work<'a> {
    source: &'a Source,
    state: &'a FileState,
    queue: &'a Queue,
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
struct StopOnPanic<'a>(&'a Queue);

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

    fn perform(&self, job: Job, reports: &Sender<Report>) -> Result<()> {
        match job {
            Job::Chain(index, buffer) => {
                self.state.feed(index, &buffer)?;
                self.queue.chain_done(buffer);
            }
            Job::Piece(index, mut buffer) => {
                let digests = self.piece(index, &mut buffer)?;
                self.queue.piece_done(index, buffer);
                let chain = self.state.chain();
                let _ = reports.send(Ok(Progress { index, digests, chain }));
            }
        }
        Ok(())
    }

    /// Reads a piece and has its digests recorded.
    fn piece(&self, index: u32, buffer: &mut Vec<u8>) -> Result<PieceDigests> {
        let length = self.state.length();
        self.source.will_need((u64::from(index) + 1) * PIECE, PIECE);
        if let Some(digests) = self.state.get(index) {
            self.source.read_piece(index, length, buffer)?;
            return Ok(digests);
        }
        let digests = read_and_hash(self.source, index, length, buffer)?;
        self.state.record(index, digests)?;
        Ok(digests)
    }
}

/// Reads piece `index` into `buffer` and hashes it stride by stride, while it is in the cache.
fn read_and_hash(source: &Source, index: u32, length: u64, buffer: &mut Vec<u8>) -> Result<PieceDigests> {
    let (mut offset, size) = piece_span(index, length)?;
    let mut work = PieceWork::new(index, length)?;
    buffer.resize(size, 0);
    for stride in buffer.chunks_mut(STRIDE) {
        source.read_at(stride, offset)?;
        work.update(stride);
        offset += stride.len() as u64;
    }
    work.finish()
}
