/**
 * The A extension: atomic memory operations (unprivileged specification, chapter "A").
 *
 * The ordering bits aq and rl are operands that nothing depends on: every atomic access is sequentially consistent.
 */

import { type Expr, i64, select } from '../wasm/index.ts';
import { encoding, type Row, rowsOf } from './row.ts';

const row = rowsOf('A');

const WIDTHS = [
  { suffix: 'w', funct3: 2, size: 4 },
  { suffix: 'd', funct3: 3, size: 8 },
] as const;

/** The two widths of one operation; `update` gives the new value of the memory, of which the low bytes count. */
const amo = (name: string, funct5: number, update: (old: Expr, operand: Expr) => Expr): Row[] =>
  WIDTHS.map(({ suffix, funct3, size }) =>
    row(`${name}.${suffix}`, 'A', encoding({ opcode: 0x2f, funct3, funct5 }), (s) =>
      s.amo(size, (old) => {
        const a = s.f.let(old);
        // The word forms compare 32 bits, sign-extended: that keeps the order of signed and of unsigned words alike.
        const b = s.f.let(size === 4 ? i64.extendS(s.rs2w()) : s.rs2());
        return update(a, b);
      }),
    ),
  );

export const a: readonly Row[] = [
  ...WIDTHS.map(({ suffix, funct3, size }) =>
    row(`lr.${suffix}`, 'AL', encoding({ opcode: 0x2f, funct3, funct5: 0x02, rs2: 0 }), (s) => s.loadReserved(size)),
  ),
  ...WIDTHS.map(({ suffix, funct3, size }) =>
    row(`sc.${suffix}`, 'A', encoding({ opcode: 0x2f, funct3, funct5: 0x03 }), (s) => s.storeConditional(size)),
  ),
  ...amo('amoswap', 0x01, (_, b) => b),
  ...amo('amoadd', 0x00, i64.add),
  ...amo('amoxor', 0x04, i64.xor),
  ...amo('amoand', 0x0c, i64.and),
  ...amo('amoor', 0x08, i64.or),
  ...amo('amomin', 0x10, (a, b) => select(i64.ltS(a, b), a, b)),
  ...amo('amomax', 0x14, (a, b) => select(i64.gtS(a, b), a, b)),
  ...amo('amominu', 0x18, (a, b) => select(i64.ltU(a, b), a, b)),
  ...amo('amomaxu', 0x1c, (a, b) => select(i64.gtU(a, b), a, b)),
];
