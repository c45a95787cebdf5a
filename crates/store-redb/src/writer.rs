//! The one thread that writes: it drains the queue into groups, and each group is one redb transaction.

use std::{sync::Arc, time::Instant};

use redb::{Builder, Database};
use skiff_store::{
    Committed, Error, Op, Transaction,
    memory::{Memory, Staged, Staging},
};
use tokio::sync::{mpsc, oneshot};

use crate::{Options, disk, disk::Disk};

pub(crate) enum Request {
    Transact { transaction: Transaction, reply: Reply },
    Close { reply: oneshot::Sender<()> },
}

pub(crate) type Reply = oneshot::Sender<Result<Committed, Error>>;

pub(crate) struct Writer {
    memory: Arc<Memory>,
    disk: Box<dyn Disk>,
    state: State,
    options: Options,
}

enum State {
    Open(Database),
    /// The disk refused. redb does not go on after that: the database must be opened again.
    Failed {
        reason: String,
        at: Instant,
        uncertain: Vec<Staged>,
    },
}

impl Writer {
    pub(crate) fn new(memory: Arc<Memory>, disk: Box<dyn Disk>, database: Database, options: Options) -> Self {
        Self { memory, disk, state: State::Open(database), options }
    }

    /// Until it is closed, or nobody can send any more.
    pub(crate) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut waiting = Vec::new();
        while let Some(first) = requests.blocking_recv() {
            let mut close = None;
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Transact { transaction, reply } => {
                        bytes += transaction.ops.iter().map(op_bytes).sum::<usize>();
                        waiting.push((transaction, reply));
                    }
                    Request::Close { reply } => {
                        close = Some(reply);
                        break;
                    }
                }
                let full =
                    waiting.len() >= self.options.group_transactions_max || bytes >= self.options.group_bytes_max;
                next = if full { None } else { requests.try_recv().ok() };
            }
            self.commit(std::mem::take(&mut waiting));
            if let Some(reply) = close {
                drop(self);
                // Whoever closes may have stopped waiting.
                let _ = reply.send(());
                return;
            }
        }
    }

    fn commit(&mut self, requests: Vec<(Transaction, Reply)>) {
        if requests.is_empty() {
            return;
        }
        let results = match self.recover() {
            Ok(()) => self.write(&requests),
            Err(error) => Err(error),
        };
        match results {
            Ok(results) => {
                for ((_, reply), result) in requests.into_iter().zip(results) {
                    // Whoever asked may have stopped waiting; the write stands.
                    let _ = reply.send(result.map(Staged::into_committed));
                }
            }
            Err(error) => {
                for (_, reply) in requests {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Stages, writes and publishes a group. An error is everyone's, also of those that had a conflict: it may have
    /// been with a write that did not happen.
    fn write(&mut self, requests: &[(Transaction, Reply)]) -> Result<Vec<Result<Staged, Error>>, Error> {
        let mut staging = Staging::new(&self.memory);
        let results: Vec<_> = requests.iter().map(|(transaction, _)| staging.stage(transaction)).collect();
        let group: Vec<Staged> = results.iter().flatten().filter(|s| !s.is_check()).cloned().collect();
        if group.is_empty() {
            return Ok(results);
        }
        let State::Open(database) = &self.state else { return Err(self.refusal()) };
        if let Err(error) = disk::write(database, &group) {
            self.fail(&error, group);
            return Err(self.refusal());
        }
        self.memory.publish(&group);
        Ok(results)
    }

    /// Opens the database again after an error, if it is time to.
    fn recover(&mut self) -> Result<(), Error> {
        let State::Failed { at, uncertain, .. } = &mut self.state else { return Ok(()) };
        if at.elapsed() < self.options.retry_after {
            return Err(self.refusal());
        }
        let uncertain = std::mem::take(uncertain);
        match reopen(&mut *self.disk, self.options.cache_bytes) {
            Ok((database, revision)) => {
                let written = uncertain.last().is_some_and(|last| last.revision() == revision);
                if written {
                    // The error came after the point of no return: nobody was told, but it is durable.
                    self.memory.publish(&uncertain);
                }
                if revision != self.memory.revision() {
                    let mismatch = redb::Error::Corrupted(format!(
                        "it is at revision {revision}, {} was acknowledged",
                        self.memory.revision()
                    ));
                    self.fail(&mismatch, uncertain);
                    return Err(self.refusal());
                }
                tracing::info!(path = self.disk.path(), revision, "the store can be written to again");
                self.state = State::Open(database);
                Ok(())
            }
            Err(error) => {
                self.fail(&error, uncertain);
                Err(self.refusal())
            }
        }
    }

    fn fail(&mut self, error: &redb::Error, uncertain: Vec<Staged>) {
        let reason = error.to_string();
        tracing::error!(path = self.disk.path(), error = reason, "the store cannot be written to");
        self.state = State::Failed { reason, at: Instant::now(), uncertain };
    }

    fn refusal(&self) -> Error {
        let reason = match &self.state {
            State::Failed { reason, .. } => reason.clone(),
            State::Open(_) => String::new(),
        };
        Error::Disk { path: self.disk.path(), reason }
    }
}

fn reopen(disk: &mut dyn Disk, cache_bytes: usize) -> Result<(Database, u64), redb::Error> {
    let database = disk.open(Builder::new().set_cache_size(cache_bytes))?;
    let (_, revision) = disk::read_meta(&database)?;
    Ok((database, revision))
}

fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Put(key, draft) => key.as_str().len() + draft.bytes.len(),
        Op::Delete(key, _) => key.as_str().len(),
    }
}
