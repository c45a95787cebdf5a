//! The tables, and where they are kept.
//!
//! `objects`: key → revision (8 bytes, little endian) and value. `meta`: `format` and `revision`. One redb
//! transaction per group keeps the two tables consistent.

use std::sync::Arc;

use bytes::Bytes;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use skiff_store::{Entry, Event, FIRST_REVISION, Key, Revision, memory::Staged};

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The layout described above. A store with a higher number was written by a newer version.
pub(crate) const FORMAT: u64 = 1;

/// Where a database lives. It is opened at the start, and again after an error.
pub trait Disk: Send + 'static {
    /// For messages.
    fn path(&self) -> String;

    /// Opens the database, or creates an empty one.
    ///
    /// # Errors
    /// redb's own.
    fn open(&mut self, builder: &Builder) -> Result<Database, DatabaseError>;
}

/// What a database holds.
pub(crate) struct Content {
    pub(crate) format: u64,
    pub(crate) revision: Revision,
    /// In key order.
    pub(crate) entries: Vec<Arc<Entry>>,
}

/// Reads everything; an empty database gets its first revision.
pub(crate) fn read(database: &Database) -> Result<Content, redb::Error> {
    let (format, revision) = read_meta(database)?;
    let mut entries = Vec::new();
    if format == FORMAT {
        let transaction = database.begin_read()?;
        for row in transaction.open_table(OBJECTS)?.iter()? {
            let (key, row) = row?;
            let Some((revision, value)) = row.value().split_first_chunk::<8>() else {
                return Err(redb::Error::Corrupted(format!("{} has no revision", key.value())));
            };
            let (revision, value) = (u64::from_le_bytes(*revision), Bytes::copy_from_slice(value));
            entries.push(Arc::new(Entry::new(Key::new(key.value()), revision, value)));
        }
    }
    Ok(Content { format, revision, entries })
}

/// The format and the revision.
pub(crate) fn read_meta(database: &Database) -> Result<(u64, Revision), redb::Error> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => {
            drop(transaction);
            create(database)?;
            return Ok((FORMAT, FIRST_REVISION));
        }
        meta => meta?,
    };
    let number = |name: &str| -> Result<u64, redb::Error> {
        let missing = || redb::Error::Corrupted(format!("meta has no {name}"));
        Ok(meta.get(name)?.ok_or_else(missing)?.value())
    };
    Ok((number("format")?, number("revision")?))
}

/// Creates the tables.
pub(crate) fn create(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        transaction.open_table(OBJECTS)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("revision", FIRST_REVISION)?;
    }
    Ok(transaction.commit()?)
}

/// Writes a group; durable when it returns.
pub(crate) fn write(database: &Database, group: &[Staged]) -> Result<(), redb::Error> {
    let Some(last) = group.last() else { return Ok(()) };
    let transaction = database.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for event in group.iter().flat_map(Staged::events) {
            match event {
                Event::Put { entry, .. } => {
                    let mut row = objects.insert_reserve(entry.key.as_str(), 8 + entry.value.len())?;
                    let (revision, value) = row.as_mut().split_at_mut(8);
                    revision.copy_from_slice(&entry.revision.to_le_bytes());
                    value.copy_from_slice(&entry.value);
                }
                Event::Delete { entry, .. } => drop(objects.remove(entry.key.as_str())?),
            }
        }
        transaction.open_table(META)?.insert("revision", last.revision())?;
    }
    Ok(transaction.commit()?)
}
