import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, expand, lengthOf, operands, rows } from './index.ts';
import { disassemble } from './print.ts';

const at = (name: string) => rows.find((row) => row.name === name)!;

test('rows have names of their own, fixed opcodes and no match outside their mask', () => {
  assert.equal(new Set(rows.map((row) => row.name)).size, rows.length);
  for (const row of rows) {
    assert.equal(row.mask & 0x7f, 0x7f, row.name);
    assert.equal(row.match & 3, 3, row.name);
    assert.equal((row.match & ~row.mask) >>> 0, 0, row.name);
  }
});

test('rows overlap only where one is nested in the other', () => {
  const nested: string[] = [];
  for (const outer of rows) {
    for (const inner of rows) {
      if (outer === inner || ((outer.match ^ inner.match) & outer.mask & inner.mask) !== 0) continue;
      const both = (outer.mask & inner.mask) >>> 0;
      assert.ok(
        outer.mask !== inner.mask && (both === outer.mask || both === inner.mask),
        `${outer.name}, ${inner.name}`,
      );
      if (both === outer.mask) nested.push(`${inner.name} in ${outer.name}`);
    }
  }
  assert.deepEqual(nested.sort(), ['braid.hint in slti', 'fence.tso in fence', 'pause in fence']);
});

test('every row decodes to itself, with all free bits clear and with all set', () => {
  for (const row of rows) {
    // With rd = x0 too, `slti` is another row's.
    assert.equal(decode(row.match), row.name === 'slti' ? at('braid.hint') : row, row.name);
    assert.equal(decode(row.match | ~row.mask), row, row.name);
    assert.equal(decode((row.match | ~row.mask) >>> 0), row, `${row.name}, unsigned`);
  }
});

test('all zeros, all ones and compressed instructions are not decoded', () => {
  for (const bits of [0, 0xffffffff, -1, 0x8082, 0x0001]) assert.equal(decode(bits), undefined);
});

test('immediates are signed, upper immediates shifted, shift amounts and CSR immediates not signed', () => {
  const imm = (name: string, bits: number) => {
    assert.equal(decode(bits)?.name, name);
    return operands(at(name), bits).imm;
  };
  assert.equal(imm('addi', 0xff010113), -16);
  assert.equal(imm('addi', 0x7ff10113), 2047);
  assert.equal(imm('sd', 0xfe113c23), -8);
  assert.equal(imm('beq', 0xfe000ee3), -4);
  assert.equal(imm('beq', 0x7e000fe3), 4094);
  assert.equal(imm('jal', 0x800000ef), -(2 ** 20));
  assert.equal(imm('jal', 0x7ffff0ef), 2 ** 20 - 2);
  assert.equal(imm('lui', 0x80000537), -(2 ** 31));
  assert.equal(imm('lui', 0x7ffff537), 0x7ffff000);
  assert.equal(imm('srai', 0x43f55513), 63);
  assert.equal(imm('sraiw', 0x41f5551b), 31);
  assert.equal(imm('csrrwi', 0x300fd073), 31);
});

test('fields that a format does not have are 0', () => {
  const store = 0xfe113c23; // sd ra,-8(sp)
  assert.deepEqual(operands(at('sd'), store), { rd: 0, rs1: 2, rs2: 1, rs3: 0, imm: -8, csr: 0, rm: 0 });
  const csr = 0x300fd573; // csrrwi a0,mstatus,31
  assert.deepEqual(operands(at('csrrwi'), csr), { rd: 10, rs1: 0, rs2: 0, rs3: 0, imm: 31, csr: 0x300, rm: 0 });
});

test('only what has no effect but rd is pure', () => {
  for (const row of rows) {
    const effects = ['L', 'S', 'B', 'J', 'A', 'AL', 'CSR', 'CSRI', 'N', 'F2', 'CB', 'FL', 'FS'].includes(row.format);
    if (effects || row.name === 'jalr' || row.name === 'braid.hint') assert.equal(row.pure, false, row.name);
    else if (row.extension !== 'F' && row.extension !== 'D') assert.equal(row.pure, true, row.name);
  }
});

