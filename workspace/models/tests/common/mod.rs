//! Files as `torch.save` writes them, in both forms.

#![allow(dead_code, reason = "each test uses some of it")]

/// What is saved.
#[derive(Clone)]
pub enum Tree {
    Dict(Vec<(String, Tree)>),
    /// Shape and values.
    Tensor(Vec<usize>, Vec<f32>),
    /// Operations that leave one value.
    Raw(Vec<u8>),
    /// Put into the memo under this number.
    Remembered(u8, Box<Tree>),
    /// What operations make, and the items that are put into it.
    Made(Vec<u8>, Vec<(String, Tree)>),
    List(Vec<Tree>),
    /// Between operations.
    Between(Vec<u8>, Box<Tree>, Vec<u8>),
    /// Into the storage of an earlier tensor, counted from 0: first element, shape, strides.
    View(usize, usize, Vec<usize>, Vec<usize>),
}

impl Tree {
    pub fn dict<const N: usize>(items: [(&str, Tree); N]) -> Self {
        Self::Dict(items.map(|(key, tree)| (key.to_owned(), tree)).to_vec())
    }
}

/// An archive of entries stored as they are, with true checksums.
pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let header = file.len() as u32;
        let mut common = [20u16, 0, 0, 0, 0].map(u16::to_le_bytes).concat();
        common.extend(crc32fast::hash(data).to_le_bytes());
        common.extend([data.len() as u32; 2].map(u32::to_le_bytes).concat());
        common.extend([name.len() as u16, 0].map(u16::to_le_bytes).concat());
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(name.as_bytes());
        file.extend(*data);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(common);
        directory.extend([0; 10]);
        directory.extend(header.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let at = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([entries.len() as u16; 2].map(u16::to_le_bytes).concat());
    file.extend([directory.len() as u32, at].map(u32::to_le_bytes).concat());
    file.extend([0, 0]);
    file
}

/// A pickle and the storages that it names `0`, `1` and so on.
struct Pickler {
    bytes: Vec<u8>,
    storages: Vec<Vec<f32>>,
    old: bool,
}

impl Pickler {
    fn text(&mut self, text: &str) {
        self.bytes.push(b'X');
        self.bytes.extend((text.len() as u32).to_le_bytes());
        self.bytes.extend(text.as_bytes());
    }

    fn int(&mut self, value: usize) {
        self.bytes.push(b'J');
        self.bytes.extend((value as u32).to_le_bytes());
    }

    fn sizes(&mut self, sizes: &[usize]) {
        self.bytes.push(b'(');
        sizes.iter().for_each(|&size| self.int(size));
        self.bytes.push(b't');
    }

    fn put(&mut self, tree: &Tree) {
        match tree {
            Tree::Raw(bytes) => self.bytes.extend(bytes),
            Tree::Remembered(key, tree) => {
                self.put(tree);
                self.bytes.extend([b'q', *key]);
            }
            Tree::Between(before, tree, after) => {
                self.bytes.extend(before);
                self.put(tree);
                self.bytes.extend(after);
            }
            Tree::List(items) => {
                self.bytes.extend(b"](");
                items.iter().for_each(|item| self.put(item));
                self.bytes.push(b'e');
            }
            Tree::Dict(items) => self.put_items(b"}", items),
            Tree::Made(operations, items) => self.put_items(operations, items),
            Tree::Tensor(shape, values) => {
                let strides: Vec<usize> = (0..shape.len()).map(|at| shape[at + 1..].iter().product()).collect();
                self.storages.push(values.clone());
                self.put_view(self.storages.len() - 1, 0, shape, &strides);
            }
            Tree::View(storage, first, shape, strides) => self.put_view(*storage, *first, shape, strides),
        }
    }

    fn put_items(&mut self, made: &[u8], items: &[(String, Tree)]) {
        self.bytes.extend(made);
        self.bytes.push(b'(');
        for (key, tree) in items {
            self.text(key);
            self.put(tree);
        }
        self.bytes.push(b'u');
    }

    fn put_view(&mut self, storage: usize, first: usize, shape: &[usize], strides: &[usize]) {
        self.bytes.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.bytes.extend(b"ctorch\nFloatStorage\n");
        self.text(&storage.to_string());
        self.text("cpu");
        self.int(self.storages[storage].len());
        self.bytes.extend(if self.old { b"NtQ".as_slice() } else { b"tQ".as_slice() });
        self.int(first);
        self.sizes(shape);
        self.sizes(strides);
        self.bytes.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
}

fn pickle(tree: &Tree, old: bool) -> Pickler {
    let mut pickler = Pickler { bytes: b"\x80\x02".to_vec(), storages: Vec::new(), old };
    pickler.put(tree);
    pickler.bytes.push(b'.');
    pickler
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn torch_save(tree: &Tree) -> Vec<u8> {
    let Pickler { bytes: pickle, storages, .. } = pickle(tree, false);
    let storages: Vec<(String, Vec<u8>)> =
        storages.iter().enumerate().map(|(key, values)| (format!("archive/data/{key}"), bytes(values))).collect();
    let mut entries: Vec<(&str, &[u8])> = vec![("archive/data.pkl", &pickle), ("archive/byteorder", b"little")];
    entries.extend(storages.iter().map(|(name, data)| (name.as_str(), data.as_slice())));
    zip(&entries)
}

/// As before PyTorch 1.6.
pub fn torch_save_old(tree: &Tree) -> Vec<u8> {
    let Pickler { bytes: pickle, storages, .. } = pickle(tree, true);
    let mut file = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec();
    file.extend(b"\x80\x02}q\0(X\x0d\0\0\0little_endianq\x01\x88X\x10\0\0\0protocol_versionq\x02M\xe9\x03u.");
    file.extend(pickle);
    let mut keys = Pickler { bytes: b"\x80\x02](".to_vec(), storages: Vec::new(), old: true };
    (0..storages.len()).for_each(|key| keys.text(&key.to_string()));
    file.extend(keys.bytes);
    file.extend(b"e.");
    for values in storages {
        file.extend((values.len() as u64).to_le_bytes());
        file.extend(bytes(&values));
    }
    file
}
