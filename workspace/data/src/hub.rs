//! Files from the Hugging Face hub: pinned revision, known size and sha256, nothing unchecked in the cache.
//!
//! hf-hub takes an error page or half a file for the file itself, and waits for ever. So it downloads into a folder of
//! its own, watched by a deadline, and only what was checked is moved into the cache, in the hub's own layout.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::{DataError, root};

/// The hub keeps them apart: a name may be of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepoKind {
    /// Weights.
    Model,
    /// Images.
    Dataset,
}

/// What is fetched, and how it is known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// What the repository holds.
    pub kind: RepoKind,
    /// `owner/name`
    pub repo: String,
    /// Commit, 40 hex digits: a branch moves.
    pub revision: String,
    /// Path in the repository.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// Hex.
    pub sha256: String,
}

/// Where files come from and where they are kept.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Folder in the hub's own layout.
    pub cache: PathBuf,
    /// None: the hub itself, or `HF_ENDPOINT`.
    pub endpoint: Option<String>,
    /// A download that brings nothing for so long is given up.
    pub patience: Duration,
    /// Open no socket.
    pub offline: bool,
}

impl Hub {
    /// The cache that other programs use too: `HF_HUB_CACHE`, `HF_HOME/hub` or `~/.cache/huggingface/hub`.
    /// `SANDGLASS_OFFLINE=1` is obeyed.
    pub fn from_env() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || set("HF_HOME").or_else(|| Some(set("HOME")?.join(".cache/huggingface")));
        let cache = set("HF_HUB_CACHE").or_else(|| Some(home()?.join("hub")));
        Self {
            cache: cache.unwrap_or_else(|| PathBuf::from(".cache/huggingface/hub")),
            endpoint: None,
            patience: Duration::from_secs(60),
            offline: root::offline(),
        }
    }

    /// The checked file in the cache, downloaded where need be. One retry.
    ///
    /// # Errors
    ///
    /// [`DataError::Download`] where no connection, the wrong file, half of it or nothing came, where `wanted` is not
    /// pinned to a commit, or where it is not in the cache and no socket may be opened; [`DataError::Io`].
    pub fn fetch(&self, wanted: &HubFile) -> Result<PathBuf, DataError> {
        let failed = |reason: String, advice: &str| DataError::Download {
            what: format!("{}@{} {}", wanted.repo, wanted.revision.get(..8).unwrap_or_default(), wanted.file),
            reason,
            advice: advice.to_string(),
        };
        let hex = wanted.revision.len() == 40 && wanted.revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        let inside = Path::new(&wanted.file).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !hex || !inside {
            return Err(failed("not a commit and a file's name".to_string(), "pin the file to 40 hex digits"));
        }
        let place = self.place(wanted);
        if place.is_file() {
            if wanted.check(&place).is_ok() {
                return Ok(place);
            }
            std::fs::remove_file(&place).map_err(DataError::io(&place))?;
        }
        if self.offline {
            let advice = format!("unset SANDGLASS_OFFLINE, or put it at {}", place.display());
            return Err(failed("not in the cache, and no socket may be opened".to_string(), &advice));
        }
        let outcome = self.download(wanted, &place).or_else(|first| match first {
            Failure::Stalled => Err(first),
            Failure::Other(_) => self.download(wanted, &place),
        });
        match outcome {
            Ok(()) => Ok(place),
            Err(Failure::Stalled) => {
                let reason = format!("nothing came for {} s", self.patience.as_secs_f32());
                Err(failed(reason, "check the network, then run the same command again"))
            }
            Err(Failure::Other(reason)) => Err(failed(
                reason,
                "check the network and that the address is not behind a login, then run the same command again",
            )),
        }
    }

    /// Path in the hub's cache layout, which hf-hub and Python's library read too.
    fn place(&self, wanted: &HubFile) -> PathBuf {
        let kind = if wanted.kind == RepoKind::Model { "models" } else { "datasets" };
        let folder = format!("{kind}--{}", wanted.repo.replace('/', "--"));
        self.cache.join(folder).join("snapshots").join(&wanted.revision).join(&wanted.file)
    }

    fn download(&self, wanted: &HubFile, place: &Path) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.cache)?;
        // Dropped on every way out, with whatever came.
        let staging = tempfile::Builder::new().prefix(".fetch-").tempdir_in(&self.cache)?;
        let fetched = self.download_into(wanted, staging.path())?.canonicalize()?;
        wanted.check(&fetched)?;
        File::open(&fetched)?.sync_all()?;
        let folder = place.parent().unwrap_or(&self.cache);
        std::fs::create_dir_all(folder)?;
        std::fs::rename(&fetched, place)?;
        File::open(folder)?.sync_all()?;
        Ok(())
    }

    /// hf-hub on a thread of its own, for nothing else can end a stalled download.
    fn download_into(&self, wanted: &HubFile, staging: &Path) -> Result<PathBuf, Failure> {
        let (sender, receiver) = channel();
        let (wanted, endpoint, cache) = (wanted.clone(), self.endpoint.clone(), staging.to_path_buf());
        thread::Builder::new().spawn(move || {
            let _ = sender.send(hf_download(&wanted, endpoint, &cache).map_err(|error| error.to_string()));
        })?;
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            match receiver.recv_timeout(Duration::from_millis(50).min(self.patience)) {
                Ok(outcome) => return outcome.map_err(Failure::Other),
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::Other("the download stopped".to_string())),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let bytes = bytes_below(staging);
            if bytes != seen {
                (seen, since) = (bytes, Instant::now());
            } else if since.elapsed() > self.patience {
                return Err(Failure::Stalled);
            }
        }
    }
}

fn hf_download(wanted: &HubFile, endpoint: Option<String>, cache: &Path) -> hf_hub::HFResult<PathBuf> {
    let client = hf_hub::HFClient::builder().cache_dir(cache).retry_max_attempts(1);
    let client = endpoint.into_iter().fold(client, |client, endpoint| client.endpoint(endpoint)).build_sync()?;
    let (owner, name) = hf_hub::split_id(&wanted.repo);
    let (file, revision) = (wanted.file.clone(), wanted.revision.clone());
    match wanted.kind {
        RepoKind::Model => client.model(owner, name).download_file().filename(file).revision(revision).send(),
        RepoKind::Dataset => client.dataset(owner, name).download_file().filename(file).revision(revision).send(),
    }
}

enum Failure {
    Stalled,
    Other(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Other(error.to_string())
    }
}

impl HubFile {
    /// Size first, then sha256.
    fn check(&self, path: &Path) -> Result<(), Failure> {
        let size = std::fs::metadata(path)?.len();
        if size != self.size {
            return Err(Failure::Other(format!("{size} bytes came, {} were expected", self.size)));
        }
        let sha256 = sandglass_files::sha256_file(path)?;
        if !sha256.eq_ignore_ascii_case(&self.sha256) {
            return Err(Failure::Other(format!("its sha256 is {sha256}, not {}", self.sha256)));
        }
        Ok(())
    }
}

/// Bytes in all files below `folder`, as far as they can be read.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    });
    bytes.sum()
}
