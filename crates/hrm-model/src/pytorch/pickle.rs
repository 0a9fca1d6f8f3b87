//! A restricted unpickler: enough of Python's format for what `torch.save` writes of a state dict, and no more.
//!
//! Nothing is ever run: a pickle may only name the globals of [`Global::find`], each of which is a rule of this file.
//! Values live in one list and refer to each other by index, so depth costs no stack, and a value that is used often is
//! there once. Every operation takes at least a byte of the pickle and makes at most one value: memory is bounded by
//! [`MAX_BYTES`] and [`MAX_OPERATIONS`].

use std::{collections::HashMap, fmt::Display, ops::Range};

use burn::tensor::{BoolStore, DType};

/// Bytes of a pickle at most. That of the original's ARC model has 15 KB.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// Operations of a pickle at most; a tensor of a state dict takes about 40.
const MAX_OPERATIONS: usize = 2_000_000;
/// Dictionaries in dictionaries at most, in what tensors are looked for in.
const MAX_DEPTH: usize = 32;
/// Dimensions of a tensor at most.
const MAX_RANK: usize = 8;

type Result<T> = std::result::Result<T, String>;

/// A value, by its place in [`Pickle::values`].
type Id = u32;

/// What a pickle is made of.
#[derive(Debug)]
enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// Where the text stands in the pickle.
    Text(Range<usize>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage),
    Tensor(Tensor),
    /// Something that holds no tensor that we look for: a float, bytes, a scalar of NumPy.
    Other,
}

/// What a pickle may name.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Global {
    OrderedDict,
    /// `(storage, offset, size, stride, ...)`
    RebuildTensor,
    /// `(tensor, ...)`
    RebuildParameter,
    /// `(function, type, arguments, state)`
    RebuildFromType,
    Storage(DType),
    /// A tuple under another name.
    Size,
    /// May stand there, and is not looked into.
    Inert,
}

impl Global {
    /// The allow-list.
    fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
            | ("torch.nn.parameter", "Parameter" | "Buffer") => Self::RebuildParameter,
            ("torch._tensor", "_rebuild_from_type_v2") => Self::RebuildFromType,
            ("torch", "Size") => Self::Size,
            ("torch", "FloatStorage") => Self::Storage(DType::F32),
            ("torch", "DoubleStorage") => Self::Storage(DType::F64),
            ("torch", "HalfStorage") => Self::Storage(DType::F16),
            ("torch", "BFloat16Storage") => Self::Storage(DType::BF16),
            ("torch", "LongStorage") => Self::Storage(DType::I64),
            ("torch", "IntStorage") => Self::Storage(DType::I32),
            ("torch", "ShortStorage") => Self::Storage(DType::I16),
            ("torch", "CharStorage") => Self::Storage(DType::I8),
            ("torch", "ByteStorage") => Self::Storage(DType::U8),
            ("torch", "BoolStorage") => Self::Storage(DType::Bool(BoolStore::Native)),
            // What training scripts keep beside the weights: devices, types, scalars of NumPy, options.
            (
                "torch",
                "Tensor" | "device" | "float32" | "float16" | "bfloat16" | "float64" | "int64" | "int32",
            )
            | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar" | "_reconstruct")
            | ("numpy", "dtype" | "ndarray")
            | ("_codecs", "encode")
            | ("builtins" | "__builtin__", "set" | "frozenset" | "bytearray" | "complex")
            | ("argparse", "Namespace") => Self::Inert,
            _ => return None,
        })
    }
}

/// A run of numbers in the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Storage {
    /// Type of its numbers.
    pub dtype: DType,
    /// Where its name stands in the pickle.
    key: (usize, usize),
    /// How many numbers it holds.
    pub len: usize,
}

/// A view of a storage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub storage: Storage,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

impl Tensor {
    /// How many numbers it holds, and how many of its storage it reaches over; `None` if that overflows.
    fn extent(&self) -> Option<(usize, usize)> {
        let count = self.shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size))?;
        if count == 0 {
            return Some((0, 0));
        }
        let mut last = self.offset;
        for (size, stride) in self.shape.iter().zip(&self.strides) {
            last = last.checked_add((size - 1).checked_mul(*stride)?)?;
        }
        Some((count, last.checked_add(1)?))
    }

    /// How many numbers it holds.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether its numbers stand one after the other, the last dimension innermost.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(size, stride)| {
            let fits = *size == 1 || *stride == expected;
            expected *= size;
            fits
        })
    }
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    values: Vec<Value>,
    root: Id,
    /// Bytes that it took.
    pub length: usize,
}

