/**
 * A program that rewrites its own code all the time, without `fence.i`. Braid sees such stores at once (I2), so every way of
 * running it gives the same registers.
 *
 * The code is a run of halfwords that are harmless however they are read: `c.addi`, `c.add`, and first halves of `addi x10`
 * and `auipc x10`, which take whatever follows as their second half. (The interpreter joins some of these pairs.) Stores of one to eight bytes go to random places in it, aligned or not, from
 * outside and from the code itself (`sd` and `c.sd` in it store x12 near x14). It lies across a page boundary.
 */

import { Assembler } from './assembler.ts';
import { finish } from './fragments.ts';
import type { Random } from './random.ts';

const AREA = 0x8001_0f80;
const HALVES = 128;

/** First halves of `addi x10, ...` and `auipc x10, ...`. */
const LONG = [0x0513, 0x0517];
const C_ADD = 0x9002;
/** `c.sd x12, offset(x14)`. */
const compressedStore = (offset: number) => 0xe310 | (((offset >> 3) & 7) << 10) | (((offset >> 6) & 3) << 5);
const compressedAdd = (rd: number, imm: number) => 0x0001 | (rd << 7) | ((imm & 31) << 2);

/** `rounds` rounds of stores and one call each. */
export function modifyingProgram(random: Random, rounds: number): Uint8Array {
  const harmless = () => {
    const kind = random.below(10);
    if (kind < 4) return random.pick(LONG);
    if (kind < 6) return C_ADD | (random.pick([10, 11, 13]) << 7) | (random.pick([10, 11, 13]) << 2);
    return compressedAdd(random.pick([10, 11, 13]), random.between(1, 31));
  };
  const any = () => (random.chance(0.01) ? compressedStore(8 * random.below(16)) : harmless());
  const a = new Assembler(0x8000_0000);
  for (let round = 0; round < rounds; round++) {
    for (let n = random.below(3); n > 0; n--) {
      const name = random.pick(['sh', 'sh', 'sh', 'sw', 'sd']);
      const size = { sh: 2, sw: 4, sd: 8 }[name]!;
      let value = 0n;
      for (let i = 0; i < size / 2; i++) value |= BigInt(any()) << BigInt(16 * i);
      a.li(5, AREA + 2 * random.below(HALVES - size / 2 + 1));
      a.li(6, value);
      a.op(name, { rs1: 5, rs2: 6 });
    }
    // What the code itself stores, and where.
    let own = 0n;
    for (let i = 0; i < 4; i++) own |= BigInt(harmless()) << BigInt(16 * i);
    a.li(12, own);
    a.li(14, AREA + 2 * random.below(HALVES - 4 - 60));
    a.li(7, AREA + 2 * random.below(HALVES));
    a.op('jalr', { rd: 1, rs1: 7 });
    // What every call gave counts to the end.
    for (const rs2 of [10, 11, 13]) {
      a.op('slli', { rd: 21, rs1: 20, imm: 5 });
      a.op('sub', { rd: 20, rs1: 21, rs2: 20 });
      a.op('add', { rd: 20, rs1: 20, rs2 });
    }
  }
  finish(a);
  a.org(AREA);
  for (let i = 0; i < HALVES; i++) a.half(any());
  // The last first half takes the nop behind it.
  a.half(1);
  a.half(1);
  a.half(0x8082);
  return a.bytes();
}
