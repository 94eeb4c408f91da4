//! Checkpoints: `.safetensors`, and PyTorch's `.pth` in its zip form and the older one.
//!
//! A file's tensors are called by all the keys that lead to them, joined with dots. Which of them are a network's is found
//! by names and shapes ([`Checkpoint::fit`]): `state_dict.module.features.0.0.weight` needs nobody to know the wrappers.
//! Networks whose checkpoints exist under other names are read in those too ([`Dialect`]).
//!
//! A file is never trusted: whatever its bytes say, reading it allocates at most twice its length and 64 MiB.

mod detector;
mod dialect;
mod error;
mod fit;
mod pickle;
mod pth;
mod safetensors;
mod save;
mod tensorflow;
mod zip;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

pub use detector::FittedDetector;
pub use dialect::Dialect;
pub use error::{CheckpointError, Differences, Problem};
pub use fit::{Fit, Incomplete, load};
pub use safetensors::twice;
pub use save::{SaveType, save};

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    F16,
    Bf16,
    F32,
    F64,
    /// Integers, booleans and 8-bit floats: seen in files, read by nothing here.
    Other,
}

impl StoredType {
    /// Bytes of a number; 0 where the type is not read.
    pub const fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Other => 0,
        }
    }
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// With the keys that lead to it.
    pub name: String,
    pub dtype: StoredType,
    pub shape: Vec<usize>,
    /// First byte in the file.
    at: u64,
    layout: Layout,
    /// Whether the tensors up to this one, by name, are more bytes than the file: some share theirs.
    is_beyond: bool,
}

/// How a tensor lies in the file.
#[derive(Clone, Debug, PartialEq)]
enum Layout {
    Contiguous,
    /// By strides, in elements, of which it spans so many. Strides of 0 say an element again.
    Strided {
        strides: Vec<usize>,
        span: usize,
    },
    /// Not read.
    Sparse,
}

/// Strided tensors that span more are refused: reading one needs a second copy of what it spans.
const MAX_STRIDED_BYTES: usize = 16 << 20;
/// What tensors may take that share their bytes with others, beyond twice the file.
const MAX_SHARED_BYTES: u64 = 16 << 20;
const MAX_TENSORS: usize = 1 << 14;
const MAX_NAME: usize = 256;
const MAX_DIMS: usize = 8;

/// An open file whose table of tensors has been read and checked against the file's length.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    file: File,
    length: u64,
    tensors: Vec<Stored>,
    unnamed: Vec<(String, u32)>,
    others: Vec<NoTensor>,
}

/// What lies where a tensor might: nothing, an array of another library, a quantised tensor.
#[derive(Clone, Debug)]
struct NoTensor {
    name: String,
    /// In words.
    what: String,
}

/// What scripts call lists of the classes that outputs are. None is read here: they have many forms, and a card has one.
const CLASS_LISTS: [&str; 12] = [
    "class_to_idx",
    "idx_to_class",
    "class_names",
    "classes",
    "CLASSES",
    "id2label",
    "label2id",
    "label_names",
    "labels",
    "label_map",
    "categories",
    "names",
];

/// What a file holds.
struct Table {
    tensors: Vec<Stored>,
    /// Where tensors lie that have no names, and how many: they are told of, and never read.
    unnamed: Vec<(String, u32)>,
    others: Vec<NoTensor>,
}

impl Checkpoint {
    /// The content decides the format, not the name.
    ///
    /// # Errors
    /// What is no file, a file that cannot be read, or that is no whole checkpoint of a known format.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let problem = |problem| CheckpointError::Unreadable { path: path.to_owned(), problem };
        let mut file = sandglass_files::open(path).map_err(|error| problem(error.into()))?;
        let length = file.metadata().map_err(|error| problem(error.into()))?.len();
        let Table { tensors, unnamed, others } = table(&mut file, length).map_err(problem)?;
        Ok(Self { path: path.to_owned(), file, length, tensors, unnamed, others })
    }

    /// Sorted by name.
    pub fn tensors(&self) -> &[Stored] {
        &self.tensors
    }

    /// Lists of classes that the file holds beside its tensors and that are not read, by their keys.
    pub fn class_lists(&self) -> Vec<String> {
        let is_list = |name: &str| CLASS_LISTS.contains(&name.rsplit('.').next().unwrap_or(name));
        self.others.iter().map(|other| &other.name).filter(|name| is_list(name)).cloned().collect()
    }

    /// The tensor of this name, without its values.
    pub fn get(&self, name: &str) -> Option<&Stored> {
        let at = self.tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name)).ok()?;
        self.tensors.get(at)
    }

    /// The values of one tensor, row-major, as f32. All that can be read so are no larger than the file: of tensors that
    /// share their bytes some may be refused.
    ///
    /// # Errors
    /// No tensor of this name, or one of a type or layout that is not read.
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        match self.get(name) {
            Some(tensor) if tensor.is_beyond => Err(self.unreadable(Problem::Shared(name.to_owned()))),
            _ => self.values(name),
        }
    }

    /// The values of a network's tensors, which may share bytes among themselves and with others. A variance without bound
    /// would only silence its channel: nobody would see it in a score.
    fn read_all(&mut self, names: &[String]) -> Result<Vec<Vec<f32>>, CheckpointError> {
        let mut left = most_values(self.length);
        let mut values = Vec::with_capacity(names.len());
        for name in names {
            let count = self.get(name).map_or(0, Stored::values);
            left = left.checked_sub(count).ok_or_else(|| self.unreadable(Problem::Shared(name.clone())))?;
            let own = self.values(name)?;
            if let Some(value) = own.iter().find(|value| !value.is_finite()) {
                return Err(self.unreadable(Problem::NotFinite { tensor: name.clone(), value: *value }));
            }
            values.push(own);
        }
        Ok(values)
    }

    fn values(&mut self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let Some(tensor) = self.get(name).cloned() else {
            return Err(self.unreadable(Problem::NoTensor(name.to_owned())));
        };
        tensor.read(&mut self.file).map_err(|problem| self.unreadable(problem))
    }

    fn unreadable(&self, problem: Problem) -> CheckpointError {
        CheckpointError::Unreadable { path: self.path.clone(), problem }
    }
}

