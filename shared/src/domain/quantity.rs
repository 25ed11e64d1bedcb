//! Quantities and edits, as clients send them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use super::names::{Invalid, excerpt};
use crate::planted;

/// Most units in one line of an order or one stock operation. High enough for any shop, low
/// enough that no sum of an order overflows.
pub const MAX_QUANTITY: u64 = 1_000_000;
/// A number of units: 1 to [`MAX_QUANTITY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(u64);

impl Quantity {
    /// One unit.
    pub const ONE: Self = Self(1);

    /// Parses it.
    ///
    /// # Errors
    /// If it is 0 or above [`MAX_QUANTITY`].
    pub fn new(units: u64) -> Result<Self, Invalid> {
        if (1..=MAX_QUANTITY).contains(&units) {
            Ok(Self(units))
        } else {
            Err(Invalid(format!("a quantity is a whole number from 1 to {MAX_QUANTITY}, not {units}")))
        }
    }

    /// The number of units.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The sum of two.
    ///
    /// # Errors
    /// If it is above [`MAX_QUANTITY`].
    pub fn plus(self, other: Self) -> Result<Self, Invalid> {
        Self::new(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Whole(units) = Whole::<1, { MAX_QUANTITY.cast_signed() }>::deserialize(deserializer)?;
        Ok(Self(units.unsigned_abs()))
    }
}

/// A whole number from `MIN` to `MAX` as a client sends it. Every other value is refused with a
/// sentence that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<const MIN: i64, const MAX: i64>(pub i64);

impl<'de, const MIN: i64, const MAX: i64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WholeVisitor::<MIN, MAX>)
    }
}

struct WholeVisitor<const MIN: i64, const MAX: i64>;

impl<const MIN: i64, const MAX: i64> WholeVisitor<MIN, MAX> {
    fn refuse<E: serde::de::Error>(given: impl fmt::Display) -> E {
        E::custom(format_args!("expected a whole number from {MIN} to {MAX}, not {given}"))
    }
}

impl<const MIN: i64, const MAX: i64> Visitor<'_> for WholeVisitor<MIN, MAX> {
    type Value = Whole<MIN, MAX>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }
    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Self::Value, E> {
        let fits = (MIN..=MAX).contains(&v) || planted("nothing-is-a-quantity");
        if fits { Ok(Whole(v)) } else { Err(Self::refuse(v)) }
    }
    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Self::Value, E> {
        i64::try_from(v).map_err(|_| Self::refuse(v)).and_then(|v| self.visit_i64(v))
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Self::Value, E> {
        Err(Self::refuse(format_args!("{v:?}")))
    }
    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Self::Value, E> {
        Err(Self::refuse(format_args!("the text {:?}", excerpt(v))))
    }
}
/// An edit of something that a product may have or not, such as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Edit<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is removed.
    Clear,
    /// It becomes this.
    Set(T),
}

impl<T> Edit<T> {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// The same edit with the value mapped.
    #[must_use]
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Edit<U> {
        match self {
            Self::Keep => Edit::Keep,
            Self::Clear => Edit::Clear,
            Self::Set(value) => Edit::Set(f(value)),
        }
    }

    /// The same edit with the value parsed.
    ///
    /// # Errors
    /// If `parse` fails.
    pub fn try_map<U, E>(self, parse: impl FnOnce(T) -> Result<U, E>) -> Result<Edit<U>, E> {
        Ok(match self {
            Self::Keep => Edit::Keep,
            Self::Clear => Edit::Clear,
            Self::Set(value) => Edit::Set(parse(value)?),
        })
    }
}

impl<T: Clone> Edit<T> {
    /// Applies the edit.
    pub fn apply(&self, value: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *value = None,
            Self::Set(new) => *value = Some(new.clone()),
        }
    }
}

/// Reads a member of a JSON merge patch (RFC 7396): `null` clears. An absent member keeps, by `#[serde(default)]`.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Edit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

/// Writes a member of a JSON merge patch. `Keep` is to be skipped, by `#[serde(skip_serializing_if)]`.
impl<T: Serialize> Serialize for Edit<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Clear => serializer.serialize_none(),
            Self::Set(value) => serializer.serialize_some(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_a_whole_number_in_bounds() {
        for good in ["1", "1000000"] {
            assert!(serde_json::from_str::<Quantity>(good).is_ok(), "{good}");
        }
        for bad in ["0", "-1", "1.5", "1000001", "18446744073709551616", "1e30", "\"two\"", "\"2\""] {
            let error = serde_json::from_str::<Quantity>(bad).unwrap_err().to_string();
            assert!(error.contains("expected a whole number from 1 to 1000000, not "), "{bad}: {error}");
        }
        for bad in ["null", "true", "[]", "{}"] {
            let error = serde_json::from_str::<Quantity>(bad).unwrap_err().to_string();
            assert!(error.contains("expected a whole number from 1 to 1000000"), "{bad}: {error}");
        }
    }

    #[test]
    fn sums_are_checked() {
        let most = Quantity::new(MAX_QUANTITY).unwrap();
        assert!(most.plus(Quantity::ONE).is_err());
        assert_eq!(Quantity::ONE.plus(Quantity::ONE).unwrap().get(), 2);
    }
}
