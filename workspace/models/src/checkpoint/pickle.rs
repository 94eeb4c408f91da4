//! A pickle machine that knows what `torch.save` writes, builds nothing else, and runs nothing.
//!
//! Every value has a place in one list and refers to others by place, so that neither depth nor cycles cost anything.
//! Texts are slices of the pickle.

mod torch;

use std::collections::BTreeMap;

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

type Id = u32;

#[derive(Debug)]
enum Value<'a> {
    Int(i64),
    Text(&'a str),
    Global(&'a str),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Storage {
        key: &'a str,
        dtype: StoredType,
    },
    Tensor(View<'a>),
    /// Anything else: numbers, lists, options that a training script saved too.
    Opaque,
}

/// A state dict has some 25 for each tensor.
const MAX_VALUES: usize = 1 << 17;

/// All tensors of the state dict in a pickle, by name.
pub(super) fn state_dict(pickle: &[u8]) -> Result<Vec<(&str, View<'_>)>, Problem> {
    let mut machine = Machine { bytes: pickle, at: 0, values: Vec::new(), stack: Vec::new(), memo: BTreeMap::new() };
    let root = machine.run()?;
    machine.tensors(root)
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    /// `None` is a mark.
    stack: Vec<Option<Id>>,
    memo: BTreeMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, Problem> {
        loop {
            match self.u8()? {
                b'.' => return self.pop(),
                // PROTO, FRAME
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'(' => self.stack.push(None),
                b'0' => drop(self.stack.pop()),
                b'1' => drop(self.pop_mark()?),
                // None, True, False, empty list, empty set
                b'N' | 0x88 | 0x89 | b']' | 0x8f => self.push(Value::Opaque)?,
                b'K' => self.int(1)?,
                b'M' => self.int(2)?,
                b'J' => self.int(4)?,
                0x8a => self.long()?,
                b'G' => self.skip(8)?,
                b'X' => self.text(4)?,
                0x8c => self.text(1)?,
                b'C' => self.bytes(1)?,
                b'B' => self.bytes(4)?,
                b'c' => self.global()?,
                0x93 => self.stack_global()?,
                b')' => self.push(Value::Tuple(Vec::new()))?,
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b't' => self.tuple_from_mark()?,
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b's' => self.set_item()?,
                b'u' => self.set_items()?,
                // APPEND, APPENDS and ADDITEMS: lists and sets are opaque
                b'a' => drop(self.pop()?),
                b'e' | 0x90 => drop(self.pop_mark()?),
                b'q' => self.put(1)?,
                b'r' => self.put(4)?,
                0x94 => self.memoize()?,
                b'h' => self.recall(1)?,
                b'j' => self.recall(4)?,
                b'Q' => self.persistent()?,
                b'R' => self.reduce()?,
                // NEWOBJ
                0x81 => {
                    self.pop()?;
                    self.pop()?;
                    self.push(Value::Opaque)?;
                }
                // BUILD: the state of an object. An OrderedDict's holds its metadata.
                b'b' => drop(self.pop()?),
                _ => return Err(self.damaged("an operation that torch.save does not write")),
            }
        }
    }

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

    fn push(&mut self, value: Value<'a>) -> Result<(), Problem> {
        if self.values.len() >= MAX_VALUES {
            return Err(self.damaged("it holds more values than any state dict"));
        }
        self.stack.push(Some(self.values.len() as Id));
        self.values.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, Problem> {
        self.stack.pop().flatten().ok_or_else(|| self.damaged("a value is missing"))
    }

    fn top(&self) -> Result<Id, Problem> {
        self.stack.last().copied().flatten().ok_or_else(|| self.damaged("a value is missing"))
    }

    /// All values above the last mark, and the mark.
    fn pop_mark(&mut self) -> Result<Vec<Id>, Problem> {
        let mark = self.stack.iter().rposition(Option::is_none).ok_or_else(|| self.damaged("a mark is missing"))?;
        let ids = self.stack.drain(mark..).flatten().collect();
        Ok(ids)
    }

    fn value(&self, id: Id) -> &Value<'a> {
        self.values.get(id as usize).unwrap_or(&Value::Opaque)
    }

    fn int(&mut self, width: usize) -> Result<(), Problem> {
        let number = self.number(width)?;
        // Only the four-byte form has a sign.
        let number = if width == 4 { i64::from(number as u32 as i32) } else { number as i64 };
        self.push(Value::Int(number))
    }

    fn long(&mut self) -> Result<(), Problem> {
        let width = usize::from(self.u8()?);
        if width > 8 {
            return self.skip(width);
        }
        let number = self.number(width)?;
        let unused = 64 - 8 * width as u32;
        let number = if width == 0 { 0 } else { (number << unused) as i64 >> unused };
        self.push(Value::Int(number))
    }

    fn skip(&mut self, count: usize) -> Result<(), Problem> {
        self.take(count)?;
        self.push(Value::Opaque)
    }

    fn bytes(&mut self, width: usize) -> Result<(), Problem> {
        let count = self.number(width)?;
        self.skip(count as usize)
    }

    fn text(&mut self, width: usize) -> Result<(), Problem> {
        let count = self.number(width)?;
        let bytes = self.take(count as usize)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.damaged("a text that is not UTF-8"))?;
        self.push(Value::Text(text))
    }

    fn line(&mut self) -> Result<&'a str, Problem> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| self.damaged("it ends too early"))?;
        let line = std::str::from_utf8(self.take(end)?).map_err(|_| self.damaged("a name that is not UTF-8"))?;
        self.take(1)?;
        Ok(line)
    }

    fn global(&mut self) -> Result<(), Problem> {
        self.line()?;
        let name = self.line()?;
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

    fn tuple_from_mark(&mut self) -> Result<(), Problem> {
        let ids = self.pop_mark()?;
        self.push(Value::Tuple(ids))
    }

    fn set_item(&mut self) -> Result<(), Problem> {
        let (value, key) = (self.pop()?, self.pop()?);
        self.extend(&[key, value])
    }

    fn set_items(&mut self) -> Result<(), Problem> {
        let ids = self.pop_mark()?;
        self.extend(&ids)
    }

    fn extend(&mut self, ids: &[Id]) -> Result<(), Problem> {
        let id = self.top()?;
        if let Some(Value::Dict(pairs)) = self.values.get_mut(id as usize) {
            pairs.extend(ids.as_chunks().0.iter().map(|&[key, value]| (key, value)));
        }
        Ok(())
    }

    fn put(&mut self, width: usize) -> Result<(), Problem> {
        let key = self.number(width)? as u32;
        self.memo.insert(key, self.top()?);
        Ok(())
    }

    fn memoize(&mut self) -> Result<(), Problem> {
        self.memo.insert(self.memo.len() as u32, self.top()?);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Result<(), Problem> {
        let key = self.number(width)? as u32;
        let id = self.memo.get(&key).ok_or_else(|| self.damaged("a value that was never remembered"))?;
        self.stack.push(Some(*id));
        Ok(())
    }
}
