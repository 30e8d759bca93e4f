//! What survives the daemon: networks, sandboxes and endpoints in one redb file.
//!
//! Each object is a JSON document under its id. A command's changes go into one transaction that is on
//! disk before the command touches anything else: after `kill -9`, or a power cut, the next daemon finds
//! either all of them or none, and an endpoint whose device was never made is made then.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    model::{Endpoint, EndpointId, Network, NetworkId, Sandbox, SandboxId},
    paths,
};

/// The daemon's state on disk; clones share one file.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None` after a failure of the file system, until the next attempt.
    database: Mutex<Option<Database>>,
    path: PathBuf,
    /// Held as long as the store is open.
    _lock: File,
}

/// Everything that is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// All networks.
    pub networks: Vec<Network>,
    /// All sandboxes.
    pub sandboxes: Vec<Sandbox>,
    /// All endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One change of the stored objects.
#[derive(Debug, Clone)]
pub enum Change {
    /// Stores an endpoint.
    PutEndpoint(Endpoint),
    /// Stores a network.
    PutNetwork(Network),
    /// Stores a sandbox.
    PutSandbox(Sandbox),
    /// Forgets an endpoint.
    RemoveEndpoint(EndpointId),
    /// Forgets a network.
    RemoveNetwork(NetworkId),
    /// Forgets a sandbox.
    RemoveSandbox(SandboxId),
}

impl Change {
    /// What takes back a change that stored something new; `None` for removals.
    pub(super) fn undone(&self) -> Option<Self> {
        match self {
            Self::PutEndpoint(endpoint) => Some(Self::RemoveEndpoint(endpoint.id)),
            Self::PutNetwork(network) => Some(Self::RemoveNetwork(network.id)),
            Self::PutSandbox(sandbox) => Some(Self::RemoveSandbox(sandbox.id)),
            Self::RemoveEndpoint(_) | Self::RemoveNetwork(_) | Self::RemoveSandbox(_) => None,
        }
    }
}

