//! Programs of the classic Berkeley Packet Filter, and an assembler for them.
//!
//! The machine has an accumulator A, an index X and sixteen words of memory, and jumps forward only
//! (Documentation/networking/filter.rst of the kernel). A load beyond the packet ends a program with 0.

/// One instruction, as `struct sock_filter` lays it out.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    /// Instructions to skip where the condition holds, and where it does not.
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// Most instructions that the kernel takes (BPF_MAXINSNS).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// How much a load takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
}

/// What an operation of the accumulator takes beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alu {
    Add = 0x00,
    Mul = 0x20,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Mod = 0x90,
    Xor = 0xa0,
}

/// What a branch asks of the accumulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal = 0x10,
    Greater = 0x20,
    AnyBit = 0x40,
}

pub(super) const LD: u16 = 0x00;
pub(super) const LDX: u16 = 0x01;
pub(super) const ST: u16 = 0x02;
pub(super) const STX: u16 = 0x03;
pub(super) const ALU: u16 = 0x04;
pub(super) const JMP: u16 = 0x05;
pub(super) const RET: u16 = 0x06;
pub(super) const MISC: u16 = 0x07;
pub(super) const IMM: u16 = 0x00;
pub(super) const ABS: u16 = 0x20;
pub(super) const IND: u16 = 0x40;
pub(super) const MEM: u16 = 0x60;
/// The second operand is X instead of the constant.
pub(super) const BY_X: u16 = 0x08;
/// `ret` gives A instead of the constant.
pub(super) const RET_A: u16 = 0x10;
pub(super) const TXA: u16 = 0x80;

/// A place in a program that may be jumped to, from before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Where a branch leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Next,
    Label(Label),
}

impl From<Label> for To {
    fn from(label: Label) -> Self {
        Self::Label(label)
    }
}

#[derive(Debug, Clone, Copy)]
enum Item {
    Plain(Instruction),
    Place(Label),
    Goto(Label),
    /// With an unconditional jump of its own for each way that is too far for eight bits.
    Branch(u16, u32, [Way; 2]),
}

#[derive(Debug, Clone, Copy)]
struct Way {
    to: To,
    far: bool,
}

/// Writes a program from its first instruction to its last.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    items: Vec<Item>,
    labels: usize,
}

