//! What may stand between `{{` and `}}`.

use serde_json::{Value, json};

use crate::Record;
use crate::words::{DOMAINS, FIRST_NAMES, LAST_NAMES, WORDS};

/// Most digits behind the point, words of a text and entries of a choice.
const MAX_DIGITS: i32 = 12;
const MAX_WORDS: u64 = 1000;
const MAX_CHOICES: usize = 1000;

/// A placeholder, understood and checked.
pub(crate) enum Placeholder {
    Index,
    Uuid,
    Name,
    FirstName,
    LastName,
    Email,
    Int { low: i64, high: i64 },
    Float { low: f64, high: f64, digits: i32 },
    Normal { mean: f64, deviation: f64, digits: i32 },
    Choice { entries: Vec<(String, u64)>, total: u64 },
    Bool { probability: f64 },
    Date { first: i64, last: i64 },
    Words { count: u64 },
}

impl Placeholder {
    pub(crate) fn parse(inside: &str) -> Result<Self, String> {
        let wrong = |reason: &str| format!("{{{{{inside}}}}}: {reason}");
        let trimmed = inside.trim();
        let (name, rest) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
        let args: Vec<&str> = rest.split_whitespace().collect();
        let form = |form: &str| wrong(&format!("it is written {{{{{form}}}}}"));
        let plain = |placeholder: Self| if args.is_empty() { Ok(placeholder) } else { Err(form(name)) };
        match name {
            "index" => plain(Self::Index),
            "uuid" => plain(Self::Uuid),
            "name" => plain(Self::Name),
            "first_name" => plain(Self::FirstName),
            "last_name" => plain(Self::LastName),
            "email" => plain(Self::Email),
            "int" => {
                let (low, high) = two(&args).ok_or_else(|| form("int LOW HIGH"))?;
                if low > high {
                    return Err(wrong("LOW must not exceed HIGH"));
                }
                Ok(Self::Int { low, high })
            }
            "float" => {
                let (low, high, digits) = numbers(&args).ok_or_else(|| form("float LOW HIGH DIGITS"))?;
                check_digits(digits).map_err(|reason| wrong(&reason))?;
                if low > high {
                    return Err(wrong("LOW must not exceed HIGH"));
                }
                Ok(Self::Float { low, high, digits })
            }
            "normal" => {
                let (mean, deviation, digits) = numbers(&args).ok_or_else(|| form("normal MEAN DEVIATION DIGITS"))?;
                check_digits(digits).map_err(|reason| wrong(&reason))?;
                if deviation < 0.0 {
                    return Err(wrong("DEVIATION must not be negative"));
                }
                Ok(Self::Normal { mean, deviation, digits })
            }
            "choice" => Self::parse_choice(rest).map_err(|reason| wrong(&reason)),
            "bool" => {
                let probability = match args.as_slice() {
                    [] => Some(0.5),
                    [probability] => probability.parse().ok(),
                    _ => None,
                };
                let probability =
                    probability.filter(|p| (0.0..=1.0).contains(p)).ok_or_else(|| form("bool PROBABILITY"))?;
                Ok(Self::Bool { probability })
            }
            "date" => {
                let [first, last] = args[..] else { return Err(form("date FIRST LAST")) };
                let day = |text: &str| day_number(text).ok_or_else(|| wrong(&format!("{text:?} is no date")));
                let (first, last) = (day(first)?, day(last)?);
                if first > last {
                    return Err(wrong("FIRST must not be later than LAST"));
                }
                Ok(Self::Date { first, last })
            }
            "words" => {
                let [count] = args[..] else { return Err(form("words COUNT")) };
                let count = count.parse().ok().filter(|count| (1..=MAX_WORDS).contains(count));
                Ok(Self::Words { count: count.ok_or_else(|| wrong(&format!("COUNT is between 1 and {MAX_WORDS}")))? })
            }
            _ => Err(format!(
                "there is no placeholder {name:?}; there are index, uuid, name, first_name, last_name, email, int, \
                 float, normal, choice, bool, date and words"
            )),
        }
    }