impl Store {
    /// Opens the state in this directory; makes both if they are missing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] when another daemon has it open; else see [`StoreError`].
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| StoreError::io("create", directory, error))?;
        let lock = lock(&directory.join(LOCK_FILE))?;
        let path = directory.join(STATE_FILE);
        let store = Self {
            shared: Arc::new(Shared {
                database: Mutex::default(),
                path,
                _lock: lock,
            }),
        };
        store.check_schema()?;
        Ok(store)
    }

    /// Identity of this state: chosen once, kept for ever.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn host_id(&self) -> Result<String, StoreError> {
        self.meta_or(HOST_ID, || {
            NetworkId::random()
                .map(|id| id.to_string())
                .map_err(|error| StoreError::io("get random numbers for", &self.shared.path, error))
        })
    }

    /// Reads everything.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn load(&self) -> Result<Contents, StoreError> {
        Ok(Contents {
            networks: self.all(NETWORKS)?,
            sandboxes: self.all(SANDBOXES)?,
            endpoints: self.all(ENDPOINTS)?,
        })
    }

    /// Makes all changes or none; they are on disk when this returns.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]; nothing has changed then.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || store.write(changes)).await {
            Ok(written) => written,
            Err(error) => Err(StoreError::io(
                "write",
                &self.shared.path,
                io::Error::other(error),
            )),
        }
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.attempt(|database| {
            let transaction = database.begin_write()?;
            for change in changes {
                let (table, key, document) = match change {
                    Change::PutEndpoint(endpoint) => {
                        (ENDPOINTS, endpoint.id.to_string(), Some(json(&endpoint)?))
                    }
                    Change::PutNetwork(network) => (NETWORKS, network.id.to_string(), Some(json(&network)?)),
                    Change::PutSandbox(sandbox) => (SANDBOXES, sandbox.id.to_string(), Some(json(&sandbox)?)),
                    Change::RemoveEndpoint(id) => (ENDPOINTS, id.to_string(), None),
                    Change::RemoveNetwork(id) => (NETWORKS, id.to_string(), None),
                    Change::RemoveSandbox(id) => (SANDBOXES, id.to_string(), None),
                };
                let mut table = transaction.open_table(table)?;
                match document {
                    Some(document) => table.insert(key.as_str(), document.as_slice())?,
                    None => table.remove(key.as_str())?,
                };
            }
            Ok(transaction.commit()?)
        })
    }

    fn all<T: DeserializeOwned>(&self, definition: Table) -> Result<Vec<T>, StoreError> {
        let documents = self.attempt(|database| {
            let transaction = database.begin_read()?;
            let table = match transaction.open_table(definition) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut documents = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                documents.push((key.value().to_owned(), value.value().to_owned()));
            }
            Ok(documents)
        })?;
        let parsed = documents.into_iter().map(|(key, document)| {
            serde_json::from_slice(&document).map_err(|error| StoreError::Damaged {
                path: self.shared.path.clone(),
                key,
                error,
            })
        });
        parsed.collect()
    }

    /// Refuses files of another layout, marks new ones.
    fn check_schema(&self) -> Result<(), StoreError> {
        let found = self.meta_or(SCHEMA, || Ok(SCHEMA_VERSION.to_owned()))?;
        if found == SCHEMA_VERSION {
            return Ok(());
        }
        Err(StoreError::Schema {
            path: self.shared.path.clone(),
            found,
        })
    }

    fn meta_or(
        &self,
        key: &str,
        fresh: impl FnOnce() -> Result<String, StoreError>,
    ) -> Result<String, StoreError> {
        let found = self.attempt(|database| {
            let transaction = database.begin_read()?;
            match transaction.open_table(META) {
                Ok(table) => Ok(table.get(key)?.map(|value| value.value().to_owned())),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })?;
        if let Some(found) = found {
            return Ok(found);
        }
        let value = fresh()?;
        self.attempt(|database| {
            let transaction = database.begin_write()?;
            transaction.open_table(META)?.insert(key, value.as_str())?;
            Ok(transaction.commit()?)
        })?;
        Ok(value)
    }

    /// Runs a transaction. After a failure of the file system redb refuses everything (`PreviousIo`) until
    /// the file is opened again, which the next attempt does: a disk may be full for a moment only. The lock
    /// file stays locked meanwhile.
    fn attempt<T>(
        &self,
        operation: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let path = &self.shared.path;
        let mut kept = self
            .shared
            .database
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let database = match kept.take() {
            Some(database) => database,
            None => Database::create(path).map_err(|error| StoreError::redb(path, error))?,
        };
        let outcome = operation(&database);
        if !matches!(outcome, Err(redb::Error::Io(_) | redb::Error::PreviousIo)) {
            *kept = Some(database);
        }
        outcome.map_err(|error| StoreError::redb(path, error))
    }
}

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A document does not parse; the file was changed by something else.
    #[error("{}: document {key} is damaged: {error}; move the file away to start anew", path.display())]
    Damaged {
        /// The state file.
        path: PathBuf,
        /// The object's id.
        key: String,
        /// What the parser found.
        error: serde_json::Error,
    },
    /// The file system refused.
    #[error("{operation} {}: {error}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        error: io::Error,
    },
    /// Another daemon has the state open.
    #[error("another vswitchd is running with this state: {} is locked", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The database refused.
    #[error("state file {}: {error}", path.display())]
    Redb {
        /// The state file.
        path: PathBuf,
        /// The answer.
        error: Box<redb::Error>,
    },
    /// Another version of the daemon wrote the file.
    #[error(
        "{} has layout {found}, this vswitchd reads layout {SCHEMA_VERSION}; run the version that wrote it, or \
         move the file away to start anew",
        path.display()
    )]
    Schema {
        /// The state file.
        path: PathBuf,
        /// Its layout's version.
        found: String,
    },
}

impl StoreError {
    fn io(operation: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Io {
            operation,
            path: path.to_owned(),
            error,
        }
    }

    fn redb(path: &Path, error: impl Into<redb::Error>) -> Self {
        Self::Redb {
            path: path.to_owned(),
            error: Box::new(error.into()),
        }
    }
}

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

const NETWORKS: Table = TableDefinition::new("networks");
const SANDBOXES: Table = TableDefinition::new("sandboxes");
const ENDPOINTS: Table = TableDefinition::new("endpoints");
const META: TableDefinition<'static, &'static str, &'static str> = TableDefinition::new("meta");

const SCHEMA: &str = "schema";
const SCHEMA_VERSION: &str = "1";
const HOST_ID: &str = "host-id";

const STATE_FILE: &str = "state.redb";
const LOCK_FILE: &str = "vswitchd.lock";

/// Takes the lock that says which daemon owns the directory.
fn lock(path: &Path) -> Result<File, StoreError> {
    paths::lock_file(path)
        .map_err(|error| StoreError::io("lock", path, error))?
        .ok_or_else(|| StoreError::Locked {
            path: path.to_owned(),
        })
}

