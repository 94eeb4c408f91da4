//! A pickle machine that knows what `torch.save` writes, builds nothing else, and runs nothing.
//!
//! Every value has a place in one list and refers to others by place, so that neither depth nor cycles cost anything.
//! Texts are slices of the pickle. What a training script saves beside the weights (histories, names of files) costs no
//! more than its bytes: lists are not kept, what only they held is forgotten once they are read, and nothing is
//! remembered that the pickle does not come back to.

mod torch;

use std::collections::{BTreeMap, BTreeSet};

use super::{Problem, StoredType};

/// A tensor: a view into a storage, in elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View<'a> {
    pub storage: &'a str,
    pub dtype: StoredType,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// What one pickle holds.
pub(super) struct Contents<'a> {
    /// Tensors in dicts, each called by all keys that lead to it, joined with dots.
    pub tensors: Vec<(String, View<'a>)>,
    /// In words: what is there instead, where there is no tensor.
    pub found: String,
    /// Bytes of an element of each storage; none of a type that is not known.
    pub storages: BTreeMap<&'a str, Option<usize>>,
}

type Id = u32;

#[derive(Debug)]
enum Value<'a> {
    Int(i64),
    Text(&'a str),
    Global(&'a str),
    Tuple(Vec<Id>),
    Dict(Dict<'a>),
    Storage {
        key: &'a str,
        dtype: StoredType,
        /// First element, for views of the old form.
        first: usize,
    },
    Tensor(Box<View<'a>>),
    /// Of this class.
    Object(&'a str),
    /// Anything else: numbers, lists, options that a training script saved too.
    Opaque,
}

impl Value<'_> {
    /// Places beside its own.
    fn holds(&self) -> usize {
        match self {
            Value::Tuple(ids) => ids.len(),
            Value::Dict(dict) => dict.items.len() + dict.others.len(),
            // Its view.
            Value::Tensor(_) => 16,
            _ => 0,
        }
    }
}

/// What may hold tensors, by name.
#[derive(Debug, Default)]
struct Dict<'a> {
    items: Vec<(&'a str, Id)>,
    /// A few keys of other things, for messages.
    others: Vec<&'a str>,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    /// And how many values there were.
    Mark(u32),
    Id(Id),
}

/// The place of everything opaque.
const OPAQUE: Id = 0;

/// A state dict has some 25 for each tensor.
const MAX_VALUES: usize = 1 << 19;
/// On the stack; and places that tuples, dicts and tensors hold.
const MAX_HELD: usize = 1 << 20;
/// Values that the pickle comes back to; later ones are taken for opaque.
const MAX_RECALLED: usize = 1 << 18;
const MAX_OTHERS: usize = 12;

/// Reads the pickle that starts at `at`; with it, where the next one starts.
pub(super) fn contents(bytes: &[u8], at: usize) -> Result<(Contents<'_>, usize), Problem> {
    let mut machine = Machine::new(bytes, at)?;
    let root = machine.run()?;
    let end = machine.at;
    Ok((machine.contents(root), end))
}

/// The texts of a pickled list, and where the next pickle starts.
pub(super) fn texts(bytes: &[u8], at: usize) -> Result<(Vec<&str>, usize), Problem> {
    let mut machine = Machine { keeps_lists: true, ..Machine::new(bytes, at)? };
    let root = machine.run()?;
    let ids = match machine.value(root) {
        Value::Tuple(ids) => ids.as_slice(),
        _ => &[],
    };
    let text = |id: &Id| match *machine.value(*id) {
        Value::Text(text) => Ok(text),
        _ => Err(machine.damaged("a name of a storage that is no text")),
    };
    Ok((ids.iter().map(text).collect::<Result<_, _>>()?, machine.at))
}

/// Where the pickle that starts at `at` ends.
pub(super) fn skip(bytes: &[u8], at: usize) -> Result<usize, Problem> {
    let mut reader = Reader { bytes, at };
    reader.recalled()?;
    Ok(reader.at)
}

/// What follows an operation in the pickle.
enum Argument {
    Nothing,
    Bytes(usize),
    /// A length of so many bytes, then as many bytes as it says.
    Counted(usize),
    Lines(usize),
}

fn argument(operation: u8) -> Option<Argument> {
    Some(match operation {
        b'.'
        | b'('
        | b'0'
        | b'1'
        | b'N'
        | 0x88
        | 0x89
        | b']'
        | 0x8f
        | 0x93
        | b')'
        | 0x85..=0x87
        | b't'
        | b'}'
        | b's'
        | b'u'
        | b'a'
        | b'e'
        | 0x90
        | 0x91
        | 0x94
        | b'Q'
        | b'R'
        | 0x81
        | 0x92
        | b'b' => Argument::Nothing,
        0x80 | b'K' | b'q' | b'h' => Argument::Bytes(1),
        b'M' => Argument::Bytes(2),
        b'J' | b'r' | b'j' => Argument::Bytes(4),
        0x95 | b'G' => Argument::Bytes(8),
        0x8a | 0x8c | b'C' | b'U' => Argument::Counted(1),
        0x8b | b'X' | b'B' | b'T' => Argument::Counted(4),
        0x8d | 0x8e | 0x96 => Argument::Counted(8),
        b'c' => Argument::Lines(2),
        _ => return None,
    })
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn damaged(&self, what: &'static str) -> Problem {
        Problem::Pickle { at: self.at, what }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let bytes = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.ok_or_else(|| self.damaged("it ends too early"))?;
        self.at += count;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8, Problem> {
        self.take(1).map(|bytes| bytes.first().copied().unwrap_or(0))
    }

    /// A little-endian number of up to 8 bytes.
    fn number(&mut self, width: usize) -> Result<u64, Problem> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn counted(&mut self, width: usize) -> Result<&'a [u8], Problem> {
        let count = usize::try_from(self.number(width)?).map_err(|_| self.damaged("it ends too early"))?;
        self.take(count)
    }

    fn line(&mut self) -> Result<&'a str, Problem> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| self.damaged("it ends too early"))?;
        let line = std::str::from_utf8(self.take(end)?).map_err(|_| self.damaged("a name that is not UTF-8"))?;
        self.take(1)?;
        Ok(line)
    }

    /// Reads to the pickle's end and gives the keys of values that it comes back to.
    fn recalled(&mut self) -> Result<BTreeSet<u32>, Problem> {
        let mut keys = BTreeSet::new();
        loop {
            let operation = self.u8()?;
            let Some(argument) = argument(operation) else {
                return Err(self.damaged("an operation that torch.save does not write"));
            };
            match (operation, argument) {
                (b'.', _) => return Ok(keys),
                (b'h' | b'j', Argument::Bytes(width)) => {
                    let key = self.number(width)? as u32;
                    if keys.len() < MAX_RECALLED {
                        keys.insert(key);
                    }
                }
                (_, Argument::Nothing) => {}
                (_, Argument::Bytes(count)) => drop(self.take(count)?),
                (_, Argument::Counted(width)) => drop(self.counted(width)?),
                (_, Argument::Lines(count)) => {
                    for _ in 0..count {
                        self.line()?;
                    }
                }
            }
        }
    }
}

struct Machine<'a> {
    reader: Reader<'a>,
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Slot>,
    recalled: BTreeSet<u32>,
    memo: BTreeMap<u32, Id>,
    /// Values so far that a key was given to, recalled or not.
    memoized: u32,
    /// No value from here on is in the memo.
    pinned: usize,
    /// Places that values hold.
    held: usize,
    /// Lists become tuples.
    keeps_lists: bool,
    storages: BTreeMap<&'a str, Option<usize>>,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Result<Self, Problem> {
        let reader = Reader { bytes, at };
        let recalled = { reader }.recalled()?;
        Ok(Self {
            reader,
            at,
            values: vec![Value::Opaque],
            stack: Vec::new(),
            recalled,
            memo: BTreeMap::new(),
            memoized: 0,
            pinned: 1,
            held: 0,
            keeps_lists: false,
            storages: BTreeMap::new(),
        })
    }

    fn run(&mut self) -> Result<Id, Problem> {
        loop {
            match self.reader.u8()? {
                b'.' => {
                    self.at = self.reader.at;
                    return self.pop();
                }
                // PROTO, FRAME
                0x80 => drop(self.reader.take(1)?),
                0x95 => drop(self.reader.take(8)?),
                b'(' => self.stack_up(Slot::Mark(self.values.len() as u32))?,
                b'0' => drop(self.stack.pop()),
                b'1' => drop(self.pop_mark()?),
                b']' if self.keeps_lists => self.push(Value::Tuple(Vec::new()))?,
                // None, True, False, empty list, empty set
                b'N' | 0x88 | 0x89 | b']' | 0x8f => self.opaque()?,
                b'K' => self.int(1)?,
                b'M' => self.int(2)?,
                b'J' => self.int(4)?,
                0x8a => self.long(1)?,
                0x8b => self.long(4)?,
                b'G' => self.skip(8)?,
                b'X' | b'T' => self.text(4)?,
                0x8c | b'U' => self.text(1)?,
                0x8d => self.text(8)?,
                b'C' => self.bytes(1)?,
                b'B' => self.bytes(4)?,
                0x8e | 0x96 => self.bytes(8)?,
                b'c' => self.global()?,
                0x93 => self.stack_global()?,
                b')' => self.push(Value::Tuple(Vec::new()))?,
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b't' => {
                    let (ids, _) = self.pop_mark()?;
                    self.push(Value::Tuple(ids))?;
                }
                b'}' => self.push(Value::Dict(Dict::default()))?,
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(&[key, value])?;
                }
                b'u' => {
                    let (ids, from) = self.pop_mark()?;
                    if !self.set_items(&ids)? {
                        self.forget(from);
                    }
                }
                // APPEND, APPENDS and ADDITEMS
                b'a' => {
                    let id = self.pop()?;
                    self.append(&[id])?;
                }
                b'e' | 0x90 => {
                    let (ids, from) = self.pop_mark()?;
                    self.append(&ids)?;
                    if !self.keeps_lists {
                        self.forget(from);
                    }
                }
                // FROZENSET
                0x91 => {
                    self.pop_mark()?;
                    self.opaque()?;
                }
                b'q' => self.put(1)?,
                b'r' => self.put(4)?,
                0x94 => self.remember(self.memoized)?,
                b'h' => self.recall(1)?,
                b'j' => self.recall(4)?,
                b'Q' => self.persistent()?,
                b'R' => self.reduce()?,
                // NEWOBJ and NEWOBJ_EX
                operation @ (0x81 | 0x92) => {
                    if operation == 0x92 {
                        self.pop()?;
                    }
                    self.pop()?;
                    let class = self.pop()?;
                    self.object(class)?;
                }
                // BUILD: the state of an object. An OrderedDict's holds its metadata.
                b'b' => drop(self.pop()?),
                _ => return Err(self.damaged("an operation that torch.save does not write")),
            }
        }
    }

    fn damaged(&self, what: &'static str) -> Problem {
        self.reader.damaged(what)
    }

    fn stack_up(&mut self, slot: Slot) -> Result<(), Problem> {
        if self.stack.len() >= MAX_HELD {
            return Err(self.damaged("it holds more values than any state dict"));
        }
        self.stack.push(slot);
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), Problem> {
        self.held += value.holds();
        if self.values.len() >= MAX_VALUES || self.held > MAX_HELD {
            return Err(self.damaged("it holds more values than any state dict"));
        }
        self.stack_up(Slot::Id(self.values.len() as Id))?;
        self.values.push(value);
        Ok(())
    }

    fn opaque(&mut self) -> Result<(), Problem> {
        self.stack_up(Slot::Id(OPAQUE))
    }

    /// What a class or a function makes.
    fn object(&mut self, class: Id) -> Result<(), Problem> {
        match *self.value(class) {
            Value::Global(class) => self.push(Value::Object(class)),
            _ => self.opaque(),
        }
    }

    fn pop(&mut self) -> Result<Id, Problem> {
        match self.stack.pop() {
            Some(Slot::Id(id)) => Ok(id),
            _ => Err(self.damaged("a value is missing")),
        }
    }

    fn top(&self) -> Result<Id, Problem> {
        match self.stack.last() {
            Some(Slot::Id(id)) => Ok(*id),
            _ => Err(self.damaged("a value is missing")),
        }
    }

    /// All values above the last mark, and how many values there were when it was set; the mark goes too.
    fn pop_mark(&mut self) -> Result<(Vec<Id>, usize), Problem> {
        let mark = self.stack.iter().rposition(|slot| matches!(slot, Slot::Mark(_)));
        let mark = mark.ok_or_else(|| self.damaged("a mark is missing"))?;
        let mut from = 0;
        let ids = self.stack.drain(mark..).filter_map(|slot| match slot {
            Slot::Id(id) => Some(id),
            Slot::Mark(values) => {
                from = values as usize;
                None
            }
        });
        let ids = ids.collect();
        Ok((ids, from))
    }

    /// Drops the values from `from` on, which nothing holds any more, unless one of them may come back.
    fn forget(&mut self, from: usize) {
        if from < self.pinned {
            return;
        }
        self.held -= self.values.drain(from..).map(|value| value.holds()).sum::<usize>();
    }

    fn value(&self, id: Id) -> &Value<'a> {
        self.values.get(id as usize).unwrap_or(&Value::Opaque)
    }

    fn int(&mut self, width: usize) -> Result<(), Problem> {
        let number = self.reader.number(width)?;
        // Only the four-byte form has a sign.
        let number = if width == 4 { i64::from(number as u32 as i32) } else { number as i64 };
        self.push(Value::Int(number))
    }

    fn long(&mut self, width: usize) -> Result<(), Problem> {
        let bytes = self.reader.counted(width)?;
        if bytes.len() > 8 {
            return self.opaque();
        }
        let number = bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        let unused = 64 - 8 * bytes.len() as u32;
        let number = if bytes.is_empty() { 0 } else { (number << unused) as i64 >> unused };
        self.push(Value::Int(number))
    }

    fn skip(&mut self, count: usize) -> Result<(), Problem> {
        self.reader.take(count)?;
        self.opaque()
    }

    fn bytes(&mut self, width: usize) -> Result<(), Problem> {
        self.reader.counted(width)?;
        self.opaque()
    }

    /// Names of files need not be UTF-8; names of tensors are.
    fn text(&mut self, width: usize) -> Result<(), Problem> {
        match std::str::from_utf8(self.reader.counted(width)?) {
            Ok(text) => self.push(Value::Text(text)),
            Err(_) => self.opaque(),
        }
    }

    fn global(&mut self) -> Result<(), Problem> {
        self.reader.line()?;
        let name = self.reader.line()?;
        self.push(Value::Global(name))
    }

    fn stack_global(&mut self) -> Result<(), Problem> {
        let (name, _module) = (self.pop()?, self.pop()?);
        match *self.value(name) {
            Value::Text(name) => self.push(Value::Global(name)),
            _ => Err(self.damaged("a global without a name")),
        }
    }

    fn tuple(&mut self, count: usize) -> Result<(), Problem> {
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            ids.push(self.pop()?);
        }
        ids.reverse();
        self.push(Value::Tuple(ids))
    }

    fn append(&mut self, ids: &[Id]) -> Result<(), Problem> {
        let id = self.top()?;
        if !self.keeps_lists {
            return Ok(());
        }
        self.held += ids.len();
        if self.held > MAX_HELD {
            return Err(self.damaged("it holds more values than any state dict"));
        }
        if let Some(Value::Tuple(items)) = self.values.get_mut(id as usize) {
            items.extend(ids);
        }
        Ok(())
    }

    /// Puts keys and values into the dict on top; whether it holds any of them.
    fn set_items(&mut self, ids: &[Id]) -> Result<bool, Problem> {
        let id = self.top()? as usize;
        let Some(Value::Dict(dict)) = self.values.get_mut(id) else { return Ok(false) };
        let mut dict = std::mem::take(dict);
        let before = (dict.items.len(), dict.others.len());
        for &[key, value] in ids.as_chunks().0 {
            let Value::Text(name) = *self.value(key) else { continue };
            match self.value(value) {
                Value::Tensor(_) | Value::Dict(_) => dict.items.push((name, value)),
                _ if dict.others.len() < MAX_OTHERS => dict.others.push(name),
                _ => {}
            }
        }
        let holds = dict.items.len() > before.0;
        self.held += dict.items.len() - before.0 + dict.others.len() - before.1;
        if let Some(place) = self.values.get_mut(id) {
            *place = Value::Dict(dict);
        }
        if self.held > MAX_HELD {
            return Err(self.damaged("it holds more values than any state dict"));
        }
        Ok(holds)
    }

    fn put(&mut self, width: usize) -> Result<(), Problem> {
        let key = self.reader.number(width)? as u32;
        self.remember(key)
    }

    fn remember(&mut self, key: u32) -> Result<(), Problem> {
        let id = self.top()?;
        self.memoized = self.memoized.saturating_add(1);
        if self.recalled.contains(&key) {
            self.memo.insert(key, id);
            self.pinned = self.pinned.max(id as usize + 1);
        }
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Result<(), Problem> {
        let key = self.reader.number(width)? as u32;
        self.stack_up(Slot::Id(self.memo.get(&key).copied().unwrap_or(OPAQUE)))
    }
}
