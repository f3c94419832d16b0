//! Programs that are small to say and large to write down: bombs for the compiler, made byte by byte.

const I32: u8 = 0x7f;
const END: u8 = 0x0b;

/// A number as WebAssembly writes it.
fn number(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&number(bytes.len() as u32)[..], bytes].concat()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &sized(content)].concat()
}

fn list(entries: &[Vec<u8>]) -> Vec<u8> {
    [number(entries.len() as u32), entries.concat()].concat()
}

/// A function's body: so many locals of type i32, and these instructions.
fn function(locals: u32, code: &[u8]) -> Vec<u8> {
    let locals = if locals == 0 { vec![0] } else { [&[1][..], &number(locals), &[I32]].concat() };
    sized(&[&locals[..], code, &[END]].concat())
}

/// A program: `_start` is the first of these functions, none of which has parameters or results.
fn program(globals: Option<Vec<u8>>, functions: &[Vec<u8>], rest: &[u8]) -> Vec<u8> {
    let kinds = vec![0; functions.len()];
    let declared = [number(functions.len() as u32), kinds].concat();
    let exports = [b"\x02\x06memory\x02\x00".as_slice(), b"\x06_start\x00\x00"].concat();
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, b"\x01\x60\x00\x00"),
        section(3, &declared),
        section(5, b"\x01\x00\x01"),
        globals.map(|globals| section(6, &globals)).unwrap_or_default(),
        section(7, &exports),
        section(10, &list(functions)),
        rest.to_vec(),
    ]
    .concat()
}

fn alone(locals: u32, code: &[u8]) -> Vec<u8> {
    program(None, &[function(locals, code)], &[])
}

/// Blocks within blocks.
pub(crate) fn nested_blocks(depth: usize) -> Vec<u8> {
    alone(0, &[b"\x02\x40".repeat(depth), vec![END; depth]].concat())
}

/// Branches within branches.
pub(crate) fn nested_ifs(depth: usize) -> Vec<u8> {
    alone(0, &[b"\x41\x00\x04\x40".repeat(depth), vec![END; depth]].concat())
}

/// Many jump tables, each with so many targets.
pub(crate) fn jump_tables(tables: usize, targets: u32) -> Vec<u8> {
    let table =
        [b"\x02\x40\x41\x00\x0e".as_slice(), &number(targets), &vec![0; targets as usize], b"\x00\x0b"].concat();
    alone(0, &table.repeat(tables))
}

/// Loops within loops, and in the innermost one every local is read and written: a compiler that carries each value
/// through each loop has `depth * locals` of them.
pub(crate) fn carried_values(depth: usize, locals: u32) -> Vec<u8> {
    let mut code = b"\x03\x40".repeat(depth);
    for local in 0..locals {
        let local = number(local);
        // local = local + 1
        code.extend([b"\x20".as_slice(), &local, b"\x41\x01\x6a\x21", &local].concat());
    }
    // if local 0: again; at the end of each loop.
    code.extend(b"\x20\x00\x0d\x00\x0b".repeat(depth));
    alone(locals, &code)
}

/// One function with as many locals as are allowed, all of them used.
pub(crate) fn many_locals() -> Vec<u8> {
    let uses = (1..50_000_u32).flat_map(|local| {
        let (before, local) = (number(local - 1), number(local));
        [b"\x20".as_slice(), &before, b"\x41\x03\x6a\x21", &local].concat()
    });
    alone(50_000, &uses.collect::<Vec<_>>())
}

/// Values that all live at once.
pub(crate) fn tall_stack(height: usize) -> Vec<u8> {
    // i32.const 1 and a load that must not be dropped, so that each value exists.
    let push = b"\x41\x00\x28\x02\x00".repeat(height);
    let pop = b"\x6a".repeat(height - 1);
    alone(0, &[push, pop, b"\x1a".to_vec()].concat())
}

/// Arithmetic in a straight line.
pub(crate) fn long_function(steps: usize) -> Vec<u8> {
    // local 0 = local 0 * 3 + local 1, rotated; local 1 likewise.
    let step = b"\x20\x00\x41\x03\x6c\x20\x01\x6a\x21\x00\x20\x01\x20\x00\x77\x21\x01";
    alone(2, &step.repeat(steps))
}

/// Functions that do nothing.
pub(crate) fn many_functions(count: usize) -> Vec<u8> {
    program(None, &vec![function(0, &[]); count], &[])
}

/// A global whose first value is a sum of so many terms.
pub(crate) fn long_constant(terms: usize) -> Vec<u8> {
    let sum = [b"\x01\x7f\x00\x41\x01".as_slice(), &b"\x41\x01\x6a".repeat(terms), &[END]].concat();
    program(Some(sum), &[function(0, &[])], &[])
}

/// Sections that nobody knows.
pub(crate) fn custom_sections(count: usize) -> Vec<u8> {
    program(None, &[function(0, &[])], &section(0, b"\x01x").repeat(count))
}

/// One section that nobody knows, so large that the whole is as large as a program may be.
pub(crate) fn large_custom_section(size: usize) -> Vec<u8> {
    let without = program(None, &[function(0, &[])], &[]);
    // The section's id, and its length in four bytes.
    let content = [&b"\x01x"[..], &vec![0; size - without.len() - 5 - 2]].concat();
    [without, section(0, &content)].concat()
}

/// Pieces of data, each a byte, each of which starts where memory ends less one.
pub(crate) fn many_data(count: usize) -> Vec<u8> {
    let piece = b"\x00\x41\xff\xff\x03\x0b\x01x".to_vec();
    program(None, &[function(0, &[])], &section(11, &list(&vec![piece; count])))
}
