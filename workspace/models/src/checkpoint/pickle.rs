//! A pickle machine that knows what `torch.save` writes, builds nothing else, and runs nothing.
//!
//! Every value has a place in one list and refers to others by place, so that neither depth nor cycles cost anything.
//! Texts are slices of the pickle. What a training script saves beside the weights (histories, names of files, options of
//! any class) costs no more than its bytes: lists, objects and dicts without tensors are not kept, nothing is remembered that
//! the pickle does not come back to, and the places of what nothing holds any more are swept and used again.

mod reader;
mod torch;
mod value;

use std::collections::BTreeMap;

use super::{CLASS_LISTS, MAX_NAME, NoTensor, Problem, StoredType};
use reader::{Keys, Reader};
use value::{Id, OPAQUE, Object, Slot, Value};

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
    /// Lists and objects in dicts that hold tensors, which have no names there; and how many.
    pub unnamed: Vec<(String, u32)>,
    /// What else lies in these dicts, called as the tensors are: a few of each.
    pub others: Vec<NoTensor>,
    /// In words: what is there instead, where there is no tensor.
    pub found: String,
    /// Bytes of an element of each storage; none of a type that is not known.
    pub storages: BTreeMap<&'a str, Option<usize>>,
}

/// Places that are in use, or what they hold, after a sweep. A state dict has some 20 for each tensor.
const MAX_USED: usize = 3 << 18;
/// Fewer are not worth a sweep.
const FIRST_SWEEP: usize = 1 << 16;
const MAX_STACK: usize = 1 << 20;
/// Values that the pickle comes back to.
const MAX_RECALLED: usize = 1 << 19;
const MAX_OTHERS: usize = 12;