/// How many f32 a file of so many bytes may become.
fn most_values(length: u64) -> u64 {
    length.saturating_mul(2).saturating_add(MAX_SHARED_BYTES) / 4
}

fn table(file: &mut File, length: u64) -> Result<Table, Problem> {
    let mut head = Vec::new();
    file.by_ref().take(sandglass_files::HEAD as u64).read_to_end(&mut head)?;
    let table = match head.as_slice() {
        [_, _, _, _, _, _, _, _, b'{', ..] => safetensors::table(file, length)?,
        [b'P', b'K', 3, 4, ..] => pth::table(file, length)?,
        head if pth::is_old(head) => pth::old_table(file, length)?,
        [0x80, 2..=5, ..] => return Err(Problem::OtherPickle),
        head => return Err(sandglass_files::kind(head).map_or(Problem::UnknownFormat, Problem::Other)),
    };
    Ok(Table { tensors: check(table.tensors, length)?, ..table })
}

/// Sorts by name. Tensors that share bytes could ask for more memory than the file has: those beyond it are marked.
fn check(mut tensors: Vec<Stored>, length: u64) -> Result<Vec<Stored>, Problem> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some((twice, _)) = tensors.iter().zip(tensors.iter().skip(1)).find(|(a, b)| a.name == b.name) {
        return Err(Problem::Twice(twice.name.clone()));
    }
    let mut total = 0u64;
    for tensor in &mut tensors {
        let end = tensor.extent().and_then(|bytes| tensor.at.checked_add(bytes));
        if end.is_none_or(|end| end > length) {
            return Err(Problem::OutsideFile(tensor.name.clone()));
        }
        total = total.saturating_add(tensor.values().saturating_mul(tensor.dtype.size() as u64));
        tensor.is_beyond = total > length;
    }
    Ok(tensors)
}

impl Stored {
    fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side))
    }

    /// How many f32 it becomes; none of a type that is not read.
    fn values(&self) -> u64 {
        match self.dtype {
            StoredType::Other => 0,
            _ => self.elements().map_or(u64::MAX, |elements| elements as u64),
        }
    }

    /// Bytes of the file from its first to its last.
    fn extent(&self) -> Option<u64> {
        let elements = match &self.layout {
            Layout::Contiguous => self.elements()?,
            Layout::Strided { span, .. } => *span,
            // Checked against its storage, and never read.
            Layout::Sparse => 0,
        };
        u64::try_from(elements.checked_mul(self.dtype.size())?).ok()
    }

    fn read(&self, file: &mut File) -> Result<Vec<f32>, Problem> {
        if self.dtype == StoredType::Other {
            return Err(Problem::Type(self.name.clone()));
        }
        let elements = self.elements().ok_or_else(|| Problem::OutsideFile(self.name.clone()))?;
        file.seek(SeekFrom::Start(self.at))?;
        let strides = || Problem::Strides(self.name.clone());
        match &self.layout {
            Layout::Contiguous => Ok(read_numbers(file, self.dtype, elements)?),
            Layout::Strided { strides: by, span } => {
                let stored = read_numbers(file, self.dtype, *span)?;
                gather(&stored, &self.shape, by, elements).ok_or_else(strides)
            }
            Layout::Sparse => Err(strides()),
        }
    }
}

fn read_numbers(file: &mut File, dtype: StoredType, elements: usize) -> io::Result<Vec<f32>> {
    let mut values = Vec::with_capacity(elements);
    let mut buffer = [0u8; 1 << 16];
    let per_read = buffer.len() / dtype.size();
    while values.len() < elements {
        let count = per_read.min(elements - values.len());
        let bytes = &mut buffer[..count * dtype.size()];
        file.read_exact(bytes)?;
        match dtype {
            StoredType::F16 => values.extend(bytes.as_chunks().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32())),
            StoredType::Bf16 => {
                values.extend(bytes.as_chunks().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()));
            }
            StoredType::F32 => values.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
            StoredType::F64 => values.extend(bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32)),
            StoredType::Other => break,
        }
    }
    Ok(values)
}

/// Row-major values of a strided tensor.
fn gather(stored: &[f32], shape: &[usize], strides: &[usize], elements: usize) -> Option<Vec<f32>> {
    let mut values = Vec::with_capacity(elements);
    let mut place = vec![0; shape.len()];
    for _ in 0..elements {
        let at: usize = place.iter().zip(strides).map(|(p, stride)| p * stride).sum();
        values.push(*stored.get(at)?);
        for (p, side) in place.iter_mut().zip(shape).rev() {
            *p += 1;
            if *p < *side {
                break;
            }
            *p = 0;
        }
    }
    Some(values)
}
