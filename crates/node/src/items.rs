//! How records form items: the same for devices that run them and for the pool that checks them.

use caii_model::Scope;
use zeroize::Zeroizing;

/// What one run of a program sees.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) records: u32,
}

/// Splits a task's input into items. Records are lines, each ended by a line feed.
pub(crate) fn split(input: &[u8], scope: Scope, records: u32) -> Result<Vec<Item>, String> {
    let lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
    if lines.len() != records as usize || input.last() != Some(&b'\n') {
        return Err(format!("the input has {} lines, the lease says {records} records", lines.len()));
    }
    Ok(match scope {
        Scope::Task => vec![Item { bytes: input.to_vec().into(), records }],
        Scope::Item { records: 1 } => {
            lines.iter().map(|line| Item { bytes: line[..line.len() - 1].to_vec().into(), records: 1 }).collect()
        }
        Scope::Item { records } => {
            let groups = lines.chunks(records.max(1) as usize);
            groups.map(|group| Item { bytes: group.concat().into(), records: group.len() as u32 }).collect()
        }
    })
}

/// The lines of the item at this place, as they stand in the input.
pub(crate) fn lines_of(input: &[u8], scope: Scope, place: u32) -> Option<Vec<u8>> {
    let Scope::Item { records } = scope else { return (place == 0).then(|| input.to_vec()) };
    let each = records.max(1) as usize;
    let lines = input.split_inclusive(|byte| *byte == b'\n').skip(place as usize * each).take(each);
    let lines = lines.collect::<Vec<_>>().concat();
    (!lines.is_empty()).then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_items_lines_are_what_it_is_split_from() {
        let input = b"a\nbb\n\nccc\n";
        for each in 1..=4 {
            let scope = Scope::Item { records: each };
            let items = split(input, scope, 4).unwrap();
            let lines: Vec<Vec<u8>> =
                (0..items.len() as u32).map(|place| lines_of(input, scope, place).unwrap()).collect();
            assert_eq!(lines.concat(), input, "{each}");
            assert_eq!(lines_of(input, scope, items.len() as u32), None, "{each}");
            for (item, lines) in items.iter().zip(&lines) {
                let again = split(lines, scope, item.records).unwrap();
                assert_eq!(again.len(), 1);
                assert_eq!(again[0], *item);
            }
        }
        assert_eq!(lines_of(input, Scope::Task, 0), Some(input.to_vec()));
        assert_eq!(lines_of(input, Scope::Task, 1), None);
    }
}