/// Reads the pickle at the start of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>> {
    let mut machine = Machine {
        bytes,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: 0,
    };
    for _ in 0..MAX_OPERATIONS {
        if let Some(root) = machine.step()? {
            return Ok(Pickle { bytes, values: machine.values, root, length: machine.at });
        }
    }
    Err(format!("its pickle has more than {MAX_OPERATIONS} operations; no state dict needs so many"))
}

impl Pickle<'_> {
    /// Every tensor below dictionaries, by its keys, joined by dots.
    pub fn tensors(&self) -> Result<Vec<(String, &Tensor)>> {
        let Value::Dict(_) = &self.values[self.root as usize] else {
            return Err("it holds no dictionary of tensors (a whole model?); save the state dict: \
                        torch.save(model.state_dict(), file)"
                .to_owned());
        };
        let mut found = Vec::new();
        let mut open = vec![(String::new(), self.root, 0)];
        let (mut visits, mut bytes) = (0, 0);
        while let Some((name, id, depth)) = open.pop() {
            visits += 1;
            if depth > MAX_DEPTH || visits > MAX_OPERATIONS || bytes > MAX_BYTES {
                return Err(format!(
                    "its dictionaries are nested deeper than {MAX_DEPTH}, or hold each other many times over"
                ));
            }
            match &self.values[id as usize] {
                Value::Tensor(tensor) => found.push((name, tensor)),
                Value::Dict(items) => {
                    for (key, value) in items {
                        // Numbers cost nothing; their names would.
                        if !matches!(self.values[*value as usize], Value::Dict(_) | Value::Tensor(_)) {
                            continue;
                        }
                        let key = match &self.values[*key as usize] {
                            Value::Text(range) => self.text(range)?.to_owned(),
                            Value::Int(number) => number.to_string(),
                            _ => {
                                return Err(
                                    "a key of its dictionaries is neither text nor a number".to_owned()
                                );
                            }
                        };
                        let name = if name.is_empty() { key } else { format!("{name}.{key}") };
                        if name.len() > 1024 {
                            return Err("the name of a tensor is longer than 1024 bytes".to_owned());
                        }
                        bytes += name.len();
                        open.push((name, *value, depth + 1));
                        if bytes > MAX_BYTES {
                            break;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// The texts of a list; `None` if it is something else.
    pub fn texts(&self) -> Option<Vec<&str>> {
        let Value::List(items) = &self.values[self.root as usize] else { return None };
        items
            .iter()
            .map(|id| match &self.values[*id as usize] {
                Value::Text(range) => self.text(range).ok(),
                _ => None,
            })
            .collect()
    }

    /// The value of a key of a dictionary, where it is true or false.
    pub fn flag(&self, name: &str) -> Option<bool> {
        let Value::Dict(items) = &self.values[self.root as usize] else { return None };
        items.iter().find_map(|(key, value)| {
            match (&self.values[*key as usize], &self.values[*value as usize]) {
                (Value::Text(range), Value::Bool(flag)) if self.text(range).is_ok_and(|key| key == name) => {
                    Some(*flag)
                }
                _ => None,
            }
        })
    }

    /// Every storage that is named, whether or not a tensor uses it.
    pub fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.values.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some(storage),
            _ => None,
        })
    }

    /// The name of a storage.
    pub fn key(&self, storage: &Storage) -> &str {
        self.text(&(storage.key.0..storage.key.1)).unwrap_or_default()
    }

    fn text(&self, range: &Range<usize>) -> Result<&str> {
        text(self.bytes, range)
    }
}

fn text<'a>(bytes: &'a [u8], range: &Range<usize>) -> Result<&'a str> {
    let text = bytes.get(range.clone()).unwrap_or_default();
    std::str::from_utf8(text).map_err(|_| "a text in its pickle is not UTF-8".to_owned())
}

/// The stack machine that a pickle is a program for.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Items that calls have copied into dictionaries.
    copied: usize,
}

