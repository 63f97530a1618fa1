/** The M extension: multiplication and division (unprivileged specification, chapter "M"). */

import { i32, i64, select } from '../wasm/index.ts';
import { encoding, type Row, rowsOf, type Semantics } from './row.ts';

const row = rowsOf('M', { pure: true, hot: true });
const op = (funct3: number) => encoding({ opcode: 0x33, funct3, funct7: 1 });
const op32 = (funct3: number) => encoding({ opcode: 0x3b, funct3, funct7: 1 });

/** The high 64 bits of the unsigned product, from four 32-bit products (wasm has no wide multiply). */
function highUnsigned(s: Semantics) {
  const { f } = s;
  const low = (v: ReturnType<typeof f.let>) => i64.and(v, 0xffffffffn);
  const high = (v: ReturnType<typeof f.let>) => i64.shrU(v, 32);
  const a = f.let(s.rs1());
  const b = f.let(s.rs2());
  const cross = f.let(i64.add(i64.mul(high(a), low(b)), i64.shrU(i64.mul(low(a), low(b)), 32)));
  const other = f.let(i64.add(i64.mul(low(a), high(b)), low(cross)));
  const product = i64.add(i64.add(i64.mul(high(a), high(b)), high(cross)), high(other));
  return { a, b, product };
}

export const m: readonly Row[] = [
  row('mul', 'R', op(0), (s) => s.rd(i64.mul(s.rs1(), s.rs2()))),
  row('mulh', 'R', op(1), (s) => {
    const { a, b, product } = highUnsigned(s);
    const negatives = i64.add(i64.and(i64.shrS(a, 63), b), i64.and(i64.shrS(b, 63), a));
    s.rd(i64.sub(product, negatives));
  }),
  row('mulhsu', 'R', op(2), (s) => {
    const { a, b, product } = highUnsigned(s);
    s.rd(i64.sub(product, i64.and(i64.shrS(a, 63), b)));
  }),
  row('mulhu', 'R', op(3), (s) => s.rd(highUnsigned(s).product)),
  row('div', 'R', op(4), (s) => {
    const a = s.f.let(s.rs1());
    const b = s.f.let(s.rs2());
    // Division by 0 gives -1; the one overflow (most negative by -1) gives the dividend, as does division by 1.
    s.f.if(
      i64.eqz(b),
      () => s.rd(i64.const(-1)),
      () => {
        const overflow = i32.and(i64.eq(b, -1), i64.eq(a, -(1n << 63n)));
        s.rd(i64.divS(a, select(overflow, i64.const(1), b)));
      },
    );
  }),
  row('divu', 'R', op(5), (s) => {
    const b = s.f.let(s.rs2());
    s.f.if(
      i64.eqz(b),
      () => s.rd(i64.const(-1)),
      () => s.rd(i64.divU(s.rs1(), b)),
    );
  }),
  row('rem', 'R', op(6), (s) => {
    const b = s.f.let(s.rs2());
    // The remainder of the overflowing division is 0 in wasm too.
    s.f.if(
      i64.eqz(b),
      () => s.rd(s.rs1()),
      () => s.rd(i64.remS(s.rs1(), b)),
    );
  }),
  row('remu', 'R', op(7), (s) => {
    const b = s.f.let(s.rs2());
    s.f.if(
      i64.eqz(b),
      () => s.rd(s.rs1()),
      () => s.rd(i64.remU(s.rs1(), b)),
    );
  }),
  row('mulw', 'R', op32(0), (s) => s.rdw(i32.mul(s.rs1w(), s.rs2w()))),
  row('divw', 'R', op32(4), (s) => {
    const a = s.f.let(s.rs1w());
    const b = s.f.let(s.rs2w());
    s.f.if(
      i32.eqz(b),
      () => s.rd(i64.const(-1)),
      () => {
        const overflow = i32.and(i32.eq(b, -1), i32.eq(a, -0x80000000));
        s.rdw(i32.divS(a, select(overflow, i32.const(1), b)));
      },
    );
  }),
  row('divuw', 'R', op32(5), (s) => {
    const b = s.f.let(s.rs2w());
    s.f.if(
      i32.eqz(b),
      () => s.rd(i64.const(-1)),
      () => s.rdw(i32.divU(s.rs1w(), b)),
    );
  }),
  row('remw', 'R', op32(6), (s) => {
    const b = s.f.let(s.rs2w());
    s.f.if(
      i32.eqz(b),
      () => s.rdw(s.rs1w()),
      () => s.rdw(i32.remS(s.rs1w(), b)),
    );
  }),
  row('remuw', 'R', op32(7), (s) => {
    const b = s.f.let(s.rs2w());
    s.f.if(
      i32.eqz(b),
      () => s.rdw(s.rs1w()),
      () => s.rdw(i32.remU(s.rs1w(), b)),
    );
  }),
];
