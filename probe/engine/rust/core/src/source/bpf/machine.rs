//! The machine itself, as the kernel runs it, for tests.

use super::*;

/// What a program may ask of a packet.
#[derive(Debug, Clone, Copy)]
pub(in crate::source) struct Skb<'a> {
    /// From where the program's offsets count.
    pub data: &'a [u8],
    /// EtherType of what `data` begins with.
    pub protocol: u16,
    pub outgoing: bool,
}

const ANCILLARY: u32 = 0xffff_f000;

impl Skb<'_> {
    fn load(&self, size: u16, offset: u32) -> Option<u32> {
        if offset >= ANCILLARY {
            return match offset - ANCILLARY {
                0 => Some(self.protocol.into()),
                4 => Some(if self.outgoing { 4 } else { 0 }),
                other => panic!("unknown ancillary load {other}"),
            };
        }
        let len = match size {
            0x00 => 4,
            0x08 => 2,
            0x10 => 1,
            other => panic!("unknown size {other:#x}"),
        };
        let bytes = self.data.get(offset as usize..)?.get(..len)?;
        Some(
            bytes
                .iter()
                .fold(0, |sum, &byte| sum << 8 | u32::from(byte)),
        )
    }
}

/// Runs a program; a load beyond the packet gives 0. None where the kernel would not have taken the
/// program: it runs over its end, or reads memory that nothing was stored in.
pub(in crate::source) fn run(program: &[Instruction], skb: &Skb<'_>) -> Option<u32> {
    let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
    let mut memory = [None; 16];
    loop {
        let Instruction { code, jt, jf, k } = *program.get(at)?;
        at += 1;
        let operand = if code & BY_X == 0 { k } else { x };
        match code & 7 {
            LD => {
                let loaded = match code & 0xe0 {
                    IMM => Some(k),
                    MEM => Some(memory[k as usize]?),
                    ABS => skb.load(code & 0x18, k),
                    IND => x.checked_add(k).and_then(|at| skb.load(code & 0x18, at)),
                    other => panic!("unknown mode {other:#x}"),
                };
                match loaded {
                    Some(loaded) => a = loaded,
                    None => return Some(0),
                }
            }
            LDX if code & 0xe0 == MEM => x = memory[k as usize]?,
            LDX => x = k,
            ST => memory[k as usize] = Some(a),
            STX => memory[k as usize] = Some(x),
            ALU => {
                a = match code & 0xf0 {
                    0x00 => a.wrapping_add(operand),
                    0x20 => a.wrapping_mul(operand),
                    0x50 => a & operand,
                    0x60 => a << operand,
                    0x70 => a >> operand,
                    0x90 => a % operand,
                    0xa0 => a ^ operand,
                    other => panic!("unknown operation {other:#x}"),
                }
            }
            JMP => {
                at += match code & 0xf0 {
                    0x00 => k as usize,
                    0x10 => usize::from(if a == operand { jt } else { jf }),
                    0x20 => usize::from(if a > operand { jt } else { jf }),
                    0x40 => usize::from(if a & operand != 0 { jt } else { jf }),
                    other => panic!("unknown jump {other:#x}"),
                }
            }
            RET => return Some(if code & RET_A != 0 { a } else { k }),
            _ if code & 0xf8 == TXA => a = x,
            _ => x = a,
        }
    }
}
