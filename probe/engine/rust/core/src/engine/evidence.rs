//! The codes that show what a verdict rests on.

use std::fmt;

/// Most codes that one verdict carries; what comes after them is left out.
const MAX_CODES: usize = 4;

/// A code, or several joined by commas; a number goes with it where one was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Code {
    name: &'static str,
    number: Option<u32>,
}

/// What was seen, in short codes: `reset_by_server`, `http_status_503`. Copied, never allocated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evidence {
    codes: [Code; MAX_CODES],
    count: u8,
}

impl Evidence {
    pub const NONE: Self = Self {
        codes: [Code {
            name: "",
            number: None,
        }; MAX_CODES],
        count: 0,
    };

    /// `codes`: one code, or several joined by commas.
    pub const fn of(codes: &'static str) -> Self {
        Self::NONE.and(codes)
    }

    /// The same, and one code more.
    pub const fn and(self, code: &'static str) -> Self {
        self.push(Code {
            name: code,
            number: None,
        })
    }

    /// The same, and a code that ends with a number.
    pub const fn and_number(self, code: &'static str, number: u32) -> Self {
        self.push(Code {
            name: code,
            number: Some(number),
        })
    }

    const fn push(mut self, code: Code) -> Self {
        if (self.count as usize) < MAX_CODES {
            self.codes[self.count as usize] = code;
            self.count += 1;
        }
        self
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The codes joined by commas, as the record holds them.
impl fmt::Display for Evidence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, code) in self.codes[..usize::from(self.count)].iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(out, "{comma}{}", code.name)?;
            if let Some(number) = code.number {
                write!(out, "_{number}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_numbers_are_joined_as_the_record_holds_them() {
        let evidence = Evidence::of("request,answered").and_number("http_status", 503);
        assert_eq!(evidence.to_string(), "request,answered,http_status_503");
        assert_eq!(Evidence::NONE.to_string(), "");
    }

    #[test]
    fn what_exceeds_the_bound_is_left_out() {
        let many = (0..10).fold(Evidence::NONE, |evidence, number| {
            evidence.and_number("code", number)
        });
        assert_eq!(many.to_string(), "code_0,code_1,code_2,code_3");
    }
}