impl Machine<'_> {
    /// Runs one operation; gives the value of the whole at the last one.
    fn step(&mut self) -> Result<Option<Id>> {
        let operation = self.byte()?;
        match operation {
            b'.' => return self.pop().map(Some),
            // PROTO, FRAME: what they say is of no use here.
            0x80 => {
                let protocol = self.byte()?;
                if protocol > 5 {
                    return Err(format!("its pickle has protocol {protocol}; expected up to 5"));
                }
            }
            0x95 => {
                self.take(8)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool(operation == 0x88)),
            b'I' => {
                let line = self.line()?;
                let value = match text(self.bytes, &line)? {
                    "00" => Value::Bool(false),
                    "01" => Value::Bool(true),
                    number => {
                        Value::Int(number.parse().map_err(|_| "a number in its pickle is none".to_owned())?)
                    }
                };
                self.push(value);
            }
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()));
            }
            b'K' => {
                let number = self.byte()?;
                self.push(Value::Int(number.into()));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()));
            }
            0x8a => {
                let length = self.byte()?.into();
                self.long(length)?;
            }
            0x8b => {
                let length = u32::from_le_bytes(self.array()?);
                self.long(length as usize)?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Other);
            }
            b'F' => {
                self.line()?;
                self.push(Value::Other);
            }
            // Text, as BINUNICODE and its kind, and the strings of Python 2.
            b'X' | b'T' | 0x8c | b'U' | 0x8d => {
                let length = self.length(operation)?;
                let range = self.take(length)?;
                self.push(Value::Text(range));
            }
            b'B' | b'C' | 0x8e | 0x96 => {
                let length = self.length(operation)?;
                self.take(length)?;
                self.push(Value::Other);
            }
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items));
            }
            0x85..=0x87 => {
                let count = usize::from(operation - 0x84);
                let items = self.pop_many(count)?;
                self.push(Value::Tuple(items));
            }
            b']' => self.push(Value::List(Vec::new())),
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.extend(items)?;
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(Vec::new()));
                self.set(items)?;
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.set(items)?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set(items)?;
            }
            // Sets.
            0x8f => self.push(Value::Other),
            0x90 => {
                self.pop_mark()?;
                self.top()?;
            }
            0x91 => {
                self.pop_mark()?;
                self.push(Value::Other);
            }
            b'q' => {
                let index = self.byte()?;
                self.remember(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.remember(index)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let index = self.byte()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let names = self.pop_many(2)?;
                match (&self.values[names[0] as usize], &self.values[names[1] as usize]) {
                    (Value::Text(module), Value::Text(name)) => self.global(module.clone(), name.clone())?,
                    _ => return Err("its pickle names a global by something that is no text".to_owned()),
                }
            }
            // REDUCE, NEWOBJ, NEWOBJ_EX.
            b'R' | 0x81 => {
                let call = self.pop_many(2)?;
                self.call(call[0], call[1])?;
            }
            0x92 => {
                let call = self.pop_many(3)?;
                self.call(call[0], call[1])?;
            }
            // BUILD: attributes of a dictionary or of a parameter, such as the `_metadata` of a state dict.
            b'b' => {
                self.pop()?;
                let target = self.top()?;
                if !matches!(self.values[target as usize], Value::Dict(_) | Value::Tensor(_) | Value::Other) {
                    return Err("its pickle sets attributes of something that has none".to_owned());
                }
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Value::Storage(storage));
            }
            _ => {
                return Err(format!(
                    "its pickle has the operation 0x{operation:02x} at byte {}, which torch.save does not write",
                    self.at - 1
                ));
            }
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<Range<usize>> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("its pickle ends in the middle")?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let range = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[range]);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// How long the text or the bytes of an operation are.
    fn length(&mut self, operation: u8) -> Result<usize> {
        match operation {
            b'U' | b'C' | 0x8c => Ok(self.byte()?.into()),
            0x8d | 0x8e | 0x96 => usize::try_from(u64::from_le_bytes(self.array()?))
                .map_err(|_| "its pickle ends in the middle".to_owned()),
            _ => Ok(u32::from_le_bytes(self.array()?) as usize),
        }
    }

    /// The rest of a line.
    fn line(&mut self) -> Result<Range<usize>> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or("its pickle ends in the middle")?;
        let range = self.take(length)?;
        self.at += 1;
        Ok(range)
    }

    /// A number of any length, least byte first, in two's complement. None that counts is larger than 8 bytes.
    fn long(&mut self, length: usize) -> Result<()> {
        let range = self.take(length)?;
        let bytes = &self.bytes[range];
        let value = match bytes.last() {
            None => Value::Int(0),
            Some(last) if length <= 8 => {
                let mut number = [if last & 0x80 == 0 { 0 } else { 0xff }; 8];
                number[..length].copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(number))
            }
            Some(_) => Value::Other,
        };
        self.push(value);
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
    }

    /// The lowest place of the stack that may be taken away: that of the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id> {
        self.pop_many(1).map(|items| items[0])
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>> {
        match self.stack.len().checked_sub(count).filter(|start| *start >= self.floor()) {
            Some(start) => Ok(self.stack.split_off(start)),
            None => Err("its pickle takes more from the stack than is there".to_owned()),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or("its pickle lacks a mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&self) -> Result<Id> {
        let top = (self.stack.len() > self.floor()).then(|| self.stack.last().copied()).flatten();
        top.ok_or_else(|| "its pickle takes more from the stack than is there".to_owned())
    }

    fn extend(&mut self, new: Vec<Id>) -> Result<()> {
        let list = self.top()?;
        match &mut self.values[list as usize] {
            Value::List(items) => items.extend(new),
            Value::Other => {}
            _ => return Err("its pickle appends to something that is no list".to_owned()),
        }
        Ok(())
    }

    fn set(&mut self, new: Vec<Id>) -> Result<()> {
        let dict = self.top()?;
        let pairs = new.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err("its pickle has a key without a value".to_owned());
        }
        match &mut self.values[dict as usize] {
            Value::Dict(items) => items.extend(pairs.map(|pair| (pair[0], pair[1]))),
            Value::Other => {}
            _ => return Err("its pickle sets items of something that is no dictionary".to_owned()),
        }
        Ok(())
    }

    fn remember(&mut self, index: u32) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<()> {
        let id = *self.memo.get(&index).ok_or("its pickle recalls what it never kept")?;
        self.stack.push(id);
        Ok(())
    }

    fn global(&mut self, module: Range<usize>, name: Range<usize>) -> Result<()> {
        let (module, name) = (text(self.bytes, &module)?, text(self.bytes, &name)?);
        let global = Global::find(module, name).ok_or_else(|| {
            let named: String = format!("{module}.{name}").chars().take(100).collect();
            format!(
                "it asks for `{named}`, which weights do not need, so it is not read any further; save the weights \
                 alone: torch.save(model.state_dict(), file)"
            )
        })?;
        self.push(Value::Global(global));
        Ok(())
    }

    fn tuple(&self, id: Id, what: impl Display) -> Result<&[Id]> {
        match &self.values[id as usize] {
            Value::Tuple(items) => Ok(items),
            _ => Err(format!("{what} is no tuple")),
        }
    }

    /// What a call of a function of the allow-list gives.
    fn call(&mut self, function: Id, arguments: Id) -> Result<()> {
        let global = match &self.values[function as usize] {
            Value::Global(global) => *global,
            // What an inert global gave.
            Value::Other => Global::Inert,
            _ => return Err("its pickle calls something that is no function".to_owned()),
        };
        let arguments = self.tuple(arguments, "what a function of its pickle is called with")?.to_vec();
        let value = self.apply(global, &arguments)?;
        match value {
            Ok(value) => self.push(value),
            Err(id) => self.stack.push(id),
        }
        Ok(())
    }

    /// A new value, or one that is there already.
    fn apply(&mut self, global: Global, arguments: &[Id]) -> Result<std::result::Result<Value, Id>> {
        Ok(match (global, arguments) {
            (Global::OrderedDict, []) => Ok(Value::Dict(Vec::new())),
            (Global::OrderedDict, [pairs]) => Ok(Value::Dict(self.pairs(*pairs)?)),
            (Global::RebuildTensor, [storage, offset, shape, strides, ..]) => {
                Ok(Value::Tensor(self.tensor(*storage, *offset, *shape, *strides)?))
            }
            (Global::RebuildParameter, [tensor, ..]) => match &self.values[*tensor as usize] {
                Value::Tensor(_) => Err(*tensor),
                _ => return Err("a parameter in its pickle is no tensor".to_owned()),
            },
            (Global::RebuildFromType, [function, _, arguments, ..]) => {
                let inner = match &self.values[*function as usize] {
                    Value::Global(global) if *global != Global::RebuildFromType => *global,
                    _ => return Err("a tensor in its pickle is made by no function".to_owned()),
                };
                let arguments = self.tuple(*arguments, "what a tensor in its pickle is made of")?.to_vec();
                self.apply(inner, &arguments)?
            }
            (Global::Size, [items]) => Err(*items),
            (Global::Inert, _) => Ok(Value::Other),
            _ => {
                return Err(
                    "its pickle calls a function of PyTorch with other arguments than it has".to_owned()
                );
            }
        })
    }

    fn pairs(&mut self, id: Id) -> Result<Vec<(Id, Id)>> {
        let error = || "an OrderedDict in its pickle is not made of pairs".to_owned();
        let Value::List(items) = &self.values[id as usize] else { return Err(error()) };
        // One short operation copies a whole list.
        self.copied += items.len();
        if self.copied > MAX_OPERATIONS {
            return Err(format!("its dictionaries have more than {MAX_OPERATIONS} items"));
        }
        items
            .iter()
            .map(|item| match &self.values[*item as usize] {
                Value::Tuple(pair) | Value::List(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
                _ => Err(error()),
            })
            .collect()
    }

    fn size(&self, id: Id, what: &str) -> Result<usize> {
        match &self.values[id as usize] {
            Value::Int(number) => usize::try_from(*number)
                .map_err(|_| format!("{what} of a tensor is {number}; expected at least 0")),
            _ => Err(format!("{what} of a tensor is no whole number")),
        }
    }

    /// `('storage', type, key, location, length)`, and in files of old versions a part of it.
    fn storage(&self, id: Id) -> Result<Storage> {
        let error = |what: &str| format!("a storage in its pickle {what}");
        let parts = self.tuple(id, "what names a storage in its pickle")?;
        let [kind, dtype, key, _location, len, rest @ ..] = parts else {
            return Err(error("is not told by five values"));
        };
        let is_storage = matches!(&self.values[*kind as usize], Value::Text(range) if &self.bytes[range.clone()] == b"storage");
        let dtype = match &self.values[*dtype as usize] {
            Value::Global(Global::Storage(dtype)) => *dtype,
            _ => return Err(error("has a type of numbers that is not known here")),
        };
        let Value::Text(key) = &self.values[*key as usize] else { return Err(error("has no name")) };
        text(self.bytes, key)?;
        if !is_storage {
            return Err(error("is something else"));
        }
        if rest.iter().any(|id| !matches!(self.values[*id as usize], Value::None)) {
            return Err(error("is a part of another one; save the file again with a newer PyTorch"));
        }
        Ok(Storage { dtype, key: (key.start, key.end), len: self.size(*len, "the storage")? })
    }

    fn tensor(&self, storage: Id, offset: Id, shape: Id, strides: Id) -> Result<Tensor> {
        let Value::Storage(storage) = &self.values[storage as usize] else {
            return Err("a tensor in its pickle has no storage".to_owned());
        };
        let sizes = |id: Id, what: &str| -> Result<Vec<usize>> {
            let items = self.tuple(id, format_args!("{what} of a tensor"))?;
            if items.len() > MAX_RANK {
                return Err(format!("a tensor has {} dimensions; expected up to {MAX_RANK}", items.len()));
            }
            items.iter().map(|item| self.size(*item, what)).collect()
        };
        let tensor = Tensor {
            storage: *storage,
            offset: self.size(offset, "the offset")?,
            shape: sizes(shape, "the shape")?,
            strides: sizes(strides, "the strides")?,
        };
        if tensor.shape.len() != tensor.strides.len() {
            return Err("a tensor has another number of strides than of sizes".to_owned());
        }
        match tensor.extent() {
            Some((_, reach)) if reach <= storage.len => Ok(tensor),
            extent => Err(format!(
                "a tensor of shape {:?} with strides {:?} from number {} on reaches {} its storage of {} numbers",
                tensor.shape,
                tensor.strides,
                tensor.offset,
                extent.map_or_else(
                    || "far beyond".to_owned(),
                    |(_, reach)| format!("to number {reach}, beyond")
                ),
                storage.len
            )),
        }
    }
}
