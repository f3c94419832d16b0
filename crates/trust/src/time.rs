//! Times as people and standards write them: RFC 3339, UTC, whole seconds (`2026-11-24T21:07:26Z`).

use caii_model::Timestamp;

const DAY_SECONDS: u64 = 86_400;
/// 9999-12-31T23:59:59Z: years have four digits.
const SECONDS_MAX: u64 = 253_402_300_799;

/// Writes a time; parts of a second are dropped, and what is beyond the year 9999 is its last second.
pub fn format_time(time: Timestamp) -> String {
    let seconds = time.unix_seconds().min(SECONDS_MAX);
    let (days, rest) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
    // Days to a date of the Gregorian calendar, counted in eras of 400 years that begin on a first of March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

/// Reads a time that [`format_time`] could have written, and no other form.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| {
        bytes.get(from..to)?.iter().try_fold(0u64, |number, digit| match digit {
            b'0'..=b'9' => Some(number * 10 + u64::from(digit - b'0')),
            _ => None,
        })
    };
    let [year, month, day] = [number(0, 4)?, number(5, 7)?, number(8, 10)?];
    let [hour, minute, second] = [number(11, 13)?, number(14, 16)?, number(17, 19)?];
    if year < 1970 || !(1..=12).contains(&month) {
        return None;
    }
    let shifted_year = year - u64::from(month <= 2);
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    let time = Timestamp((days * DAY_SECONDS + hour * 3_600 + minute * 60 + second) * 1_000);
    // A 31st of June, a 25th hour or another separator gives another text.
    (format_time(time) == text).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_says() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_795_554_446, "2026-11-24T21:07:26Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (SECONDS_MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(format_time(Timestamp(seconds * 1_000 + 999)), text);
            assert_eq!(parse_time(text), Some(Timestamp(seconds * 1_000)), "{text}");
        }
        assert_eq!(format_time(Timestamp(u64::MAX)), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "",
            "2026-11-24",
            "2026-11-24T21:07:26",
            "2026-11-24T21:07:26.0Z",
            "2026-11-24T21:07:26+00:00",
            "2026-11-24t21:07:26Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-06-31T00:00:00Z",
            "2026-06-00T00:00:00Z",
            "2026-06-01T24:00:00Z",
            "2026-06-01T00:60:00Z",
            "2026-06-01T00:00:60Z",
            "1969-12-31T23:59:59Z",
            "2026-11-24T21:07:26Zx",
        ] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }
}