impl Assembler {
    /// A label that is yet to be placed.
    pub fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels - 1)
    }

    /// Places a label before the next instruction.
    pub fn place(&mut self, label: Label) {
        self.items.push(Item::Place(label));
    }

    fn plain(&mut self, code: u16, k: u32) {
        self.items.push(Item::Plain(Instruction {
            code,
            jt: 0,
            jf: 0,
            k,
        }));
    }

    /// A = the packet's bytes at `offset`.
    pub fn load_at(&mut self, size: Size, offset: u32) {
        self.plain(LD | ABS | size as u16, offset);
    }

    /// A = the packet's bytes at X + `offset`.
    pub fn load(&mut self, size: Size, offset: u32) {
        self.plain(LD | IND | size as u16, offset);
    }

    pub fn load_constant(&mut self, value: u32) {
        self.plain(LD | IMM, value);
    }

    pub fn load_memory(&mut self, word: u32) {
        self.plain(LD | MEM, word);
    }

    pub fn store(&mut self, word: u32) {
        self.plain(ST, word);
    }

    /// X = memory.
    pub fn load_x_memory(&mut self, word: u32) {
        self.plain(LDX | MEM, word);
    }

    pub fn load_x_constant(&mut self, value: u32) {
        self.plain(LDX | IMM, value);
    }

    pub fn store_x(&mut self, word: u32) {
        self.plain(STX, word);
    }

    /// X = A.
    pub fn tax(&mut self) {
        self.plain(MISC, 0);
    }

    /// A = X.
    pub fn txa(&mut self) {
        self.plain(MISC | TXA, 0);
    }

    pub fn alu(&mut self, operation: Alu, constant: u32) {
        self.plain(ALU | operation as u16, constant);
    }

    pub fn alu_x(&mut self, operation: Alu) {
        self.plain(ALU | BY_X | operation as u16, 0);
    }

    pub fn give(&mut self, value: u32) {
        self.plain(RET, value);
    }

    pub fn give_a(&mut self) {
        self.plain(RET | RET_A, 0);
    }

    pub fn goto(&mut self, label: Label) {
        self.items.push(Item::Goto(label));
    }

    pub fn branch(&mut self, test: Test, constant: u32, yes: impl Into<To>, no: impl Into<To>) {
        self.branch_on(JMP | test as u16, constant, [yes.into(), no.into()]);
    }

    pub fn branch_x(&mut self, test: Test, yes: impl Into<To>, no: impl Into<To>) {
        self.branch_on(JMP | BY_X | test as u16, 0, [yes.into(), no.into()]);
    }

    fn branch_on(&mut self, code: u16, k: u32, ways: [To; 2]) {
        let ways = ways.map(|to| Way { to, far: false });
        self.items.push(Item::Branch(code, k, ways));
    }

    /// Goes where the table says for the value of A; else to the next instruction.
    pub fn switch(&mut self, cases: &[(u32, Label)]) {
        for &(value, label) in cases {
            self.branch(Test::Equal, value, label, To::Next);
        }
    }

    /// The program. None if it is too long, or a label lies behind a jump to it.
    pub fn finish(mut self) -> Option<Vec<Instruction>> {
        loop {
            let (places, len) = self.places();
            if len > MAX_INSTRUCTIONS {
                return None;
            }
            // Each round makes at least one way a far one, so this ends.
            if !self.widen(&places) {
                return self.lower(&places);
            }
        }
    }

    /// The address of each label, and the length of the program.
    fn places(&self) -> (Vec<usize>, usize) {
        let mut places = vec![0; self.labels];
        let mut address = 0;
        for item in &self.items {
            if let Item::Place(label) = item {
                places[label.0] = address;
            }
            address += item.len();
        }
        (places, address)
    }

    /// Makes the ways that are too far for eight bits far ones; returns whether there were any.
    fn widen(&mut self, places: &[usize]) -> bool {
        let mut address = 0;
        let mut widened = false;
        for item in &mut self.items {
            let behind = address + 1;
            address += item.len();
            let Item::Branch(_, _, ways) = item else {
                continue;
            };
            for way in ways {
                if let To::Label(label) = way.to
                    && !way.far
                    && places[label.0].saturating_sub(behind) > usize::from(u8::MAX)
                {
                    way.far = true;
                    widened = true;
                }
            }
        }
        widened
    }

    fn lower(&self, places: &[usize]) -> Option<Vec<Instruction>> {
        let mut program = Vec::new();
        for item in &self.items {
            match *item {
                Item::Place(_) => {}
                Item::Plain(instruction) => program.push(instruction),
                Item::Goto(label) => program.push(jump(places[label.0], program.len())?),
                Item::Branch(code, k, ways) => branch(code, k, ways, places, &mut program)?,
            }
        }
        Some(program)
    }
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Place(_) => 0,
            Self::Plain(_) | Self::Goto(_) => 1,
            Self::Branch(_, _, ways) => 1 + ways.iter().filter(|way| way.far).count(),
        }
    }
}

/// The jump to `place` from the instruction at `address`.
fn jump(place: usize, address: usize) -> Option<Instruction> {
    let k = place.checked_sub(address + 1)?;
    Some(Instruction {
        code: JMP,
        jt: 0,
        jf: 0,
        k: k as u32,
    })
}