    /// `a|b:3`: entries with a weight, 1 where none is given.
    fn parse_choice(text: &str) -> Result<Self, String> {
        let mut entries = Vec::new();
        for entry in text.split('|') {
            let (value, weight) = match entry.rsplit_once(':') {
                Some((value, weight)) => (value, weight.trim().parse().unwrap_or(0)),
                None => (entry, 1),
            };
            if value.trim().is_empty() || weight == 0 || weight > u64::from(u32::MAX) {
                return Err("it is written {{choice A|B|C}} or {{choice A:WEIGHT|B:WEIGHT}}, WEIGHT from 1".to_owned());
            }
            entries.push((value.trim().to_owned(), weight));
        }
        if entries.len() > MAX_CHOICES {
            return Err(format!("it has more than {MAX_CHOICES} entries"));
        }
        let total = entries.iter().map(|(_, weight)| weight).sum();
        Ok(Self::Choice { entries, total })
    }

    pub(crate) fn draw(&self, record: &mut Record) -> Value {
        let random = &mut record.random;
        let mut pick = |list: &[&str]| list[random.below(list.len() as u64) as usize].to_owned();
        match self {
            Self::Index => json!(record.index),
            Self::Name => json!(format!("{} {}", pick(&FIRST_NAMES), pick(&LAST_NAMES))),
            Self::FirstName => json!(pick(&FIRST_NAMES)),
            Self::LastName => json!(pick(&LAST_NAMES)),
            Self::Email => {
                let (first, last, domain) = (pick(&FIRST_NAMES), pick(&LAST_NAMES), pick(&DOMAINS));
                json!(format!("{}.{}@{domain}", first.to_lowercase(), last.to_lowercase()))
            }
            Self::Words { count } => json!((0..*count).map(|_| pick(&WORDS)).collect::<Vec<_>>().join(" ")),
            Self::Uuid => {
                // Version 4, variant 1.
                let high = random.long_bits() & !0xf000 | 0x4000;
                let low = random.long_bits() & !(0b11 << 62) | 0b10 << 62;
                let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0xffff);
                json!(format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff))
            }
            Self::Int { low, high } => {
                let span = high.wrapping_sub(*low).cast_unsigned();
                // A span of all 64-bit numbers has no `span + 1`.
                let offset = if span == u64::MAX { random.long_bits() } else { random.below(span + 1) };
                json!(low.wrapping_add(offset.cast_signed()))
            }
            Self::Float { low, high, digits } => json!(round(low + (high - low) * random.unit(), *digits)),
            Self::Normal { mean, deviation, digits } => json!(round(mean + deviation * random.normal(), *digits)),
            Self::Choice { entries, total } => {
                let mut left = random.below(*total);
                let chosen = entries.iter().find(|(_, weight)| {
                    let hit = left < *weight;
                    left = left.saturating_sub(*weight);
                    hit
                });
                json!(chosen.expect("the number drawn is below the sum of the weights").0)
            }
            Self::Bool { probability } => json!(random.unit() < *probability),
            Self::Date { first, last } => {
                let offset = random.below((last - first + 1).cast_unsigned());
                json!(date_text(first + offset.cast_signed()))
            }
        }
    }
}

fn two(args: &[&str]) -> Option<(i64, i64)> {
    let [low, high] = args else { return None };
    Some((low.parse().ok()?, high.parse().ok()?))
}

fn numbers(args: &[&str]) -> Option<(f64, f64, i32)> {
    let [first, second, digits] = args else { return None };
    let number = |text: &str| text.parse().ok().filter(|number: &f64| number.abs() <= 1e15);
    Some((number(first)?, number(second)?, digits.parse().ok()?))
}

fn check_digits(digits: i32) -> Result<(), String> {
    if (0..=MAX_DIGITS).contains(&digits) { Ok(()) } else { Err(format!("DIGITS is between 0 and {MAX_DIGITS}")) }
}

fn round(value: f64, digits: i32) -> f64 {
    // Through text, because multiplying by a power of ten and back leaves digits behind.
    format!("{value:.*}", digits.unsigned_abs() as usize).parse().expect("a printed number can be read")
}

/// Days since 1970-01-01 of a date such as `2024-02-29` in the years 1 to 9999.
fn day_number(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    // Years that begin in March end with the leap day (Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let number = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    (date_text(number) == format!("{year:04}-{month:02}-{day:02}")).then_some(number)
}

fn date_text(number: i64) -> String {
    let shifted = number + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_days() {
        for (text, number) in [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("2000-02-29", 11_016),
            ("2024-12-31", 20_088),
            ("0001-01-01", -719_162),
        ] {
            assert_eq!(day_number(text), Some(number), "{text}");
            assert_eq!(date_text(number), text);
        }
        for text in ["2023-02-29", "2024-13-01", "2024-00-01", "2024-04-31", "2024-04", "a-b-c", "10000-01-01"] {
            assert_eq!(day_number(text), None, "{text}");
        }
    }
}
