//! A record on its way from one thread to another: its fields one behind the other.

/// A field's value between a record and the bytes of a row.
pub trait Cell<'a>: Default {
    fn put(&self, row: &mut Vec<u8>);
    /// Takes the value from the front of a row; the default where the row ends.
    fn take(row: &mut &'a [u8]) -> Self;
}

macro_rules! number {
    ($($type:ty),+) => {$(
        impl Cell<'_> for $type {
            #[inline]
            fn put(&self, row: &mut Vec<u8>) {
                row.extend_from_slice(&self.to_ne_bytes());
            }

            #[inline]
            fn take(row: &mut &[u8]) -> Self {
                let Some((bytes, rest)) = row.split_first_chunk() else {
                    return Self::default();
                };
                *row = rest;
                Self::from_ne_bytes(*bytes)
            }
        }
    )+};
}
number!(u8, u16, u32, u64, f32);

impl<'a> Cell<'a> for &'a [u8] {
    fn put(&self, row: &mut Vec<u8>) {
        (self.len() as u32).put(row);
        row.extend_from_slice(self);
    }

    fn take(row: &mut &'a [u8]) -> Self {
        let length = u32::take(row) as usize;
        let (value, rest) = row.split_at_checked(length).unwrap_or_default();
        *row = rest;
        value
    }
}

impl<'a> Cell<'a> for &'a str {
    fn put(&self, row: &mut Vec<u8>) {
        self.as_bytes().put(row);
    }

    fn take(row: &mut &'a [u8]) -> Self {
        str::from_utf8(<&[u8]>::take(row)).unwrap_or_default()
    }
}

impl<'a, T: Cell<'a>> Cell<'a> for Option<T> {
    #[inline]
    fn put(&self, row: &mut Vec<u8>) {
        row.push(self.is_some().into());
        if let Some(value) = self {
            value.put(row);
        }
    }

    #[inline]
    fn take(row: &mut &'a [u8]) -> Self {
        (u8::take(row) == 1).then(|| T::take(row))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::record::Record;

    fn again(record: &Record<'_>) -> (Vec<u8>, String) {
        let mut row = Vec::new();
        record.put(&mut row);
        let text = format!("{:?}", Record::take(&row));
        (row, text)
    }

    #[test]
    fn nothing_is_written_beside_what_there_is() {
        let (_, text) = again(&Record::default());
        assert_eq!(text, format!("{:?}", Record::default()));
    }

    proptest! {
        #[test]
        fn a_row_gives_back_its_record(
            session_id: u64, name: Option<String>, kind: String, histogram: Option<Vec<u8>>,
            code: Option<u16>, confidence: Option<u16>, flags: u8,
        ) {
            let record = Record {
                session_id,
                record_kind: &kind,
                server_name: name.as_deref(),
                rtt_client_histogram: histogram.as_deref(),
                cause_code: code,
                video_confidence: confidence.map(f32::from),
                flags,
                ..Record::default()
            };
            prop_assert_eq!(again(&record).1, format!("{:?}", record));
        }

        #[test]
        fn arbitrary_rows_never_panic(row: Vec<u8>) {
            Record::take(&row);
        }
    }
}