test('compressed instructions: every expansion decodes, what is reserved has none', () => {
  for (let bits = 0; bits < 65536; bits++) {
    if (lengthOf(bits) === 4) assert.equal(expand(bits), 0);
    else if (expand(bits) !== 0) assert.ok(decode(expand(bits)), bits.toString(16));
  }
  // All zeros, c.addi4spn with 0, c.addiw and loads to x0, c.lui and c.addi16sp with 0, c.jr x0, RV32's and Zcb's
  // encodings.
  for (const bits of [0x0000, 0x0004, 0x2005, 0x4002, 0x6002, 0x6501, 0x6101, 0x8002, 0x8000, 0x9c41, 0x9c75]) {
    assert.equal(expand(bits), 0, bits.toString(16));
  }
  // HINTs: c.nop with a value, c.addi with 0, c.li, c.lui, c.mv and c.add to x0, shifts by 0.
  for (const bits of [0x0001, 0x0005, 0x0501, 0x4015, 0x6005, 0x802a, 0x902a, 0x0502, 0x8101, 0x8501]) {
    assert.equal(expand(bits), 0x00000013, bits.toString(16));
  }
});

test('the disassembler, with and without aliases', () => {
  const both: [number, string, string][] = [
    [0x00000013, 'addi zero,zero,0', 'nop'],
    [0x00a00513, 'addi a0,zero,10', 'li a0,10'],
    [0x00058513, 'addi a0,a1,0', 'mv a0,a1'],
    [0xfff5c513, 'xori a0,a1,-1', 'not a0,a1'],
    [0x40b00533, 'sub a0,zero,a1', 'neg a0,a1'],
    [0x0015b513, 'sltiu a0,a1,1', 'seqz a0,a1'],
    [0x00050463, 'beq a0,zero,0x80000008', 'beqz a0,0x80000008'],
    [0xff1ff06f, 'jal zero,0x7ffffff0', 'j 0x7ffffff0'],
    [0x00008067, 'jalr zero,0(ra)', 'ret'],
    [0x8082, 'jalr zero,0(ra)', 'ret'],
    [0x852e, 'add a0,zero,a1', 'mv a0,a1'],
    [0x14202573, 'csrrs a0,scause,zero', 'csrr a0,scause'],
    [0x18051073, 'csrrw zero,satp,a0', 'csrw satp,a0'],
    [0x12000073, 'sfence.vma zero,zero', 'sfence.vma'],
    [0x0ff0000f, 'fence iorw,iorw', 'fence'],
    [0x0100000f, 'pause', 'pause'],
    [0x06b6262f, 'amoadd.w.aqrl a2,a1,(a2)', 'amoadd.w.aqrl a2,a1,(a2)'],
    [0xd2058553, 'fcvt.d.w fa0,a1', 'fcvt.d.w fa0,a1'],
    [0xd205f553, 'fcvt.d.w fa0,a1,dyn', 'fcvt.d.w fa0,a1,dyn'],
    [0x22b58553, 'fsgnj.d fa0,fa1,fa1', 'fmv.d fa0,fa1'],
    [0x0ec5d533, 'czero.eqz a0,a1,a2', 'czero.eqz a0,a1,a2'],
    [0x00132013, 'slti zero,t1,1', 'slti zero,t1,1'],
    [0xffffffff, '.4byte 0xffffffff', '.4byte 0xffffffff'],
    [0x0000, '.2byte 0x0000', '.2byte 0x0000'],
  ];
  for (const [bits, canonical, alias] of both) {
    assert.equal(disassemble(bits, 0x80000000n), canonical);
    assert.equal(disassemble(bits, 0x80000000n, { aliases: true }), alias);
  }
  assert.equal(disassemble(0x00050463), 'beq a0,zero,.+8');
  assert.equal(disassemble(0xff1ff06f), 'jal zero,.-16');
});
