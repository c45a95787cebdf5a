//! Sets of completion indexes, written as `1,3-5,7`: intervals, because a Job may have a hundred thousand.

use std::fmt;

/// Sorted, disjoint, not adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Indexes of `completions` and above are dropped; what does not parse ends the reading.
    pub fn parse(text: &str, completions: i32) -> Self {
        let mut out = Self::default();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.trim().parse::<i32>(), last.trim().parse::<i32>()) else { break };
            if first < 0 || first > last || first >= completions {
                break;
            }
            out.insert_range(first, last.min(completions - 1));
        }
        out
    }

    pub fn contains(&self, index: i32) -> bool {
        let after = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(after).is_some_and(|(first, _)| *first <= index)
    }

    pub fn insert(&mut self, index: i32) {
        self.insert_range(index, index);
    }

    fn insert_range(&mut self, mut first: i32, mut last: i32) {
        let from = self.0.partition_point(|(_, l)| l.saturating_add(1) < first);
        let to = self.0.partition_point(|(f, _)| *f <= last.saturating_add(1));
        if from < to {
            first = first.min(self.0[from].0);
            last = last.max(self.0[to - 1].1);
        }
        self.0.splice(from..to, [(first, last)]);
    }

    pub fn total(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// How many indexes are in both.
    pub fn overlap(&self, other: &Self) -> i32 {
        let common = |(a, b): &(i32, i32)| -> i32 {
            let shared = other.0.iter().map(|(c, d)| (b.min(d) - a.max(c) + 1).max(0));
            shared.sum()
        };
        self.0.iter().map(common).sum()
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_intervals() {
        for (text, expected) in
            [("", ""), ("1,3-5,7", "1,3-5,7"), ("0-1", "0,1"), ("1,2,3", "1-3"), ("5-20", "5-9"), ("1,x,3", "1")]
        {
            assert_eq!(Indexes::parse(text, 10).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn insertion_in_any_order_gives_the_same_set() {
        let mut indexes = Indexes::default();
        for index in [5, 1, 3, 2, 9, 3, 4] {
            indexes.insert(index);
        }
        assert_eq!((indexes.to_string(), indexes.total()), ("1-5,9".into(), 6));
        assert!(indexes.contains(4) && !indexes.contains(6) && !indexes.contains(0));
        assert_eq!(indexes.overlap(&Indexes::parse("0-2,9", 10)), 3);
    }
}