fn json(object: &impl Serialize) -> Result<Vec<u8>, redb::Error> {
    // Fails only for maps whose keys are no strings; ours are.
    serde_json::to_vec(object).map_err(|error| redb::Error::Io(error.into()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use redb::{StorageBackend, backends::InMemoryBackend};

    use super::*;
    use crate::control::fixtures;

    #[tokio::test]
    async fn what_was_committed_is_there_after_reopening() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (network, sandbox, endpoint) = fixtures::objects();
        let store = Store::open(directory.path()).expect("a fresh store");
        let host = store.host_id().expect("an id");
        let put = vec![
            Change::PutNetwork(network.clone()),
            Change::PutSandbox(sandbox.clone()),
            Change::PutEndpoint(endpoint.clone()),
        ];
        store.commit(put).await.expect("the disk has room");
        drop(store);

        let store = Store::open(directory.path()).expect("the same store");
        assert_eq!(store.host_id().expect("an id"), host);
        let expected = Contents {
            networks: vec![network.clone()],
            sandboxes: vec![sandbox],
            endpoints: vec![endpoint.clone()],
        };
        assert_eq!(store.load().expect("it parses"), expected);

        let remove = vec![
            Change::RemoveEndpoint(endpoint.id),
            Change::RemoveNetwork(network.id),
        ];
        store.commit(remove).await.expect("the disk has room");
        let left = store.load().expect("it parses");
        assert_eq!(
            (left.networks.len(), left.sandboxes.len(), left.endpoints.len()),
            (0, 1, 0)
        );
    }

    #[test]
    fn a_sandbox_of_an_earlier_version_is_of_no_boot() {
        let (_, sandbox, _) = fixtures::objects();
        let mut document = serde_json::to_value(&sandbox).expect("it serialises");
        let members = document.as_object_mut().expect("it is an object");
        members.remove("boot").expect("it is stored");
        let read: Sandbox = serde_json::from_value(document).expect("it is still read");
        assert_eq!(
            read,
            Sandbox {
                boot: String::new(),
                ..sandbox
            }
        );
    }

    #[tokio::test]
    async fn a_failure_of_the_file_system_is_over_when_it_is_over() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (network, _, _) = fixtures::objects();
        let store = Store::open(directory.path()).expect("a fresh store");
        let disk = FullDisk::default();
        let database = Database::builder().create_with_backend(disk.clone());
        *store.shared.database.lock().expect("nobody panicked") = Some(database.expect("it has room"));
        disk.full.store(true, Ordering::Relaxed);
        let put = || vec![Change::PutNetwork(network.clone())];
        let error = store.commit(put()).await.expect_err("it is full").to_string();
        assert!(error.contains("no storage space"), "{error}");
        store.commit(put()).await.expect("the file has room");
        assert_eq!(store.load().expect("it parses").networks, [network]);
        let error = Store::open(directory.path()).expect_err("it is locked");
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    }

    /// In memory, and with room until it is said to be full.
    #[derive(Debug, Clone, Default)]
    struct FullDisk {
        content: Arc<InMemoryBackend>,
        full: Arc<AtomicBool>,
    }

    impl FullDisk {
        fn check(&self) -> io::Result<()> {
            if self.full.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }
    }

    impl StorageBackend for FullDisk {
        fn len(&self) -> io::Result<u64> {
            self.content.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.content.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.check()?;
            self.content.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.check()?;
            self.content.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.check()?;
            self.content.write(offset, data)
        }
    }

    #[tokio::test]
    async fn a_second_daemon_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let _first = Store::open(directory.path()).expect("a fresh store");
        let error = Store::open(directory.path()).expect_err("it is locked");
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    }

    #[tokio::test]
    async fn another_layout_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        drop(Store::open(directory.path()).expect("a fresh store"));
        let database = Database::create(directory.path().join(STATE_FILE)).expect("it is closed");
        let transaction = database.begin_write().expect("nobody writes");
        transaction
            .open_table(META)
            .and_then(|mut meta| Ok(meta.insert(SCHEMA, "99").map(drop)?))
            .expect("it exists");
        transaction.commit().expect("the disk has room");
        drop(database);
        let error = Store::open(directory.path())
            .expect_err("layout 99 is not ours")
            .to_string();
        assert!(
            error.contains("has layout 99, this vswitchd reads layout 1"),
            "{error}"
        );
    }
}
