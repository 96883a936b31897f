//! Serde for arrays whose length is a const parameter, which serde does not derive, and for numbers that may not be
//! finite, which JSON does not have: `#[serde(with = "crate::lang::recorded")]`.
//!
//! An array is a tuple, as serde's own arrays are. A number is optional, since JSON writes `null` for one that is not
//! finite, which is NaN when it is read again; formats that have infinities keep them.
//!
//! Structs with such a parameter have `default = "Default::default"`, since the derive refuses a plain `default` there.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) fn serialize<T: Recorded, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.write(serializer)
}

pub(crate) fn deserialize<'de, T: Recorded, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::read(deserializer)
}

/// A number, or an array or list of them, in a recording.
pub(crate) trait Recorded: Sized {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

impl Recorded for f32 {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_some(self)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(Self::NAN))
    }
}

impl<T: Recorded, const M: usize> Recorded for [T; M] {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(M)?;
        self.iter().try_for_each(|element| tuple.serialize_element(&Written(element)))?;
        tuple.end()
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(M, ArrayVisitor(PhantomData))
    }
}

impl<T: Recorded> Recorded for Vec<T> {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Written))
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Read<T>>::deserialize(deserializer)?.into_iter().map(|Read(element)| element).collect())
    }
}

/// An element to write.
struct Written<'a, T>(&'a T);

impl<T: Recorded> Serialize for Written<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
}

/// An element that was read.
struct Read<T>(T);

impl<'de, T: Recorded> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::read(deserializer).map(Self)
    }
}

struct ArrayVisitor<T, const M: usize>(PhantomData<T>);

impl<'de, T: Recorded, const M: usize> Visitor<'de> for ArrayVisitor<T, M> {
    type Value = [T; M];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of length {M}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<[T; M], A::Error> {
        let mut read = Vec::with_capacity(M);
        while read.len() < M {
            let Some(Read(element)) = elements.next_element()? else { break };
            read.push(element);
        }
        read.try_into().map_err(|read: Vec<T>| A::Error::invalid_length(read.len(), &self))
    }
}