/// Reads the pickle that starts at `at`; with it, where the next one starts.
pub(super) fn contents(bytes: &[u8], at: usize) -> Result<(Contents<'_>, usize), Problem> {
    let mut machine = Machine::new(bytes, at)?;
    let root = machine.run()?;
    let end = machine.at;
    Ok((machine.contents(root)?, end))
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

struct Machine<'a> {
    reader: Reader<'a>,
    at: usize,
    values: Vec<Value<'a>>,
    /// Places in `values` to be used again.
    free: Vec<Id>,
    stack: Vec<Slot>,
    recalled: Keys,
    memo: BTreeMap<u32, Id>,
    /// Values so far that a key was given to, recalled or not.
    memoized: u32,
    /// What values hold, in places.
    held: usize,
    /// Places in use, or held, at which the next sweep is due.
    sweep_at: usize,
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
            free: Vec::new(),
            stack: Vec::new(),
            recalled,
            memo: BTreeMap::new(),
            memoized: 0,
            held: 0,
            sweep_at: FIRST_SWEEP,
            keeps_lists: false,
            storages: BTreeMap::new(),
        })
    }

    fn run(&mut self) -> Result<Id, Problem> {
        loop {
            self.make_room()?;
            match self.reader.u8()? {
                b'.' => {
                    self.at = self.reader.at;
                    return self.pop();
                }
                // PROTO, FRAME
                0x80 => drop(self.reader.take(1)?),
                0x95 => drop(self.reader.take(8)?),
                b'(' => self.stack_up(Slot::Mark)?,
                b'0' => drop(self.stack.pop()),
                b'1' => drop(self.pop_mark()?),
                b']' if self.keeps_lists => self.push(Value::Tuple(Vec::new()))?,
                b']' => self.push(Value::List(0))?,
                // None, True, False, empty set
                b'N' | 0x88 | 0x89 | 0x8f => self.opaque()?,
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
                    let ids = self.pop_mark()?;
                    self.push(Value::Tuple(ids))?;
                }
                b'}' => self.push(Value::Dict(Box::default()))?,
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(&[key, value])?;
                }
                b'u' => {
                    let ids = self.pop_mark()?;
                    self.set_items(&ids)?;
                }
                // APPEND, APPENDS and ADDITEMS
                b'a' => {
                    let id = self.pop()?;
                    self.append(&[id])?;
                }
                b'e' | 0x90 => {
                    let ids = self.pop_mark()?;
                    self.append(&ids)?;
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
                b'b' => {
                    let state = self.pop()?;
                    let tensors = self.value(state).tensors();
                    let id = self.top()?;
                    if let Some(Value::Object(object)) = self.values.get_mut(id as usize) {
                        object.tensors = object.tensors.saturating_add(tensors);
                    }
                }
                _ => return Err(self.damaged("an operation that torch.save does not write")),
            }
        }
    }

    fn damaged(&self, what: &'static str) -> Problem {
        self.reader.damaged(what)
    }

    fn stack_up(&mut self, slot: Slot) -> Result<(), Problem> {
        if self.stack.len() >= MAX_STACK {
            return Err(self.too_many());
        }
        self.stack.push(slot);
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), Problem> {
        self.held += value.holds();
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.values.push(Value::Opaque);
                (self.values.len() - 1) as Id
            }
        };
        self.values[id as usize] = value;
        self.stack_up(Slot::Id(id))
    }

    /// Between two operations: all that is needed still is on the stack or in the memo.
    fn make_room(&mut self) -> Result<(), Problem> {
        let used = |machine: &Self| (machine.values.len() - machine.free.len()).max(machine.held);
        if used(self) < self.sweep_at {
            return Ok(());
        }
        self.sweep();
        let used = used(self);
        if used > MAX_USED {
            return Err(self.too_many());
        }
        self.sweep_at = FIRST_SWEEP.max(used + used / 3);
        Ok(())
    }

    /// Frees the places of all values that neither the stack nor the memo leads to.
    fn sweep(&mut self) {
        let mut reached = vec![false; self.values.len()];
        let mut next = Vec::new();
        let on_stack = self.stack.iter().filter_map(|slot| match slot {
            Slot::Id(id) => Some(*id),
            Slot::Mark => None,
        });
        for root in on_stack.chain(self.memo.values().copied()).chain([OPAQUE]) {
            next.push(root);
            while let Some(id) = next.pop() {
                if std::mem::replace(&mut reached[id as usize], true) {
                    continue;
                }
                match &self.values[id as usize] {
                    Value::Tuple(ids) => next.extend(ids),
                    Value::Dict(dict) => next.extend(dict.items.iter().map(|(_, id)| *id)),
                    _ => {}
                }
            }
        }
        self.free.clear();
        for (id, value) in self.values.iter_mut().enumerate().filter(|(id, _)| !reached[*id]) {
            self.held -= std::mem::replace(value, Value::Opaque).holds();
            self.free.push(id as Id);
        }
    }

    fn too_many(&self) -> Problem {
        self.damaged("it holds more values than any state dict")
    }

    fn opaque(&mut self) -> Result<(), Problem> {
        self.stack_up(Slot::Id(OPAQUE))
    }

    /// What a class or a function makes.
    fn object(&mut self, class: Id) -> Result<(), Problem> {
        match *self.value(class) {
            Value::Global(class) if class.len() <= MAX_NAME => self.push(Value::Object(Object { class, tensors: 0 })),
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

    /// All values above the last mark; the mark goes too.
    fn pop_mark(&mut self) -> Result<Vec<Id>, Problem> {
        let mark = self.stack.iter().rposition(|slot| matches!(slot, Slot::Mark));
        let mark = mark.ok_or_else(|| self.damaged("a mark is missing"))?;
        let mut ids = Vec::with_capacity(self.stack.len() - mark);
        ids.extend(self.stack.drain(mark..).filter_map(|slot| match slot {
            Slot::Id(id) => Some(id),
            Slot::Mark => None,
        }));
        Ok(ids)
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
        let tensors = ids.iter().fold(0u32, |sum, id| sum.saturating_add(self.value(*id).reached()));
        match self.values.get_mut(id as usize) {
            Some(Value::List(count)) => *count = count.saturating_add(tensors),
            Some(Value::Tuple(items)) if self.keeps_lists => {
                items.extend(ids);
                self.held += ids.len();
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts keys and values into the dict on top. An object that has items is a dict, of a class of somebody's.
    fn set_items(&mut self, ids: &[Id]) -> Result<(), Problem> {
        let id = self.top()? as usize;
        let Some(place) = self.values.get_mut(id) else { return Ok(()) };
        let before = place.holds();
        let mut dict = match std::mem::take(place) {
            Value::Dict(dict) => dict,
            Value::Object(_) => Box::default(),
            other => {
                *place = other;
                return Ok(());
            }
        };
        for &[key, value] in ids.as_chunks().0 {
            let tensors = self.value(value).tensors();
            dict.tensors = dict.tensors.saturating_add(tensors);
            let Value::Text(name) = *self.value(key) else {
                dict.keyless = dict.keyless.max(tensors);
                continue;
            };
            dict.reached = dict.reached.saturating_add(self.value(value).reached());
            match self.value(value) {
                Value::Tensor(_) => dict.items.push((name, value)),
                Value::Dict(inner) if inner.may_lead_to_tensors() => {
                    dict.lists_classes |= inner.lists_classes;
                    dict.items.push((name, value));
                }
                // A few of them: each of many images may have labels.
                Value::Dict(inner) if inner.lists_classes && dict.listing < MAX_OTHERS => {
                    dict.lists_classes = true;
                    dict.listing += 1;
                    dict.items.push((name, value));
                }
                // One long text may be many keys, and would be copied for each.
                _ if name.len() > MAX_NAME => {}
                _ => {
                    let lists_classes = CLASS_LISTS.contains(&name);
                    dict.lists_classes |= lists_classes;
                    let is_told = || dict.others.iter().any(|(other, _)| *other == name);
                    if dict.others.len() < MAX_OTHERS || lists_classes && !is_told() {
                        let object = if let Value::Object(object) = self.value(value) { Some(*object) } else { None };
                        dict.others.push((name, object));
                    }
                    if tensors > 0 && dict.unnamed.len() < MAX_OTHERS {
                        dict.unnamed.push((name, tensors));
                    }
                }
            }
        }
        let dict = Value::Dict(dict);
        self.held = self.held + dict.holds() - before;
        self.values[id] = dict;
        Ok(())
    }

    fn put(&mut self, width: usize) -> Result<(), Problem> {
        let key = self.reader.number(width)? as u32;
        self.remember(key)
    }

    fn remember(&mut self, key: u32) -> Result<(), Problem> {
        let id = self.top()?;
        self.memoized = self.memoized.saturating_add(1);
        if self.recalled.contains(key as usize) {
            if self.memo.len() >= MAX_RECALLED {
                return Err(self.too_many());
            }
            self.memo.insert(key, id);
            if let Some(Value::Dict(dict)) = self.values.get_mut(id as usize) {
                dict.is_recalled = true;
            }
        }
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Result<(), Problem> {
        let key = self.reader.number(width)? as u32;
        self.stack_up(Slot::Id(self.memo.get(&key).copied().unwrap_or(OPAQUE)))
    }
}