fn branch(
    code: u16,
    k: u32,
    ways: [Way; 2],
    places: &[usize],
    program: &mut Vec<Instruction>,
) -> Option<()> {
    let behind = program.len() + 1;
    let mut jumps = Vec::new();
    let far = ways.iter().filter(|way| way.far).count();
    let mut skips = [0; 2];
    for (way, skip) in ways.iter().zip(&mut skips) {
        *skip = match way.to {
            To::Next => far,
            To::Label(label) if way.far => {
                jumps.push(jump(places[label.0], behind + jumps.len())?);
                jumps.len() - 1
            }
            To::Label(label) => places[label.0].checked_sub(behind)?,
        };
    }
    let [jt, jf] = skips.map(u8::try_from);
    program.push(Instruction {
        code,
        jt: jt.ok()?,
        jf: jf.ok()?,
        k,
    });
    program.append(&mut jumps);
    Some(())
}

/// A program that gives what `second` gives where `first` takes the packet, else 0. None if a
/// constant is out of place, or the two are too long together.
pub(super) fn both(first: &[Instruction], second: &[Instruction]) -> Option<Vec<Instruction>> {
    if first.len() + second.len() > MAX_INSTRUCTIONS {
        return None;
    }
    let mut program = Vec::with_capacity(first.len() + second.len());
    for (index, &instruction) in first.iter().enumerate() {
        program.push(match instruction.code {
            RET if instruction.k != 0 => jump(first.len(), index)?,
            // Only a compiler of another kind would return what it computed.
            code if code == RET | RET_A => return None,
            _ => instruction,
        });
    }
    program.extend_from_slice(second);
    Some(program)
}

#[cfg(test)]
pub(super) mod machine;
#[cfg(test)]
mod tests {
    use super::machine::{Skb, run};
    use super::*;

    fn skb(data: &[u8]) -> Skb<'_> {
        Skb {
            data,
            protocol: 0,
            outgoing: false,
        }
    }

    /// Gives 1 where the first byte is `k`, else 2, with `between` instructions before either.
    fn far_apart(between: usize) -> Vec<Instruction> {
        let mut program = Assembler::default();
        let (yes, no) = (program.label(), program.label());
        program.load_at(Size::Byte, 0);
        program.branch(Test::Equal, 7, yes, no);
        (0..between).for_each(|_| program.load_constant(9));
        program.place(no);
        program.give(2);
        (0..between).for_each(|_| program.load_constant(9));
        program.place(yes);
        program.give(1);
        program.finish().expect("it is short enough")
    }

    #[test]
    fn a_branch_finds_its_way_however_far() {
        for between in [0, 100, 127, 128, 254, 255, 256, 300, 2000] {
            let program = far_apart(between);
            assert_eq!(run(&program, &skb(&[7])), Some(1), "{between}");
            assert_eq!(run(&program, &skb(&[8])), Some(2), "{between}");
        }
    }

    #[test]
    fn a_program_that_the_kernel_would_not_take_is_none() {
        let mut long = Assembler::default();
        (0..MAX_INSTRUCTIONS).for_each(|_| long.load_constant(1));
        long.give(1);
        assert_eq!(long.finish(), None);
        let mut backward = Assembler::default();
        let label = backward.label();
        backward.place(label);
        backward.load_constant(1);
        backward.goto(label);
        assert_eq!(backward.finish(), None);
    }

    #[test]
    fn of_two_programs_both_have_to_take_a_packet() {
        let of = |byte: u32, at: u32| {
            let mut program = Assembler::default();
            let (yes, no) = (program.label(), program.label());
            program.load_at(Size::Byte, at);
            program.branch(Test::Equal, byte, yes, no);
            program.place(no);
            program.give(0);
            program.place(yes);
            program.give(byte);
            program.finish().expect("it is short enough")
        };
        let both = both(&of(3, 0), &of(4, 1)).expect("they are short enough");
        for (data, given) in [([3, 4], 4), ([3, 5], 0), ([2, 4], 0)] {
            assert_eq!(run(&both, &skb(&data)), Some(given), "{data:?}");
        }
    }
}
